package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"meridian/controlplane"
	"meridian/fleet"
	"meridian/identity"
	"meridian/node"
)

// FileConfig is where a File has what it keeps.
type FileConfig struct {
	Spec     *node.FileSource   // brings the Spec
	Dir      string             // for items; made when needed
	Identity *identity.Identity // seals items; nil: not sealed
	Logger   *slog.Logger
}

// File implements controlplane.Store for a node that takes its configuration
// from a file and is alone: revisions count the contents of the file since the
// start, and items are in a folder. The file is the only one that changes the
// Spec.
type File struct {
	cfg     FileConfig
	folders map[controlplane.ItemKind]*node.Folder

	mu    sync.Mutex // guards what follows
	sets  map[controlplane.ItemKind]*fleet.Zones
	spec  controlplane.Stored // Revision, Doc and Objects
	dirty chan struct{}       // holds one element when something changed
	locks map[string]chan struct{}
}

// ErrFile says that the Spec is not changed here.
var ErrFile = errors.New("the configuration comes from a file; change that")

// NewFile reads the items that there are.
func NewFile(cfg FileConfig) (*File, error) {
	if cfg.Spec == nil || cfg.Dir == "" || cfg.Logger == nil {
		return nil, errors.New("file store: expected a Spec file, a folder and a logger")
	}
	f := &File{cfg: cfg, folders: map[controlplane.ItemKind]*node.Folder{}, sets: map[controlplane.ItemKind]*fleet.Zones{}, dirty: make(chan struct{}, 1), locks: map[string]chan struct{}{}}
	for _, k := range controlplane.ItemKinds() {
		folder := node.NewFolder
		if k == controlplane.LiveItem {
			folder = node.NewLiveFolder
		}
		f.folders[k] = folder(filepath.Join(cfg.Dir, string(k)), "file/"+string(k), cfg.Identity)
		var err error
		if f.sets[k], err = f.folders[k].Load(); err != nil {
			return nil, fmt.Errorf("%s items: %w", k, err)
		}
		if n := f.folders[k].Damaged(); n > 0 {
			cfg.Logger.Error("items on disk are damaged and left out", "kind", string(k), "items", n)
		}
	}
	return f, nil
}

func (f *File) mark() {
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

// Watch implements controlplane.Store.
func (f *File) Watch(ctx context.Context, update func(controlplane.Stored)) error {
	done := make(chan error, 1)
	go func() {
		done <- f.cfg.Spec.Documents(ctx, func(doc []byte, objects []fleet.Object) error {
			f.mu.Lock()
			f.spec.Revision++
			f.spec.Doc, f.spec.Objects = doc, objects
			f.mu.Unlock()
			f.mark()
			return nil
		})
	}()
	for {
		select {
		case err := <-done:
			return err
		case <-f.dirty:
			f.mu.Lock()
			st := f.spec
			(&itemSets{f.sets}).fill(&st)
			f.mu.Unlock()
			update(st)
		}
	}
}

// ReadItem implements controlplane.ItemStore.
func (f *File) ReadItem(_ context.Context, kind controlplane.ItemKind, name fleet.Name) ([]byte, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, _ := f.sets[kind].Get(name)
	return o.Data, o.Version, nil
}

// WriteItems implements controlplane.ItemStore. After a crash between two
// files, what was derived may be newer than the content it was made of; the
// next start derives it again.
func (f *File) WriteItems(_ context.Context, items []controlplane.ItemWrite) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := map[controlplane.ItemKind]*fleet.Zones{}
	for k, z := range f.sets {
		next[k] = z
	}
	for _, it := range items {
		if o, _ := f.sets[it.Kind].Get(it.Name); it.Expect != controlplane.AnyVersion && o.Version != it.Expect {
			return &controlplane.ItemConflictError{Kind: it.Kind, Name: it.Name}
		}
		if it.Data == nil {
			next[it.Kind] = next[it.Kind].With(nil, []fleet.Name{it.Name})
		} else {
			next[it.Kind] = next[it.Kind].With([]fleet.Object{it.Kind.Object(it.Name, it.Data)}, nil)
		}
	}
	for k, z := range next {
		if err := f.folders[k].Save(z); err != nil {
			return fmt.Errorf("%s items: %w", k, err)
		}
	}
	f.sets = next
	f.mark()
	return nil
}

// ItemNames implements controlplane.ItemStore.
func (f *File) ItemNames(_ context.Context, kind controlplane.ItemKind, under string) ([]fleet.Name, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []fleet.Name
	for o := range f.sets[kind].All() {
		if strings.HasPrefix(o.Key.ID, under) {
			out = append(out, fleet.Name(o.Key.ID))
		}
	}
	slices.Sort(out)
	return out, nil
}

// Lock implements controlplane.ItemStore: there is no other process.
func (f *File) Lock(ctx context.Context, name string) (func(), <-chan struct{}, error) {
	f.mu.Lock()
	turn := f.locks[name]
	if turn == nil {
		turn = make(chan struct{}, 1)
		f.locks[name] = turn
	}
	f.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return sync.OnceFunc(func() { <-turn }), nil, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// Lead implements controlplane.ItemStore: there is nobody else.
func (f *File) Lead(ctx context.Context, _ string, lead func(context.Context)) error {
	lead(ctx)
	return nil
}

// Commit is refused.
func (f *File) Commit(context.Context, uint64, controlplane.Change) (uint64, error) {
	return 0, fmt.Errorf("%w: %w", controlplane.ErrRefused, ErrFile)
}

// Content is refused: earlier contents of the file are not kept.
func (f *File) Content(context.Context, uint64) ([]byte, []fleet.Object, error) {
	return nil, nil, fmt.Errorf("%w: %w", controlplane.ErrRefused, ErrFile)
}

// SetShift is refused: shifts are the store's.
func (f *File) SetShift(context.Context, string, *fleet.Shift) error {
	return fmt.Errorf("%w: shifts need a control plane; %w", controlplane.ErrRefused, ErrFile)
}

// PutAcks keeps nothing: nobody is served but this node.
func (f *File) PutAcks(context.Context, []controlplane.Ack) error { return nil }

// Health implements controlplane.Store: it tells of the Spec's file.
func (f *File) Health() controlplane.StoreHealth {
	path, problem := f.cfg.Spec.Problem()
	return controlplane.StoreHealth{Connected: true, LastContact: time.Now(), File: path, Error: problem}
}
