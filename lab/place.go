//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"meridian/internal/testkit/netns"
)

// A place is the directory of one run, locked while the run lasts, so that a
// later run knows what a crashed one has left.
type place struct {
	dir  string
	lock *os.File
}

// base is the directory of all runs of this user, closed to others.
func base() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("meridian-demo-%d", os.Geteuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s is not a directory that is yours alone; remove it", dir)
	}
	return dir, nil
}

// newPlace clears what crashed runs left and makes a directory for this one.
func newPlace() (*place, error) {
	root, err := base()
	if err != nil {
		return nil, err
	}
	if err := sweep(root); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(root, "run-")
	if err != nil {
		return nil, err
	}
	p := &place{dir: dir}
	if p.lock, err = lock(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

// lab is the directory that a Lab uses.
func (p *place) lab() (string, error) {
	dir := filepath.Join(p.dir, "lab")
	return dir, os.Mkdir(dir, 0o700)
}

func (p *place) close() error {
	return errors.Join(os.RemoveAll(p.dir), p.lock.Close())
}

// lock takes a run's directory, or fails where its run still lasts.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep ends the processes of runs that have crashed, known by the mark in
// their environment, and removes their directories.
func sweep(root string) error {
	dirs, err := filepath.Glob(filepath.Join(root, "run-*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		f, err := lock(dir)
		if err != nil {
			continue // it runs
		}
		netns.KillMarked(labMark(filepath.Join(dir, "lab")))
		if err := errors.Join(os.RemoveAll(dir), f.Close()); err != nil {
			return fmt.Errorf("clear what an earlier run left: %w", err)
		}
	}
	return nil
}
