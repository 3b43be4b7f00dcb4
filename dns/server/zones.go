package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"meridian/dns/zone"
	"meridian/fleet"
)

// ErrNoZoneFile: a folder without a zone file is a mistake or away; what was
// served stays.
var ErrNoZoneFile = errors.New("no file that ends in .zone")

// together is how many files LoadDir looks at before LoadFiles gets its turn:
// some milliseconds' worth.
const together = 256

// LoadDir serves the zones of a folder, NAME.zone each and root.zone for the
// root, and no others; changed are those that are served anew or no longer.
// Files that have not changed since the last time are not read again, and other
// zones than theirs are not touched. Of a file that cannot be a zone the error
// tells file and line, and the zone of that name that was served stays; the
// others are taken into use nevertheless. A LoadFiles that comes meanwhile need
// not wait. Where ctx ends before all is read, the error says so.
func (s *Server) LoadDir(ctx context.Context, dir string) (changed []fleet.Name, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("zones: %w", err)
	}
	var files []string
	for _, e := range entries {
		if isZoneFile(e.Name()) && !e.IsDir() {
			files = append(files, e.Name())
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("zones: %s holds %w", dir, ErrNoZoneFile)
	}
	var done atomic.Int64
	defer s.progress(&done, len(files))()
	size := together
	if !s.loaded.Load() {
		size = len(files)
	}
	var errs []error
	for batch := range slices.Chunk(files, size) {
		names, err := s.load(ctx, dir, batch, &done)
		changed, errs = append(changed, names...), append(errs, err)
		if ctx.Err() != nil {
			return changed, errors.Join(append(errs, fmt.Errorf("zones: %w", ctx.Err()))...)
		}
	}
	gone, err := s.drop(dir, s.files.besides(files))
	return append(changed, gone...), errors.Join(append(errs, err)...)
}

// LoadFiles does for some files of the folder what LoadDir does for all: those
// that are gone take their zones with them, and of a file that zones include
// they are read. Files are named as from the folder.
func (s *Server) LoadFiles(dir string, files []string) (changed []fleet.Name, err error) {
	files = s.files.affected(files)
	changed, err = s.load(context.Background(), dir, files, new(atomic.Int64))
	gone, dropErr := s.drop(dir, files)
	return append(changed, gone...), errors.Join(err, dropErr)
}

// drop serves the zones no longer whose files are not there; others it leaves.
// A zone that another file has too, as after a renaming, is read from that one.
func (s *Server) drop(dir string, files []string) (changed []fleet.Name, err error) {
	changed, again, err := s.forget(dir, files)
	if len(again) == 0 {
		return changed, err
	}
	read, readErr := s.load(context.Background(), dir, again, new(atomic.Int64))
	return append(changed, read...), errors.Join(err, readErr)
}

// forget is drop without the reading; again are the files to be read.
func (s *Server) forget(dir string, files []string) (dropped []fleet.Name, again []string, err error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	files = slices.DeleteFunc(files, func(file string) bool { return there(dir, file) })
	if len(files) == 0 {
		return nil, nil, nil
	}
	slices.Sort(files)
	// Of a folder that was emptied the kernel may have told in part so far.
	if !slices.ContainsFunc(s.files.besides(files), func(file string) bool { return there(dir, file) }) {
		return nil, nil, fmt.Errorf("zones: %s holds %w", dir, ErrNoZoneFile)
	}
	for _, file := range files {
		s.files.note(file, nil, nil)
	}
	others := s.files.sameZones(files)
	for _, file := range files {
		name, err := zoneName(file)
		if other, ok := others[name]; err == nil && ok {
			s.files.note(other, &loaded{}, nil)
			again = append(again, other)
		} else if err == nil && s.Zone(name) != nil {
			s.RemoveZone(name)
			dropped = append(dropped, name)
		}
	}
	return dropped, again, nil
}

// load reads those of the files that have changed, several at a time; files
// that are gone are left to drop. The first time all zones come into use at
// once, later each as soon as it is read. It goes no further when ctx ends.
func (s *Server) load(ctx context.Context, dir string, files []string, done *atomic.Int64) (changed []fleet.Name, err error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	first := !s.loaded.Load()
	var mu sync.Mutex // guards zones, changed and errs
	var zones []*zone.Zone
	var errs []error
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, file := range files {
		if ctx.Err() != nil {
			break
		}
		old := s.files.get(file)
		if !old.broken && unchanged(dir, old.parts) { // by one goroutine: queries go first
			done.Add(1)
			continue
		}
		g.Go(func() error {
			defer done.Add(1)
			z, l, err := loadFile(dir, file, old)
			if err != nil && !there(dir, file) {
				return nil
			}
			s.files.note(file, l, err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = append(errs, err)
			case z != nil && first:
				zones = append(zones, z)
			case z != nil:
				s.SetZone(z)
			}
			if z != nil {
				changed = append(changed, z.Name)
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
		s.loaded.Store(true)
	}
	return changed, errors.Join(errs...)
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
