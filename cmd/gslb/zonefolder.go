package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"meridian/controlplane"
	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// folderServer is the nameserver of a zoneFolder.
type folderServer interface {
	Zone(name fleet.Name) *zone.Zone
	LoadFiles(dir string, files []string) (changed []fleet.Name, err error)
	RemoveZone(name fleet.Name)
	ZoneNames() []fleet.Name
}

// plainServer is the nameserver of gslb serve --zones.
type plainServer struct{ *server.Server }

// ZoneNames lists the zones served.
func (s plainServer) ZoneNames() []fleet.Name {
	var out []fleet.Name
	for z := range s.Plan().Zones() {
		out = append(out, z.Name)
	}
	return out
}

// zoneFolder changes the zones of gslb serve --zones DIR for the admin API: it
// writes NAME.zone back, whole and in canonical form, with the serial raised,
// and takes the zone into use at once. Its methods are safe for concurrent use.
type zoneFolder struct {
	dir    string
	server folderServer

	mu sync.Mutex // held while a zone is changed
}

// file gives the name of a zone's file in the folder.
func (f *zoneFolder) file(name fleet.Name) (string, error) {
	base := strings.TrimSuffix(string(name), ".")
	if name == "." {
		base = "root"
	}
	if strings.ContainsAny(base, "/\\") || strings.HasPrefix(base, ".") {
		return "", fmt.Errorf("%w: %s cannot be the name of a file", controlplane.ErrRefused, name)
	}
	return base + ".zone", nil
}

// ZoneNames lists the zones that are served, in order.
func (f *zoneFolder) ZoneNames() []fleet.Name {
	names := f.server.ZoneNames()
	slices.Sort(names)
	return names
}

// Zone gives a zone as its file has it.
func (f *zoneFolder) Zone(name fleet.Name) (*zone.Zone, string, error) {
	file, err := f.file(name)
	if err != nil {
		return nil, "", err
	}
	z, err := zone.LoadFS(name, os.DirFS(f.dir), file, f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w: %s", controlplane.ErrNoZone, name)
	}
	if err != nil {
		return nil, "", err
	}
	text, err := canonical(z)
	return z, rules.ContentVersion(text), err
}

func canonical(z *zone.Zone) ([]byte, error) {
	var b bytes.Buffer
	if err := z.WriteText(&b); err != nil {
		return nil, fmt.Errorf("zone %s: %w", z.Name, err)
	}
	return b.Bytes(), nil
}

// ZoneInfo describes a zone as it is served.
func (f *zoneFolder) ZoneInfo(name fleet.Name) (controlplane.ZoneInfo, error) {
	info := controlplane.ZoneInfo{Zone: name, Source: "file", State: "ok"}
	z := f.server.Zone(name)
	_, tag, err := f.Zone(name)
	switch {
	case z == nil && err != nil:
		return info, err
	case err != nil:
		info.State = "its file is not usable; the one before is served: " + err.Error()
	case z == nil:
		info.State = "empty"
		return info, nil
	}
	info.ETag, info.Serial, info.Records, info.Signed, info.Warnings = tag, z.Serial, z.Records(), z.Signed, z.Warnings
	return info, nil
}

// look reads a zone that is to be changed; it is nil where there is none.
func (f *zoneFolder) look(name fleet.Name, base string) (*zone.Zone, string, error) {
	cur, tag, err := f.Zone(name)
	if err != nil && !errors.Is(err, controlplane.ErrNoZone) {
		return nil, "", err
	}
	there := err == nil
	switch base {
	case controlplane.AnyBase:
	case controlplane.Absent:
		there = !there
		fallthrough
	case controlplane.Exists:
		if !there {
			return nil, "", fmt.Errorf("%w: its ETag is %q", controlplane.ErrChanged, tag)
		}
	default:
		if base != tag {
			return nil, "", fmt.Errorf("%w: its ETag is %q", controlplane.ErrChanged, tag)
		}
	}
	file, err := f.file(name)
	if err != nil {
		return nil, "", err
	}
	text, err := os.ReadFile(filepath.Join(f.dir, file))
	if err == nil && bytes.Contains(bytes.ToUpper(text), []byte("$INCLUDE")) {
		return nil, "", fmt.Errorf("%w: its file includes others, which writing it back would undo", controlplane.ErrOtherWriter)
	}
	return cur, file, nil
}

// WriteZone edits a zone and writes it back; see controlplane.WriteZone.
func (f *zoneFolder) WriteZone(_ context.Context, name fleet.Name, base string, edit controlplane.Edit) (controlplane.ZoneInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cur, file, err := f.look(name, base)
	if err != nil {
		return controlplane.ZoneInfo{}, err
	}
	next, err := edit(cur)
	if err != nil {
		return controlplane.ZoneInfo{}, err
	}
	if next != cur {
		if err := f.replace(cur, next, file); err != nil {
			return controlplane.ZoneInfo{}, err
		}
	}
	return f.ZoneInfo(name)
}

func (f *zoneFolder) replace(cur, next *zone.Zone, file string) error {
	text, err := canonical(next)
	if err != nil {
		return err
	}
	if cur != nil {
		old, err := canonical(cur)
		if err != nil || bytes.Equal(old, text) {
			return err
		}
		if int32(next.Serial-cur.Serial) <= 0 { // RFC 1982
			if next, err = rules.WithSerial(next, cur.Serial+1); err != nil {
				return fmt.Errorf("%w: %w", controlplane.ErrZone, err)
			}
			if text, err = canonical(next); err != nil {
				return err
			}
		}
	}
	if next, err = zone.Load(next.Name, text, file); err != nil {
		return fmt.Errorf("%w: %w", controlplane.ErrZone, err)
	}
	if err := replaceFile(filepath.Join(f.dir, file), text); err != nil {
		return fmt.Errorf("zone %s is not written back: %w", next.Name, err)
	}
	_, err = f.server.LoadFiles(f.dir, []string{file})
	return err
}

// DeleteZone removes a zone's file and stops serving it.
func (f *zoneFolder) DeleteZone(_ context.Context, name fleet.Name, base string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	cur, file, err := f.look(name, base)
	if err != nil {
		return err
	}
	if cur == nil {
		return fmt.Errorf("%w: %s", controlplane.ErrNoZone, name)
	}
	if err := os.Remove(filepath.Join(f.dir, file)); err != nil {
		return fmt.Errorf("zone %s: %w", name, err)
	}
	_, err = f.server.LoadFiles(f.dir, []string{file})
	if errors.Is(err, server.ErrNoZoneFile) { // it was the last, and is not away by mistake
		f.server.RemoveZone(name)
		return nil
	}
	return err
}

// replaceFile writes beside and renames; the new content is on disk before the
// name points to it. The mode stays.
func replaceFile(path string, data []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	// Not *.zone: a folder that is watched must not serve it.
	t, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	err = errors.Join(err, t.Chmod(mode), t.Sync(), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		_ = os.Remove(t.Name())
	}
	return err
}
