package handover

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The words that the two say, each a line.
const (
	wordApplied   = "applied"
	wordTake      = "take"       // what only one process has is free
	wordTakeReady = "take ready" // the same, and the old one had all that it needs
	wordReady     = "ready"
	wordYours     = "yours"
)

// How long one side waits for the other's word. To apply a configuration a node
// may have to compile a geo database; to let go, to close sessions.
const (
	applyWithin   = 90 * time.Second
	releaseWithin = 30 * time.Second
	readyWithin   = 45 * time.Second
)

// talk is one end of the stream.
type talk struct {
	conn  net.Conn
	lines *bufio.Reader
}

func newTalk(c net.Conn) talk { return talk{c, bufio.NewReader(c)} }

func (t talk) say(word string) error {
	if err := t.conn.SetWriteDeadline(time.Now().Add(releaseWithin)); err != nil {
		return err
	}
	_, err := t.conn.Write([]byte(word + "\n"))
	return err
}

// hear waits for one of words.
func (t talk) hear(limit time.Duration, words ...string) (string, error) {
	if err := t.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	line, err := t.lines.ReadString('\n')
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("not within %v", limit)
		}
		return "", fmt.Errorf("waiting for %q: %w", words[0], err)
	}
	word := strings.TrimSuffix(line, "\n")
	if !slices.Contains(words, word) {
		return "", fmt.Errorf("waiting for %q: it said %q", words[0], word)
	}
	return word, nil
}

// Former is the process whose place this one takes. Its methods are called in
// their order, once each.
type Former struct{ talk }

// Applied says that this process has taken the sockets and applied its
// configuration, and waits until the former one has let go of what only one can
// have. ready says that nothing that it needed was missing there.
func (f *Former) Applied() (ready bool, err error) {
	if err := f.say(wordApplied); err != nil {
		return false, fmt.Errorf("the former process is gone: %w", err)
	}
	word, err := f.hear(releaseWithin+readyWithin, wordTake, wordTakeReady)
	if err != nil {
		return false, fmt.Errorf("the former process: %w", err)
	}
	return word == wordTakeReady, nil
}

// Ready says that this process can serve, and waits until it is the one to.
func (f *Former) Ready() error {
	if err := f.say(wordReady); err != nil {
		return fmt.Errorf("the former process is gone: %w", err)
	}
	if _, err := f.hear(releaseWithin, wordYours); err != nil {
		return fmt.Errorf("the former process: %w", err)
	}
	return f.conn.Close()
}

// Next is the process that is to take this one's place. Its methods are called
// in their order, once each; Kill ends it at any time before Yours.
type Next struct {
	talk
	process *os.Process
	ended   chan struct{} // closed when it has
	state   *os.ProcessState
}

// Start starts the program at path with the arguments (the first is its name),
// this process's environment, standard files, and all of s and more that is open.
func (s *Set) Start(path string, args []string, more map[string]syscall.Conn) (*Next, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	names, fds := s.descriptors(more)
	names = append([]string{stream}, names...)
	files := append([]uintptr{0, 1, 2, uintptr(pair[1])}, fds...)
	defer func() {
		for _, fd := range files[3:] {
			unix.Close(int(fd))
		}
	}()
	mine := os.NewFile(uintptr(pair[0]), stream)
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return nil, err
	}
	told, err := json.Marshal(names)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, environment+"=") || strings.HasPrefix(v, "WATCHDOG_PID=")
	})
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Env: append(env, environment+"="+string(told)), Files: files})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", path, err), conn.Close())
	}
	n := &Next{talk: newTalk(conn), ended: make(chan struct{})}
	if n.process, err = os.FindProcess(pid); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go func() {
		defer close(n.ended)
		n.state, _ = n.process.Wait() // its state is for a message only
	}()
	return n, nil
}

// Pid is the process's number.
func (n *Next) Pid() int { return n.process.Pid }

// Applied waits until the process has applied its configuration.
func (n *Next) Applied() error {
	_, err := n.hear(applyWithin, wordApplied)
	return n.why(err)
}

// Take says that what only one process can have is free, and waits until the
// process has it. ready says that nothing that this one needed was missing.
func (n *Next) Take(ready bool) error {
	word := wordTake
	if ready {
		word = wordTakeReady
	}
	err := n.say(word)
	if err == nil {
		_, err = n.hear(readyWithin, wordReady)
	}
	return n.why(err)
}

// Yours has the process serve. From then on it is on its own.
func (n *Next) Yours() error {
	if err := n.say(wordYours); err != nil {
		return n.why(err)
	}
	return n.conn.Close()
}

// why adds to an error how the process ended, if it has.
func (n *Next) why(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-n.ended:
	case <-time.After(time.Second): // it may be on its way out
		return fmt.Errorf("the new process: %w", err)
	}
	return fmt.Errorf("the new process ended: %v", n.state)
}

// Kill ends the process, and returns when it is gone.
func (n *Next) Kill() {
	_ = n.process.Kill() // it fails where the process has ended
	<-n.ended
	n.conn.Close()
}
