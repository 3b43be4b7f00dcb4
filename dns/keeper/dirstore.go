package keeper

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"meridian/fleet"
	"meridian/identity"
)

// DirStore is a KeyStore in a directory: one file of mode 0600 a zone, sealed
// with the fleet key, replaced as a whole. Several processes may use one
// directory.
type DirStore struct {
	dir string
	id  *identity.Identity
	mu  sync.Mutex
}

// NewDirStore keeps keys in dir, which is made when needed. Its parent
// directory is there.
func NewDirStore(dir string, id *identity.Identity) *DirStore { return &DirStore{dir: dir, id: id} }

const (
	dirMagic  = "meridian keys 1\n"
	dirSuffix = "keys" // after the zone's final dot
	sealedAs  = "keys/"
)

func (d *DirStore) path(zone fleet.Name) string {
	return filepath.Join(d.dir, url.PathEscape(string(zone))+dirSuffix)
}

// Load implements KeyStore.
func (d *DirStore) Load(_ context.Context, zone fleet.Name) (state []byte, version string, err error) {
	b, err := os.ReadFile(d.path(zone))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	state, err = d.open(zone, b)
	return state, versionOf(b), err
}

func (d *DirStore) open(zone fleet.Name, b []byte) ([]byte, error) {
	sealed, ok := bytes.CutPrefix(b, []byte(dirMagic))
	if !ok {
		return nil, fmt.Errorf("%s is damaged or of another version", d.path(zone))
	}
	state, err := d.id.Open(sealed, sealedAs+string(zone))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.path(zone), err)
	}
	return state, nil
}

func versionOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Save implements KeyStore.
func (d *DirStore) Save(_ context.Context, zone fleet.Name, state []byte, version string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(d.dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", d.dir, err)
	}
	have := ""
	switch b, err := os.ReadFile(d.path(zone)); {
	case err == nil:
		have = versionOf(b)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if have != version {
		return ErrConflict
	}
	sealed, err := d.id.Seal(rand.Reader, state, sealedAs+string(zone))
	if err != nil {
		return err
	}
	return replaceFile(d.path(zone), append([]byte(dirMagic), sealed...))
}

// replaceFile writes a file durably: the new content is on disk before the
// name points to it.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	h, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(h.Sync(), h.Close())
}

// Zones implements Lister.
func (d *DirStore) Zones(context.Context) ([]fleet.Name, error) {
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []fleet.Name
	for _, e := range entries {
		escaped, ok := strings.CutSuffix(e.Name(), dirSuffix)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		text, err := url.PathUnescape(escaped)
		if err != nil {
			continue // not ours
		}
		if n, err := fleet.ParseName(text); err == nil && string(n) == text {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}
