package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"meridian/controlplane"
	"meridian/fleet"
)

// Store keeps items; controlplane.Store is one.
type Store interface {
	ReadItem(ctx context.Context, kind controlplane.ItemKind, name fleet.Name) (data []byte, version string, err error)
	WriteItems(ctx context.Context, items []controlplane.ItemWrite) error
	ItemNames(ctx context.Context, kind controlplane.ItemKind, prefix string) ([]fleet.Name, error)
	Lock(ctx context.Context, name string) (unlock func(), lost <-chan struct{}, err error)
}

// storage is certmagic's storage on items of the control plane's store, which
// seals them. Its locks are those of the store: a holder that is cut off loses
// them, and what it was about is then done by somebody else.
type storage struct {
	store Store
	mu    sync.Mutex // guards held
	held  map[string]func()
}

var _ certmagic.Storage = (*storage)(nil)

// itemHead begins an item, on a line of its own.
type itemHead struct {
	Modified time.Time `json:"modified"`
}

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	head, err := json.Marshal(itemHead{time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("acme item: %w", err)
	}
	return s.store.WriteItems(ctx, []controlplane.ItemWrite{{Kind: controlplane.ACMEItem, Name: fleet.Name(key),
		Data: append(append(head, '\n'), value...), Expect: controlplane.AnyVersion}})
}

func (s *storage) read(ctx context.Context, key string) (itemHead, []byte, error) {
	var h itemHead
	data, version, err := s.store.ReadItem(ctx, controlplane.ACMEItem, fleet.Name(key))
	if err != nil {
		return h, nil, err
	}
	if version == "" {
		return h, nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	line, value, _ := bytes.Cut(data, []byte("\n"))
	if err := json.Unmarshal(line, &h); err != nil {
		return h, nil, fmt.Errorf("%s: its head is damaged: %w", key, err)
	}
	return h, value, nil
}

// Load implements certmagic.Storage.
func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	_, value, err := s.read(ctx, key)
	return value, err
}

// Delete implements certmagic.Storage.
func (s *storage) Delete(ctx context.Context, key string) error {
	names, err := s.below(ctx, key)
	if err != nil {
		return err
	}
	var items []controlplane.ItemWrite
	for _, n := range append(names, fleet.Name(key)) {
		items = append(items, controlplane.ItemWrite{Kind: controlplane.ACMEItem, Name: n, Expect: controlplane.AnyVersion})
	}
	return s.store.WriteItems(ctx, items)
}

// below lists what lies below a key that is a folder.
func (s *storage) below(ctx context.Context, key string) ([]fleet.Name, error) {
	under := strings.Trim(key, "/")
	if under != "" {
		under += "/"
	}
	return s.store.ItemNames(ctx, controlplane.ACMEItem, under)
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List implements certmagic.Storage.
func (s *storage) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	names, err := s.below(ctx, dir)
	if err != nil {
		return nil, err
	}
	dir = strings.Trim(dir, "/")
	seen := map[string]bool{}
	var out []string
	add := func(key string) {
		if !seen[key] {
			seen[key] = true
			out = append(out, key)
		}
	}
	for _, n := range names {
		rest := strings.TrimPrefix(strings.TrimPrefix(string(n), dir), "/")
		parts := strings.Split(rest, "/")
		if !recursive {
			parts = parts[:1]
		}
		for i := range parts {
			add(path.Join(dir, path.Join(parts[:i+1]...)))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	return out, nil
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	h, value, err := s.read(ctx, key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: h.Modified, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	names, lerr := s.below(ctx, key)
	if lerr != nil {
		return certmagic.KeyInfo{}, lerr
	}
	if len(names) == 0 {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// Lock implements certmagic.Storage.
func (s *storage) Lock(ctx context.Context, name string) error {
	unlock, _, err := s.store.Lock(ctx, "acme/"+name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[name] = unlock
	return nil
}

// Unlock implements certmagic.Storage.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	unlock := s.held[name]
	delete(s.held, name)
	s.mu.Unlock()
	if unlock == nil {
		return fmt.Errorf("lock %s is not held", name)
	}
	unlock()
	return nil
}
