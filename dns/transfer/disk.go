package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// disk keeps copies of zones, one file each in the folder zones, their journals
// in the folder journals, and of each catalog the last version that could be
// read in the folder catalogs. A copy's time of modification is when its
// primary last confirmed it. With no folder nothing is kept.
type disk struct{ dir string }

func (d disk) make() error {
	if d.dir == "" {
		return nil
	}
	for _, sub := range []string{"zones", "journals", "catalogs"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o700); err != nil {
			return fmt.Errorf("transfers: %w", err)
		}
	}
	return nil
}

// file names the file of a zone. Long names go by their hash.
func (d disk) file(sub string, name fleet.Name) string {
	if d.dir == "" {
		return ""
	}
	base := url.PathEscape(string(name)) + "zone"
	if len(base) > 200 {
		sum := sha256.Sum256([]byte(name))
		base = hex.EncodeToString(sum[:]) + ".zone"
	}
	return filepath.Join(d.dir, sub, base)
}

func (d disk) journal(name fleet.Name) string { return d.file("journals", name) }

// load gives the copy of a zone and when it was last confirmed; nil where
// there is none.
func (d disk) load(name fleet.Name) (*zone.Zone, time.Time, error) { return d.read("zones", name) }

// loadCatalog gives the last version of a catalog that could be read.
func (d disk) loadCatalog(name fleet.Name) (*zone.Zone, error) {
	z, _, err := d.read("catalogs", name)
	return z, err
}

// saveCatalog keeps a version of a catalog that could be read.
func (d disk) saveCatalog(z *zone.Zone) error {
	if path := d.file("catalogs", z.Name); path != "" {
		return writeFile(path, z.Encode())
	}
	return nil
}

func (d disk) read(sub string, name fleet.Name) (*zone.Zone, time.Time, error) {
	path := d.file(sub, name)
	if path == "" {
		return nil, time.Time{}, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("zone %s: %w", name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("zone %s: %w", name, err)
	}
	z, err := zone.Decode(name, data)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("zone %s: the copy on disk: %w", name, err)
	}
	return z, info.ModTime(), nil
}

// save keeps a copy of a zone that was confirmed at that time.
func (d disk) save(z *zone.Zone, confirmed time.Time) error {
	path := d.file("zones", z.Name)
	if path == "" {
		return nil
	}
	if err := writeFile(path, z.Encode()); err != nil {
		return err
	}
	return d.confirm(z.Name, confirmed)
}

// confirm notes when a zone's primary last said that the copy is current.
func (d disk) confirm(name fleet.Name, at time.Time) error {
	path := d.file("zones", name)
	if path == "" {
		return nil
	}
	if err := os.Chtimes(path, at, at); err != nil {
		return fmt.Errorf("zone %s: %w", name, err)
	}
	return nil
}

// remove forgets a zone's copy.
func (d disk) remove(name fleet.Name) error { return d.unlink("zones", name) }

// removeJournal forgets a zone's history.
func (d disk) removeJournal(name fleet.Name) error { return d.unlink("journals", name) }

func (d disk) unlink(sub string, name fleet.Name) error {
	path := d.file(sub, name)
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("zone %s: %w", name, err)
	}
	return nil
}

// writeFile writes a file so that after a crash it is either the old or the
// new one.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it was only a draft
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
