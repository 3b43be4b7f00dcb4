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

	"meridian/fleet"
	"meridian/identity"
	"meridian/rules"
)

// Disk keeps one World in a file: written beside and renamed, so that a crash
// leaves the old or the new one, with a checksum, sealed where there is a
// fleet key. The file holds private keys and is 0600.
type Disk struct {
	path string
	id   *identity.Identity // nil: not sealed
}

// NewDisk keeps the World at path; its directory is made when needed.
func NewDisk(path string, id *identity.Identity) *Disk { return &Disk{path, id} }

const (
	plainMagic  = "meridian world 1 plain "
	sealedMagic = "meridian world 1 sealed "
	sealedAs    = "node/world"
)

// Save replaces what is kept.
func (d *Disk) Save(w *fleet.World) error {
	body, err := rules.Encode(w)
	if err != nil {
		return fmt.Errorf("world: %w", err)
	}
	magic := plainMagic
	if d.id != nil {
		magic = sealedMagic
		if body, err = d.id.Seal(rand.Reader, body, sealedAs); err != nil {
			return fmt.Errorf("world: %w", err)
		}
	}
	sum := sha256.Sum256(body)
	head := magic + hex.EncodeToString(sum[:]) + "\n"
	return writeFile(d.path, append([]byte(head), body...))
}

// Load gives what is kept, nil where there is nothing.
func (d *Disk) Load() (*fleet.World, error) {
	b, err := os.ReadFile(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("world: %w", err)
	}
	head, body, _ := bytes.Cut(b, []byte("\n"))
	sum := sha256.Sum256(body)
	want := hex.EncodeToString(sum[:])
	switch string(head) {
	case plainMagic + want:
	case sealedMagic + want:
		if d.id == nil {
			return nil, fmt.Errorf("world: %s is sealed, and no fleet key is given", d.path)
		}
		if body, err = d.id.Open(body, sealedAs); err != nil {
			return nil, fmt.Errorf("world: %s: %w", d.path, err)
		}
	default:
		return nil, fmt.Errorf("world: %s is damaged or of another version", d.path)
	}
	w, err := rules.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("world: %s: %w", d.path, err)
	}
	return w, nil
}

// writeFile replaces a file durably: the new content is on disk before the
// name points to it.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
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
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
