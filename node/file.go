package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"meridian/fleet"
	"meridian/rules"
)

// ReadFile reads a Spec and the objects that it refers to, relative to the
// Spec's folder: zone files, certificates with their keys (file: and env:),
// authorities. The Spec's own errors are given as rules.Compile gives them;
// objects that cannot be read, all at once.
func ReadFile(path string) (doc []byte, objects []fleet.Object, err error) {
	doc, objects, _, err = readFile(path)
	return doc, objects, err
}

// readFile also tells which files it read or wanted to, and the state that they
// were in.
func readFile(path string) (doc []byte, objects []fleet.Object, state fileState, err error) {
	r := reader{dir: filepath.Dir(path), hash: sha256.New()}
	if doc, err = r.load(path); err != nil {
		return nil, nil, r.state(), fmt.Errorf("spec: %w", err)
	}
	s, err := rules.Compile(doc, 0)
	if err != nil {
		return nil, nil, r.state(), err
	}
	for _, z := range s.Spec.Zones {
		if z.File != "" {
			r.object(fleet.ObjectZone, string(z.Zone), "file:"+z.File)
		}
	}
	for _, c := range s.Spec.Certificates {
		if c.ACME == nil {
			r.object(fleet.ObjectCertificate, c.ID, c.Cert, string(c.Key))
		}
	}
	for _, k := range s.Wanted() {
		switch {
		case k.Kind == fleet.ObjectCA && strings.HasPrefix(k.ID, "file:"), k.Kind == fleet.ObjectSecret, k.Kind == fleet.ObjectPage:
			r.object(k.Kind, k.ID, k.ID)
		case k.Kind == fleet.ObjectLatency:
			r.object(k.Kind, k.ID, "file:"+k.ID)
		}
	}
	return doc, r.objects, r.state(), errors.Join(r.errs...)
}

type reader struct {
	dir     string
	objects []fleet.Object
	names   []string
	hash    hash.Hash // of what was read
	errs    []error
}

// load reads a file and notes its state.
func (r *reader) load(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	r.names = append(r.names, name)
	fmt.Fprintf(r.hash, "%s %d %v\n", name, len(b), err)
	r.hash.Write(b)
	return b, err
}

func (r *reader) state() fileState { return fileState{r.names, mark(r.hash.Sum(nil))} }

// fileState is some files and the state that they were in together.
type fileState struct {
	names []string
	seen  mark
}

// mark tells states of files apart.
type mark [sha256.Size]byte

// changed says whether they are in another state now.
func (f *fileState) changed() bool {
	r := reader{hash: sha256.New()}
	for _, name := range f.names {
		r.load(name)
	}
	return r.state().seen != f.seen
}

// object reads an object out of one reference or several, one after the other.
func (r *reader) object(kind fleet.ObjectKind, id string, refs ...string) {
	o := fleet.Object{Key: fleet.ObjectKey{Kind: kind, ID: id}}
	for _, ref := range refs {
		data, file, err := r.read(ref)
		if err != nil {
			r.errs = append(r.errs, &rules.ObjectError{Key: o.Key, Msg: err.Error()})
			return
		}
		if n := len(o.Data); n > 0 && o.Data[n-1] != '\n' {
			o.Data = append(o.Data, '\n')
		}
		o.Data = append(o.Data, data...)
		if o.File != "" && file != o.File {
			file = o.File + ", " + file
		}
		o.File = file
	}
	r.objects = append(r.objects, o)
}

func (r *reader) read(ref string) (data []byte, name string, err error) {
	if v, ok := strings.CutPrefix(ref, "env:"); ok {
		s, set := os.LookupEnv(v)
		if !set || s == "" {
			return nil, "", fmt.Errorf("the environment variable %s is not set", v)
		}
		return []byte(s), ref, nil
	}
	name = strings.TrimPrefix(ref, "file:")
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	data, err = r.load(path)
	return data, name, err
}

// ReadWorld reads a Spec file and all that it refers to as a World of revision
// 0.
func ReadWorld(path string) (*fleet.World, error) {
	doc, objects, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	return toWorld(doc, objects)
}

func toWorld(doc []byte, objects []fleet.Object) (*fleet.World, error) {
	s, err := rules.Compile(doc, 0)
	if err != nil {
		return nil, err
	}
	return rules.World(s, objects, nil)
}

const (
	settle   = 200 * time.Millisecond // a file may be written in several steps
	pollEach = 5 * time.Second        // where the kernel's notices do not come
)

// FileSource brings the World of a Spec file, again whenever the file or one
// that it refers to changes.
type FileSource struct {
	path   string
	log    *slog.Logger
	reload chan struct{}
	poll   time.Duration

	mu      sync.Mutex
	problem string // why the files as they are now are not in use
}

// NewFileSource reads nothing yet.
func NewFileSource(path string, log *slog.Logger) *FileSource {
	return &FileSource{path: path, log: log, reload: make(chan struct{}, 1), poll: pollEach}
}

// Reload has the files read again at once, as SIGHUP asks for.
func (f *FileSource) Reload() {
	select {
	case f.reload <- struct{}{}:
	default:
	}
}

// Problem names the Spec's file, and says why it is not usable as it is now;
// empty where it is, or has not been read yet.
func (f *FileSource) Problem() (path, problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.path, f.problem
}

// note keeps what is wrong, and says whether it is something new.
func (f *FileSource) note(err error) (another bool) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	another = problem != "" && problem != f.problem
	f.problem = problem
	return another
}

// Run implements Source. Files that are not usable are logged once for each
// reason; what was applied before stays, and better files are waited for. As the
// reason may be another than the files, as a port that is taken, they are tried
// again all the same.
func (f *FileSource) Run(ctx context.Context, apply func(*fleet.World) error) error {
	return f.Documents(ctx, func(doc []byte, objects []fleet.Object) error {
		w, err := toWorld(doc, objects)
		if err == nil {
			err = alone(w.Snapshot.Spec)
		}
		if err != nil {
			return err
		}
		return apply(w)
	})
}

// alone refuses what a node without a control plane would wait for in vain.
func alone(s *fleet.Spec) error {
	var errs []error
	for i := range s.Certificates {
		if s.Certificates[i].ACME != nil {
			errs = append(errs, &fleet.FieldError{Path: fmt.Sprintf("certificates[%d].acme", i),
				Msg: "certificates are issued by a control plane, and with --spec there is none: name the files in cert and key, or run with --control"})
		}
	}
	if s.ECH != nil {
		errs = append(errs, &fleet.FieldError{Path: "ech", Msg: "the keys are made by a control plane, and with --spec there is none: leave it out, or run with --control"})
	}
	return errors.Join(errs...)
}

// Documents is Run for those who make the World themselves: take is given the
// Spec and the objects that it refers to.
func (f *FileSource) Documents(ctx context.Context, take func(doc []byte, objects []fleet.Object) error) error {
	w, err := fsnotify.NewWatcher()
	if err != nil { // out of watches: the poll remains
		f.log.Warn("file changes are seen by polling only", "error", err)
		w = &fsnotify.Watcher{}
	} else {
		defer w.Close()
	}
	poll := time.NewTicker(f.poll)
	defer poll.Stop()
	var watched []string
	for {
		doc, objects, state, err := readFile(f.path)
		watched = follow(w, watched, state.names)
		if err == nil {
			err = take(doc, objects)
		}
		if f.note(err) {
			f.log.Error("spec not usable; the state before stays", "file", f.path, "error", err)
		}
		if !f.wait(ctx, w, poll.C, &state, err != nil) {
			return nil
		}
	}
}

// wait blocks until the files have changed and settled, or for a while where they
// failed; false at ctx's end.
func (f *FileSource) wait(ctx context.Context, w *fsnotify.Watcher, poll <-chan time.Time, state *fileState, failed bool) bool {
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-f.reload:
			return true
		case _, ok := <-w.Events:
			if ok && settled == nil {
				settled = time.After(settle)
			}
		case <-w.Errors:
		case <-settled:
			settled = nil
			if state.changed() {
				return true
			}
		case <-poll:
			switch {
			case settled != nil:
			case state.changed():
				settled = time.After(settle)
			case failed:
				return true
			}
		}
	}
}

// follow watches the folders of the files (a file that is replaced by renaming
// is another file) and gives the list of watched folders.
func follow(w *fsnotify.Watcher, watched, files []string) []string {
	var dirs []string
	for _, name := range files {
		if dir := filepath.Dir(name); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if w.Events == nil {
		return nil
	}
	for _, dir := range watched {
		if !slices.Contains(dirs, dir) {
			_ = w.Remove(dir)
		}
	}
	for _, dir := range dirs {
		if !slices.Contains(watched, dir) {
			_ = w.Add(dir) // where it fails, the poll remains
		}
	}
	return dirs
}
