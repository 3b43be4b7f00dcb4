package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// zoneFiles is what is known of the zone files of a folder. Its methods are
// safe for concurrent use.
type zoneFiles struct {
	mu     sync.Mutex
	read   map[string]*loaded         // by name of the zone's file; those that could not be read among them
	users  map[string]map[string]bool // zone files, by the other files that they include or want to
	broken map[string]error           // why zone files are not usable as they are
	failed uint64                     // readings that came to nothing
}

// loaded is what a zone was read from.
type loaded struct {
	parts  []part   // the file first, then those that it includes; none before it was usable
	wants  []string // the included files that the last reading asked for
	broken bool     // the last reading failed; parts are of the last that did not
}

// part is one file as it was when it was read.
type part struct {
	file string
	size int64
	time time.Time
	sum  [sha256.Size]byte
	hot  bool // it was written just before, and could be again without its stamp telling
}

// get gives what is known of a zone file; of one not read yet that is nothing.
func (f *zoneFiles) get(file string) *loaded {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.read[file]; l != nil {
		return l
	}
	return &loaded{}
}

// note keeps what came of reading a zone file; l is nil for one that is gone.
func (f *zoneFiles) note(file string, l *loaded, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read == nil {
		f.read, f.users, f.broken = map[string]*loaded{}, map[string]map[string]bool{}, map[string]error{}
	}
	if old := f.read[file]; old != nil {
		for _, w := range old.wants {
			if delete(f.users[w], file); len(f.users[w]) == 0 {
				delete(f.users, w)
			}
		}
	}
	delete(f.read, file)
	delete(f.broken, file)
	if err != nil {
		f.broken[file] = err
		f.failed++
	}
	if l == nil {
		return
	}
	f.read[file] = l
	for _, w := range l.wants {
		if f.users[w] == nil {
			f.users[w] = map[string]bool{}
		}
		f.users[w][file] = true
	}
}

// count gives how many files are not usable now, and how many readings failed.
func (f *zoneFiles) count() (broken int, failed uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.broken), f.failed
}

// besides lists the known zone files that are not in files, which are in order.
func (f *zoneFiles) besides(files []string) []string {
	f.mu.Lock()
	known := slices.Collect(maps.Keys(f.read))
	f.mu.Unlock()
	return slices.DeleteFunc(known, func(file string) bool {
		_, found := slices.BinarySearch(files, file)
		return found
	})
}

// sameZones gives the known files of the zones that the given ones are of.
func (f *zoneFiles) sameZones(files []string) map[fleet.Name]string {
	fold := func(file string) string { // what names of the same zone have in common
		return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(file, ".zone"), "."))
	}
	wanted := map[string]bool{}
	for _, file := range files {
		wanted[fold(file)] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[fleet.Name]string{}
	for file := range f.read {
		if !wanted[fold(file)] {
			continue
		}
		if name, err := zoneName(file); err == nil {
			out[name] = file
		}
	}
	return out
}

// affected lists the zone files among files and those that include any of them.
func (f *zoneFiles) affected(files []string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, file := range files {
		if isZoneFile(file) {
			out = append(out, file)
		}
		out = slices.AppendSeq(out, maps.Keys(f.users[file]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ReadsFile says whether a zone is read from that file of the folder of
// LoadDir, whole or by $INCLUDE. The file is named as from the folder, by
// slashes.
func (s *Server) ReadsFile(file string) bool {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	return isZoneFile(file) || len(s.files.users[file]) > 0
}

// IncludeFolders lists the folders in which the files lie that zones include,
// as from the folder of LoadDir; "." is that one itself.
func (s *Server) IncludeFolders() []string {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	seen := map[string]bool{}
	for file := range s.files.users {
		if fs.ValidPath(file) {
			seen[path.Dir(file)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// BrokenFiles tells of the zone files that are not usable as they are; the
// zones that were served before of these stay. The errors are in order of file.
func (s *Server) BrokenFiles() []error {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	var out []error
	for _, file := range slices.Sorted(maps.Keys(s.files.broken)) {
		out = append(out, s.files.broken[file])
	}
	return out
}

// there says whether a zone file is in the folder, or may be: what a link
// points to may be away.
func there(dir, file string) bool {
	info, err := os.Lstat(filepath.Join(dir, file))
	return err == nil && !info.IsDir() || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// isZoneFile says whether a file of the folder is a zone's, by its name. What
// begins with a dot is an editor's.
func isZoneFile(name string) bool {
	return strings.HasSuffix(name, ".zone") && !strings.HasPrefix(name, ".") && !strings.Contains(name, "/")
}

func zoneName(file string) (fleet.Name, error) {
	base := strings.TrimSuffix(file, ".zone")
	if base == "root" {
		return ".", nil
	}
	return fleet.ParseName(base)
}

// loadFile reads a zone of which old is known; z is nil where its files have
// the content that they had. With an error, l is what remains known.
func loadFile(dir, file string, old *loaded) (z *zone.Zone, l *loaded, err error) {
	name, err := zoneName(file)
	if err != nil {
		return nil, &loaded{broken: true}, fmt.Errorf("%s: %w", filepath.Join(dir, file), err)
	}
	if parts := readAgain(dir, old.parts); parts != nil {
		return nil, &loaded{parts: parts, wants: included(parts)}, nil
	}
	fsys := &notingFS{dir: dir}
	if z, err = zone.LoadFS(name, fsys, file, dir); err != nil {
		return nil, &loaded{old.parts, included(fsys.asked), true}, err
	}
	return z, &loaded{parts: fsys.parts, wants: included(fsys.parts)}, nil
}

// included lists the files of a zone besides its own, which is the first.
func included(parts []part) []string {
	var out []string
	for _, p := range parts {
		if p.file != parts[0].file {
			out = append(out, p.file)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unchanged says whether the files are as they were, by size and time; no
// files are not.
func unchanged(dir string, parts []part) bool {
	for _, p := range parts {
		info, err := os.Stat(filepath.Join(dir, p.file))
		if err != nil || p.hot || info.Size() != p.size || !info.ModTime().Equal(p.time) {
			return false
		}
	}
	return len(parts) > 0
}

// readAgain gives the files as they are where they have the content that they
// had and only their stamps are new; else nil.
func readAgain(dir string, parts []part) []part {
	fsys := &notingFS{dir: dir}
	for i, p := range parts {
		if _, err := fsys.ReadFile(p.file); err != nil || fsys.parts[i].sum != p.sum {
			return nil
		}
	}
	return fsys.parts
}

// notingFS is a folder that notes the files that are read.
type notingFS struct {
	dir   string
	asked []part // all of them
	parts []part // those that could be read
}

// Open opens a file without noting it.
func (f *notingFS) Open(name string) (fs.File, error) { return os.DirFS(f.dir).Open(name) }

// ReadFile reads a file and notes it.
func (f *notingFS) ReadFile(name string) ([]byte, error) {
	p := part{file: name}
	// The stamp is taken first: what is written meanwhile is seen next time.
	if info, err := fs.Stat(os.DirFS(f.dir), name); err == nil {
		p.size, p.time = info.Size(), info.ModTime()
		p.hot = time.Since(p.time) < time.Second
	}
	data, err := fs.ReadFile(os.DirFS(f.dir), name)
	p.sum = sha256.Sum256(data)
	f.asked = append(f.asked, p)
	if err == nil {
		f.parts = append(f.parts, p)
	}
	return data, err
}
