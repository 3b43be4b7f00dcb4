package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"meridian/dns/zone"
	"meridian/fleet"
)

// loaded is what a zone was read from.
type loaded struct {
	name  fleet.Name
	parts []part // the file first, then those that it includes
}

// part is one file as it was when it was read.
type part struct {
	file string
	size int64
	time time.Time
	sum  [sha256.Size]byte
	hot  bool // it was written just before, and could be again without its stamp telling
}

// LoadDir serves the zones of a folder, NAME.zone each and root.zone for the
// root, and no others. Files that have not changed since the last time are not
// read again, and other zones than theirs are not touched. Of a file that
// cannot be a zone the error tells file and line, and the zone of that name
// that was served stays; the others are taken into use nevertheless.
func (s *Server) LoadDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("zones: %w", err)
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".zone") && !e.IsDir() {
			files = append(files, e.Name())
		}
	}
	if len(files) == 0 {
		return fmt.Errorf("zones: %s holds no file that ends in .zone", dir)
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	err = s.load(dir, files)
	for file, l := range s.files {
		if _, found := slices.BinarySearch(files, file); !found {
			s.RemoveZone(l.name)
			delete(s.files, file)
		}
	}
	return err
}

// LoadFiles does for some files of the folder what LoadDir does for all: those
// that are gone take their zones with them.
func (s *Server) LoadFiles(dir string, files []string) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	var there []string
	for _, file := range files {
		_, err := os.Stat(filepath.Join(dir, file))
		if l, had := s.files[file]; had && errors.Is(err, fs.ErrNotExist) {
			s.RemoveZone(l.name)
			delete(s.files, file)
		} else if err == nil {
			there = append(there, file)
		}
	}
	return s.load(dir, there)
}

// load reads those of the files that have changed, several at a time. The first
// time all zones come into use at once, later each as soon as it is read.
func (s *Server) load(dir string, files []string) error {
	first := s.files == nil
	if first {
		s.files = map[string]loaded{}
	}
	var mu sync.Mutex // guards s.files, zones and errs
	var zones []*zone.Zone
	var errs []error
	var done atomic.Int64
	defer s.progress(&done, len(files))()
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, file := range files {
		mu.Lock()
		old := s.files[file]
		mu.Unlock()
		g.Go(func() error {
			defer done.Add(1)
			z, l, err := loadFile(dir, file, old)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = append(errs, err)
				return nil
			case z != nil && first:
				zones = append(zones, z)
			case z != nil:
				s.SetZone(z)
			}
			s.files[file] = l
			if z != nil {
				for _, w := range z.Warnings {
					s.log.Warn("zone", "zone", z.Name, "warning", w)
				}
			}
			return nil
		})
	}
	_ = g.Wait() // errors are gathered by file
	if len(zones) > 0 {
		s.SetZones(zones)
	}
	if first && len(zones) == 0 {
		s.files = nil
	}
	return errors.Join(errs...)
}

// progress logs how far loading is, while it lasts longer than seconds.
func (s *Server) progress(done *atomic.Int64, of int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	begun, ended := time.Now(), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.log.Info("loading zones", "done", done.Load(), "of", of)
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		s.log.Debug("zones looked at", "zones", of, "took", time.Since(begun))
	}
}

// loadFile reads a zone; z is nil where its files are as they were.
func loadFile(dir, file string, old loaded) (z *zone.Zone, l loaded, err error) {
	path := filepath.Join(dir, file)
	name, err := zoneName(file)
	if err != nil {
		return nil, l, fmt.Errorf("%s: %w", path, err)
	}
	if old.parts != nil && unchanged(dir, old.parts, false) {
		return nil, old, nil
	}
	fsys := &notingFS{dir: dir}
	if old.parts != nil && unchanged(dir, old.parts, true) {
		// The same content, written again: only the stamps are new.
		for _, p := range old.parts {
			if _, err := fsys.ReadFile(p.file); err != nil {
				return nil, l, err
			}
		}
		return nil, loaded{name, fsys.parts}, nil
	}
	z, err = zone.LoadFS(name, fsys, file, dir)
	return z, loaded{name, fsys.parts}, err
}

// unchanged says whether the files are as they were, by size and time or by
// content.
func unchanged(dir string, parts []part, content bool) bool {
	for _, p := range parts {
		path := filepath.Join(dir, p.file)
		if content {
			data, err := os.ReadFile(path)
			if err != nil || sha256.Sum256(data) != p.sum {
				return false
			}
			continue
		}
		if info, err := os.Stat(path); err != nil || p.hot || info.Size() != p.size || !info.ModTime().Equal(p.time) {
			return false
		}
	}
	return true
}

// notingFS is a folder that notes the files that are read.
type notingFS struct {
	dir   string
	parts []part
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
	if err == nil {
		p.sum = sha256.Sum256(data)
		f.parts = append(f.parts, p)
	}
	return data, err
}

func zoneName(file string) (fleet.Name, error) {
	base := strings.TrimSuffix(file, ".zone")
	if base == "root" {
		return ".", nil
	}
	return fleet.ParseName(base)
}
