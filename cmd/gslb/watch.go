package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"meridian/fleet"
)

const (
	// settle is how long a file must be quiet before it is read without being
	// asked for: editors and generators write in steps.
	settle = 20 * time.Millisecond
	// belated is how long after SIGHUP the kernel's notices of what was done
	// before it may come; then the look at all files begins.
	belated = 50 * time.Millisecond
	// noticesKept is how many notices may wait to be taken.
	noticesKept = 4096
	// many is when changed files are left to the look at all files, which may
	// last: what changes meanwhile is read between.
	many = 256
	// maxTold bounds the errors and names in the log of one reload.
	maxTold = 20
)

// folderReader is the nameserver that reads a folder of zones.
type folderReader interface {
	LoadDir(ctx context.Context, dir string) (changed []fleet.Name, err error)
	LoadFiles(dir string, files []string) (changed []fleet.Name, err error)
	ReadsFile(file string) bool
	IncludeFolders() []string
	BrokenFiles() []error
}

// reloader keeps what is served in step with a folder of zones. The kernel
// tells it which files change, and SIGHUP has those read at once, however many
// zones there are; then all files are looked at, for what the kernel does not
// tell: changes on network file systems, of what links point to, of a folder
// that another one took the place of, too many at a time.
type reloader struct {
	dir     string
	server  folderReader
	eager   bool          // --watch: changes are read without SIGHUP
	asked   chan struct{} // SIGHUP; holds one
	looking func() (done func())
	log     *slog.Logger

	watcher   *fsnotify.Watcher      // nil where there can be none
	watched   map[string]os.FileInfo // folders, as they were when their watch began
	unwatched map[string]error       // those that cannot be watched
	changed   map[string]time.Time   // files since they were read last, and when their last change was told
	missed    bool                   // all files are to be looked at
	look      chan outcome           // they are being looked at, unless nil
	told      map[string]bool        // errors that were logged of what is being reloaded
}

// newReloader opens nothing. looking is called when a look at all files begins,
// and what it gives at the end.
func newReloader(dir string, s folderReader, eager bool, looking func() (done func()), log *slog.Logger) *reloader {
	return &reloader{dir: filepath.Clean(dir), server: s, eager: eager, asked: make(chan struct{}, 1), looking: looking, log: log,
		watched: map[string]os.FileInfo{}, unwatched: map[string]error{}, changed: map[string]time.Time{}, told: map[string]bool{}}
}

// Load begins to watch the folder and reads it for the first time. Zones that
// are not usable are logged; the error is that of a folder without a usable one.
// Where ctx ends meanwhile, Run returns at once.
func (r *reloader) Load(ctx context.Context) error {
	unwatched := r.watch()
	if unwatched != nil && r.eager {
		return fmt.Errorf("--watch: %w", unwatched)
	}
	begun := time.Now()
	changed, err := r.server.LoadDir(ctx, r.dir)
	if ctx.Err() != nil {
		return nil
	}
	if len(changed) == 0 && err != nil {
		return err
	}
	if unwatched != nil {
		r.log.Warn("changed zone files are found by looking at all of them only", "error", unwatched)
	}
	r.tell("zones loaded", outcome{changed, err, time.Since(begun)})
	clear(r.told)
	r.missed = r.follow(false) && r.eager
	return nil
}

func (r *reloader) watch() (err error) {
	if r.watcher, err = fsnotify.NewBufferedWatcher(noticesKept); err != nil {
		r.watcher = nil
		return err
	}
	r.follow(true)
	return r.unwatched["."]
}

// Reload has changed files read at once, as SIGHUP asks for.
func (r *reloader) Reload() {
	select {
	case r.asked <- struct{}{}:
	default: // it is going to be done
	}
}

// outcome is what came of looking at all files.
type outcome struct {
	changed []fleet.Name
	err     error
	took    time.Duration
}

// Run reads until ctx ends.
func (r *reloader) Run(ctx context.Context) error {
	var lost chan error
	if r.watcher != nil {
		defer r.watcher.Close()
		lost = r.watcher.Errors
	}
	var asked time.Time
	armed, next := true, time.NewTimer(0)
	defer next.Stop()
	wake := func() {
		if !armed && (r.eager || r.look != nil) {
			armed = true
			next.Reset(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			if r.look != nil {
				<-r.look
			}
			return nil
		case <-r.asked:
			asked, r.missed = time.Now(), true
			r.catchUp(true)
			if !armed { // the look comes after: it takes a processor
				armed = true
				next.Reset(belated)
			}
		case e := <-r.events():
			// Not by the timer, which may be late while the program is busy.
			if r.note(e); time.Since(asked) < belated {
				r.catchUp(true)
			}
			wake()
		case err := <-lost:
			r.log.Info("the kernel has not told of all changes of zone files", "error", err)
			r.missed = r.missed || r.eager
			wake()
		case o := <-r.look:
			if r.look = nil; ctx.Err() != nil {
				return nil
			}
			r.tell("all zone files looked at", o)
			clear(r.told)
			if r.missed {
				r.lookAtAll(ctx)
			}
		case <-next.C:
			armed = false
			if r.catchUp(false); r.missed && r.look == nil {
				r.lookAtAll(ctx)
			}
			if len(r.changed) > 0 {
				wake()
			}
		}
	}
}

// events gives what the kernel tells; it is nil where it does not.
func (r *reloader) events() chan fsnotify.Event {
	if r.watcher == nil {
		return nil
	}
	return r.watcher.Events
}

// catchUp reads the changed files, all or those that are quiet.
func (r *reloader) catchUp(all bool) {
	if r.look == nil && !r.missed {
		clear(r.told)
	}
	for drained := false; !drained; {
		select {
		case e := <-r.events():
			r.note(e)
		default:
			drained = true
		}
	}
	r.read(all)
	more := r.follow(false)
	r.missed = r.missed || more && r.eager
}

// note keeps what the kernel tells of: files that zones are read from, and
// what may stand for many of them.
func (r *reloader) note(e fsnotify.Event) {
	file, err := filepath.Rel(r.dir, e.Name)
	if err != nil {
		return
	}
	if file = filepath.ToSlash(file); r.server.ReadsFile(file) {
		r.changed[file] = time.Now()
		return
	}
	// A folder, or a link to one as it is swapped to change many files at once.
	info, err := os.Lstat(e.Name)
	if file == "." || err == nil && (info.IsDir() || info.Mode()&os.ModeSymlink != 0) {
		r.missed = r.missed || r.eager
	}
}

// read reads the changed files: all, or those that are quiet.
func (r *reloader) read(all bool) {
	begun := time.Now()
	var files []string
	for file, at := range r.changed {
		if all || begun.Sub(at) >= settle {
			files = append(files, file)
			delete(r.changed, file)
		}
	}
	if len(files) == 0 {
		return
	}
	if len(files) > many {
		r.missed = true
		return
	}
	changed, err := r.server.LoadFiles(r.dir, files)
	if len(changed) > 0 || err != nil {
		r.tell("zones reloaded", outcome{changed, err, time.Since(begun)})
	}
}

// lookAtAll begins to look at all files.
func (r *reloader) lookAtAll(ctx context.Context) {
	r.follow(true)
	r.missed = false
	ended, done := make(chan outcome, 1), r.looking()
	r.look = ended
	go func() {
		begun := time.Now()
		changed, err := r.server.LoadDir(ctx, r.dir)
		done()
		ended <- outcome{changed, err, time.Since(begun)}
	}()
}

// follow watches the folders that files are read from, and says whether one
// was not watched before. With again, it looks at those it knows too: a watch
// may be gone, or of a folder that another one took the place of.
func (r *reloader) follow(again bool) (more bool) {
	if r.watcher == nil {
		return false
	}
	live := map[string]bool{}
	if again {
		for _, where := range r.watcher.WatchList() {
			live[where] = true
		}
	}
	for _, folder := range append(r.server.IncludeFolders(), ".") {
		if !again && (r.watched[folder] != nil || r.unwatched[folder] != nil) {
			continue
		}
		where := filepath.Join(r.dir, folder)
		now, err := os.Stat(where)
		if err == nil && live[where] && os.SameFile(r.watched[folder], now) {
			continue
		}
		_ = r.watcher.Remove(where)
		if err == nil {
			err = r.watcher.Add(where)
		}
		if err != nil && r.unwatched[folder] == nil && !errors.Is(err, fs.ErrNotExist) && folder != "." {
			r.log.Warn("changed files are found by looking at all of them only", "folder", where, "error", err)
		}
		if r.unwatched[folder] = err; err == nil {
			r.watched[folder], more = now, true
		}
	}
	return more
}

// tell logs what came of reading, each error once for a SIGHUP.
func (r *reloader) tell(what string, o outcome) {
	logFiles(r.log, o.err, r.told)
	which := []any{"changed", len(o.changed), "broken", len(r.server.BrokenFiles()), "took", o.took}
	if n := len(o.changed); n > 0 && n <= maxTold {
		which = append(which, "zones", slices.Sorted(slices.Values(o.changed)))
	}
	r.log.Info(what, which...)
}

// logFiles logs the errors that are joined in err, each file's on a line of
// its own, but for those that were told before.
func logFiles(log *slog.Logger, err error, told map[string]bool) {
	more := 0
	var walk func(err error)
	walk = func(err error) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e)
			}
			return
		}
		if err == nil {
			return
		}
		switch text := err.Error(); {
		case told[text]:
		case len(told) >= maxTold:
			more++
		default:
			told[text] = true
			log.Error("zones not usable; what is served stays as it was", "error", text)
		}
	}
	if walk(err); more > 0 {
		log.Error("more zone files are not usable", "errors", more)
	}
}

// Problem says what is wrong with the files as they are; empty for nothing.
func (r *reloader) Problem() string {
	broken := r.server.BrokenFiles()
	if len(broken) == 0 {
		return ""
	}
	text := fmt.Sprintf("zone files that are not usable, whose zones stay as they were: %d", len(broken))
	for _, err := range broken[:min(len(broken), maxTold)] {
		text += "\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  ")
	}
	return text
}
