package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"meridian/fleet"
	"meridian/identity"
	"meridian/rules"
)

// Folder keeps data of zones, or live objects, on disk: a file each, named by the hash of the
// zone's name in one of 256 folders, written beside and renamed, with a
// checksum, sealed where there is a fleet key, 0600. Its methods are not for
// concurrent use.
type Folder struct {
	dir     string
	seal    sealer
	as      string // what files are sealed as, before their own name
	object  func(fleet.Name, []byte) fleet.Object
	known   bool // zones is what is in the folder
	zones   *fleet.Zones
	damaged int
}

// NewFolder keeps data in dir, which is made when needed; as says what they
// are, so that one kind is never taken for another.
func NewFolder(dir, as string, id *identity.Identity) *Folder {
	return &Folder{dir: dir, seal: sealer{id}, as: as, object: rules.ZoneObject}
}

// NewLiveFolder is NewFolder for live objects.
func NewLiveFolder(dir, as string, id *identity.Identity) *Folder {
	f := NewFolder(dir, as, id)
	f.object = rules.LiveObject
	return f
}

// durable is up to how many files written at once each is waited for until it
// is on disk. What a crash then takes is told by its checksum, and comes again
// from the control plane.
const durable = 32

func zonePath(name string) string {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:16])
	return filepath.Join(id[:2], id+".zone")
}

// Damaged says how many files could not be read.
func (f *Folder) Damaged() int { return f.damaged }

// Save writes what differs from what is in the folder.
func (f *Folder) Save(z *fleet.Zones) error {
	if !f.known {
		if _, err := f.Load(); err != nil {
			return err
		}
	}
	put, gone := z.Since(f.zones)
	for _, o := range put {
		if err := f.write(o, len(put) <= durable); err != nil {
			f.known = false
			return err
		}
	}
	for _, n := range gone {
		if err := os.Remove(filepath.Join(f.dir, zonePath(string(n)))); err != nil && !errors.Is(err, os.ErrNotExist) {
			f.known = false
			return err
		}
	}
	f.zones = z
	return nil
}

// write keeps one zone: its name on a line, and its content.
func (f *Folder) write(o fleet.Object, durably bool) error {
	file := zonePath(o.Key.ID)
	b, err := f.seal.pack("zone", f.as+"/"+filepath.Base(file), append([]byte(o.Key.ID+"\n"), o.Data...))
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(f.dir, file), b, durably)
}

// Load reads all that is in the folder. What is damaged is removed and counted.
func (f *Folder) Load() (*fleet.Zones, error) {
	var files []string
	err := filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case e.Type().IsRegular():
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var put []fleet.Object
	f.damaged = 0
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(files, 256) {
		g.Go(func() error {
			var mine []fleet.Object
			bad := 0
			for _, path := range part {
				o, err := f.read(path)
				if err == nil {
					mine = append(mine, o)
					continue
				}
				half := strings.Contains(filepath.Base(path), ".new-")
				if half || errors.Is(err, errDamaged) {
					_ = os.Remove(path)
				}
				if !half {
					bad++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			put = append(put, mine...)
			f.damaged += bad
			return nil
		})
	}
	_ = g.Wait() // nothing fails but single files
	var none *fleet.Zones
	f.zones, f.known = none.With(put, nil), true
	return f.zones, nil
}

func (f *Folder) read(path string) (fleet.Object, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return fleet.Object{}, err
	}
	body, err := f.seal.unpack("zone", f.as+"/"+filepath.Base(path), path, b)
	if err != nil {
		return fleet.Object{}, err
	}
	name, data, ok := bytes.Cut(body, []byte("\n"))
	if !ok || filepath.Base(zonePath(string(name))) != filepath.Base(path) {
		return fleet.Object{}, fmt.Errorf("zone: %s is not in its place: %w", path, errDamaged)
	}
	return f.object(fleet.Name(name), data), nil
}
