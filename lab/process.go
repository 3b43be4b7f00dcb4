//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"meridian/internal/testkit/netns"
)

// A process is one child: its log goes to a file, and it dies with the lab.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// alive says whether it still runs.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// processes starts children and knows those that run. Every child, and what
// it starts in turn, carries two marks in its environment: one of this lab,
// one of its site.
type processes struct {
	dir string // logs are written under it
	log *slog.Logger

	mu      sync.Mutex
	running map[string]*process
}

func newProcesses(dir string, log *slog.Logger) *processes {
	return &processes{dir: dir, log: log, running: map[string]*process{}}
}

// labMark is carried by everything that the lab of that directory started.
func labMark(dir string) string { return "MERIDIAN_LAB=" + dir }

func siteMark(dir, site string) string { return "MERIDIAN_LAB_SITE=" + dir + "/" + site }

// start begins a child inside ns. Processes that follow one another under one
// name append to one log.
func (ps *processes) start(ns *netns.NS, site, name string, argv ...string) (*process, error) {
	path := filepath.Join(ps.dir, "logs", name+".log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = ps.dir
	cmd.Env = append(os.Environ(), labMark(ps.dir), siteMark(ps.dir, site))
	if err := ns.Start(cmd); err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	ps.mu.Lock()
	ps.running[name] = p
	ps.mu.Unlock()
	go func() {
		defer close(p.done)
		err := cmd.Wait()
		ps.log.Debug("process ended", "name", name, "err", err)
	}()
	return p, nil
}

// get gives the latest process of that name, or nil.
func (ps *processes) get(name string) *process {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.running[name]
}

// fallen names a process that has ended although it still should run, and its
// last words; nil where all run. Those that kill has ended do not count.
func (ps *processes) fallen() error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for name, p := range ps.running {
		if p.alive() {
			continue
		}
		text, _ := os.ReadFile(filepath.Join(ps.dir, "logs", name+".log")) // said as far as it can be read
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		return fmt.Errorf("%s has ended (%s): %s", name, p.cmd.ProcessState, lines[0])
	}
	return nil
}

// kill ends everything of a site at once, children of children too, and
// waits until the lab's own children are gone.
func (ps *processes) kill(site string, names []string) {
	var waits []*process
	ps.mu.Lock()
	for _, name := range names {
		if p := ps.running[name]; p != nil && p.alive() {
			_ = p.cmd.Process.Kill() // fails only where it has just ended
			waits = append(waits, p)
		}
		delete(ps.running, name)
	}
	ps.mu.Unlock()
	netns.KillMarked(siteMark(ps.dir, site))
	for _, p := range waits {
		<-p.done
	}
}

// killAll ends everything that carries the lab's mark.
func (ps *processes) killAll() {
	ps.mu.Lock()
	all := make([]*process, 0, len(ps.running))
	for _, p := range ps.running {
		all = append(all, p)
	}
	ps.mu.Unlock()
	for _, p := range all {
		if p.alive() {
			_ = p.cmd.Process.Kill()
		}
	}
	netns.KillMarked(labMark(ps.dir))
	for _, p := range all {
		<-p.done
	}
}
