package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asNext is set where this test program is the process that takes over.
const asNext = "MERIDIAN_TEST_AS_NEXT"

func TestMain(m *testing.M) {
	if kind := os.Getenv(asNext); kind != "" {
		if err := next(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(9)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// next takes over, and answers one connection and one packet.
func next(kind string) error {
	s, err := Inherit()
	if err != nil {
		return err
	}
	if kind == "dumb" {
		return errors.New("no")
	}
	none := errors.New("not inherited")
	l, err := s.Listen("tcp4", "a:1", func() (net.Listener, error) { return nil, none })
	if err != nil {
		return err
	}
	p, err := s.ListenPacket("udp4", "a:1", func() (net.PacketConn, error) { return nil, none })
	if err != nil {
		return err
	}
	if _, err := s.File("lock", func() (*os.File, error) { return nil, none }); err != nil {
		return err
	}
	if got := s.Take("way "); len(got) != 1 || got["x"] == nil {
		return fmt.Errorf("took %v", got)
	}
	s.CloseRest()
	if _, err := s.Listen("tcp4", "gone:1", func() (net.Listener, error) { return nil, none }); !errors.Is(err, none) {
		return fmt.Errorf("a socket that was closed came: %w", err)
	}
	if os.Getenv(environment) != "" || os.Getenv("WATCHDOG_PID") != "" {
		return errors.New("the environment is the former process's")
	}
	ready, err := s.Former().Applied()
	if err != nil || !ready {
		return fmt.Errorf("take: %v, %w", ready, err)
	}
	if err := s.Former().Ready(); err != nil {
		return err
	}
	c, err := l.Accept()
	if err != nil {
		return err
	}
	fmt.Fprint(c, "the next")
	c.Close()
	b := make([]byte, 10)
	n, from, err := p.ReadFrom(b)
	if err != nil {
		return err
	}
	_, err = p.WriteTo(b[:n], from)
	return err
}

// socketsOf makes a Set with one of each kind.
func socketsOf(t *testing.T) (s *Set, l net.Listener, p net.PacketConn, lock *os.File) {
	t.Helper()
	s = New()
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err = s.Listen("tcp4", "a:1", func() (net.Listener, error) { return net.Listen("tcp4", "127.0.0.1:0") })
	check()
	closed, err := s.Listen("tcp4", "gone:1", func() (net.Listener, error) { return net.Listen("tcp4", "127.0.0.1:0") })
	check()
	closed.Close()
	_, err = s.Listen("tcp4", "unwanted:1", func() (net.Listener, error) { return net.Listen("tcp4", "127.0.0.1:0") })
	check()
	p, err = s.ListenPacket("udp4", "a:1", func() (net.PacketConn, error) { return net.ListenPacket("udp4", "127.0.0.1:0") })
	check()
	path := filepath.Join(t.TempDir(), "lock")
	lock, err = s.File("lock", func() (*os.File, error) { return os.Create(path) })
	check()
	if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return s, l, p, lock
}

// Sockets, with what waits in them, and locks are the next process's; what was
// closed, or is not wanted, is nobody's.
func TestNextProcessGetsAll(t *testing.T) {
	t.Setenv(asNext, "sound")
	t.Setenv("WATCHDOG_PID", "1")
	s, l, p, lock := socketsOf(t)
	waiting, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	ask, err := net.Dial("udp4", p.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ask.Close()
	fmt.Fprint(ask, "packet")
	way, err := os.Open(lock.Name())
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.Start(os.Args[0], os.Args, map[string]syscall.Conn{"way x": way})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Applied(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	p.Close()
	lock.Close()
	other, err := os.Open(way.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("the lock is free: %v", err)
	}
	if err := n.Take(true); err != nil {
		t.Fatal(err)
	}
	if err := n.Yours(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(waiting); string(b) != "the next" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	b := make([]byte, 10)
	if k, err := ask.Read(b); string(b[:k]) != "packet" || err != nil {
		t.Errorf("%q, %v", b[:k], err)
	}
	<-n.ended
	if !n.state.Success() {
		t.Error(n.state)
	}
}

// One that fails is reported with how it ended, and can be killed all the same.
func TestNextProcessFails(t *testing.T) {
	t.Setenv(asNext, "dumb")
	s, _, _, _ := socketsOf(t)
	n, err := s.Start(os.Args[0], os.Args, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Applied(); err == nil || !strings.Contains(err.Error(), "exit status 9") {
		t.Errorf("%v", err)
	}
	n.Kill()
	if _, err := s.Start(filepath.Join(t.TempDir(), "none"), os.Args, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
}

func TestInheritRefusesWhatIsNotOurs(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", `["other"]`} {
		t.Setenv(environment, text)
		if _, err := Inherit(); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
