package node

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"meridian/fleet"
	"meridian/identity"
	"meridian/rules"
)

// Disk keeps one World: in a file but for its Zones and live objects, and
// these in a file each in folders beside it. Each file is written beside and renamed, so that a
// crash leaves the old or the new one, with a checksum, sealed where there is a
// fleet key, and only when its content has changed. They hold private keys and
// are 0600. Its methods are not for concurrent use.
type Disk struct {
	path  string
	seal  sealer
	saved *fleet.World // whose file there is; nil: not known
	zones *Folder
	live  *Folder
}

// NewDisk keeps the World at path, its Zones in zones-NAME beside it and its
// live objects in live-NAME; the directories are made when needed.
func NewDisk(path string, id *identity.Identity) *Disk {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	beside := func(what string) string { return filepath.Join(filepath.Dir(path), what+"-"+name) }
	return &Disk{path: path, seal: sealer{id}, zones: NewFolder(beside("zones"), "node/zone", id), live: NewLiveFolder(beside("live"), "node/live", id)}
}

// magic begins every file; what stands for says of what.
func magic(what string, sealed bool) string {
	if sealed {
		return "meridian " + what + " 1 sealed "
	}
	return "meridian " + what + " 1 plain "
}

const worldAs = "node/world"

// errDamaged says that a file does not hold what was written to it.
var errDamaged = errors.New("is damaged or of another version")

// sealer makes and reads the content of files.
type sealer struct{ id *identity.Identity } // nil: not sealed

// pack gives a file's content: a line with a checksum, and the body.
func (d sealer) pack(what, as string, body []byte) ([]byte, error) {
	if d.id != nil {
		var err error
		if body, err = d.id.Seal(rand.Reader, body, as); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	sum := sha256.Sum256(body)
	head := magic(what, d.id != nil) + hex.EncodeToString(sum[:]) + "\n"
	return append([]byte(head), body...), nil
}

// unpack gives the body of a file's content.
func (d sealer) unpack(what, as, path string, b []byte) ([]byte, error) {
	head, body, _ := bytes.Cut(b, []byte("\n"))
	sum := sha256.Sum256(body)
	want := hex.EncodeToString(sum[:])
	switch string(head) {
	case magic(what, false) + want:
		return body, nil
	case magic(what, true) + want:
		if d.id == nil {
			return nil, fmt.Errorf("%s: %s is sealed, and no fleet key is given", what, path)
		}
		body, err := d.id.Open(body, as)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", what, path, err)
		}
		return body, nil
	}
	return nil, fmt.Errorf("%s: %s: %w", what, path, errDamaged)
}

// Save replaces what is kept.
func (d *Disk) Save(w *fleet.World) error {
	if err := d.zones.Save(w.Zones); err != nil {
		return fmt.Errorf("zones: %w", err)
	}
	if err := d.live.Save(w.Live); err != nil {
		return fmt.Errorf("live objects: %w", err)
	}
	if d.saved != nil && d.saved.Snapshot == w.Snapshot && sameObjects(d.saved, w) && sameShifts(d.saved.Shifts, w.Shifts) {
		return nil
	}
	body, err := rules.Encode(w)
	if err != nil {
		return fmt.Errorf("world: %w", err)
	}
	b, err := d.seal.pack("world", worldAs, body)
	if err != nil {
		return err
	}
	d.saved = nil
	if err := writeFile(d.path, b, true); err != nil {
		return err
	}
	d.saved = w
	return nil
}

func sameShifts(a, b []fleet.Shift) bool {
	x, errx := rules.EncodeShifts(a)
	y, erry := rules.EncodeShifts(b)
	return errx == nil && erry == nil && bytes.Equal(x, y)
}

// Load gives what is kept, nil where there is nothing. Zones that are damaged
// are left out; see Damaged.
func (d *Disk) Load() (*fleet.World, error) {
	b, err := os.ReadFile(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("world: %w", err)
	}
	body, err := d.seal.unpack("world", worldAs, d.path, b)
	if err != nil {
		return nil, err
	}
	w, err := rules.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("world: %s: %w", d.path, err)
	}
	if w.Zones, err = d.zones.Load(); err != nil {
		return nil, fmt.Errorf("zones: %w", err)
	}
	if w.Live, err = d.live.Load(); err != nil {
		return nil, fmt.Errorf("live objects: %w", err)
	}
	d.saved = w
	return w, nil
}

// Damaged says how many zones and live objects could not be read.
func (d *Disk) Damaged() int {
	if d == nil {
		return 0
	}
	return d.zones.damaged + d.live.damaged
}

// writeFile replaces a file; durably, the new content is on disk before the
// name points to it.
func writeFile(path string, data []byte, durably bool) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durably {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	if !durably {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
