package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// environment names, in the order of the descriptors from firstFile on, what a
// process inherits: the first is the stream on which the two agree.
const (
	environment = "MERIDIAN_HANDOVER"
	firstFile   = 3
	stream      = "stream"
)

// Set is what a process has that the one after it needs: sockets and locks, each
// by a name. What the process inherited itself is in it until it is taken. It is
// safe for concurrent use.
type Set struct {
	former *Former

	mu   sync.Mutex // guards what follows
	left map[string]*os.File
	live map[string]syscall.Conn
}

// New makes a Set of nothing.
func New() *Set { return &Set{left: map[string]*os.File{}, live: map[string]syscall.Conn{}} }

// Inherit makes a Set of what this process was started with: nothing where no
// other started it to take its place. It is called once, early. Errors: the
// environment does not tell what was inherited.
func Inherit() (*Set, error) {
	s := New()
	text, ok := os.LookupEnv(environment)
	if !ok {
		return s, nil
	}
	if err := os.Unsetenv(environment); err != nil {
		return nil, err
	}
	var names []string
	if err := json.Unmarshal([]byte(text), &names); err != nil || len(names) == 0 || names[0] != stream {
		return nil, fmt.Errorf("%s: not what an earlier process of this program wrote", environment)
	}
	for i, name := range names {
		unix.CloseOnExec(firstFile + i)
		s.left[name] = os.NewFile(uintptr(firstFile+i), name)
	}
	file := s.left[stream]
	delete(s.left, stream)
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", environment, err)
	}
	s.former = &Former{newTalk(c)}
	return s, nil
}

// Former gives the process whose place this one takes; nil: there is none.
func (s *Set) Former() *Former { return s.former }

// Listen gives the listener of that network and address: the inherited one, or
// else what open opens. The next process gets it for as long as it is open.
func (s *Set) Listen(network, address string, open func() (net.Listener, error)) (net.Listener, error) {
	return take(s, network+" "+address, net.FileListener, open)
}

// ListenPacket is Listen for sockets without connections.
func (s *Set) ListenPacket(network, address string, open func() (net.PacketConn, error)) (net.PacketConn, error) {
	return take(s, network+" "+address, net.FilePacketConn, open)
}

// File is Listen for a file by a name of the caller's: one that is locked stays
// so while any process has it.
func (s *Set) File(name string, open func() (*os.File, error)) (*os.File, error) {
	return take(s, name, func(f *os.File) (*os.File, error) {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}, open)
}

// Take gives what was inherited by the names that begin with prefix, without it.
// It is the caller's then, and the next process gets it only with Start's more.
func (s *Set) Take(prefix string) map[string]*os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]*os.File{}
	for name, f := range s.left {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			out[rest] = f
			delete(s.left, name)
		}
	}
	return out
}

// CloseRest closes what was inherited and not taken.
func (s *Set) CloseRest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.left {
		f.Close()
		delete(s.left, name)
	}
}

func take[T io.Closer](s *Set, name string, from func(*os.File) (T, error), open func() (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out T
	var err error
	if f := s.left[name]; f != nil {
		delete(s.left, name)
		out, err = from(f)
		f.Close()
	} else {
		out, err = open()
	}
	if err != nil {
		return out, err
	}
	c, ok := any(out).(syscall.Conn)
	if !ok {
		return out, errors.Join(fmt.Errorf("%s: cannot be handed over", name), out.Close())
	}
	if u, ok := any(out).(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path may be the next process's by then
	}
	s.live[name] = c
	return out, nil
}

// descriptors gives copies of what is open, with their names.
func (s *Set) descriptors(more map[string]syscall.Conn) (names []string, fds []uintptr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.live)
	maps.Copy(all, more)
	for name, c := range all {
		if fd, err := duplicate(c); err == nil {
			names, fds = append(names, name), append(fds, uintptr(fd))
		} else { // it was closed, or there is no room: the next process opens its own
			delete(s.live, name)
		}
	}
	return names, fds
}

func duplicate(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	out := 0
	if e := raw.Control(func(fd uintptr) { out, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return 0, e
	}
	return out, err
}
