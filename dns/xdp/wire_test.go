package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"meridian/dns/answer"
	"meridian/internal/testkit/netns"
)

// window is how many queries of a socket are on their way at a time: fewer than
// any buffer between the two namespaces has room for.
const window = 32

// exchange asks all of the queries, window by window, each of them once, and
// hands every answer to take with the number of its query. Each must come, and
// come once.
func exchange(c net.Conn, queries [][]byte, sent func(i int), take func(i int, answer []byte) error) error {
	var q, buf [4096]byte
	open := map[uint16]int{}
	for next := 0; next < len(queries) || len(open) > 0; {
		for len(open) < window && next < len(queries) {
			n := copy(q[:], queries[next])
			id := uint16(next)
			binary.BigEndian.PutUint16(q[:], id)
			open[id] = next
			sent(next)
			if _, err := c.Write(q[:n]); err != nil {
				return err
			}
			next++
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := c.Read(buf[:])
		if err != nil {
			return fmt.Errorf("%d of %d queries were not answered: %w", len(open), next, err)
		}
		id := binary.BigEndian.Uint16(buf[:max(n, 2)])
		i, ok := open[id]
		if !ok {
			return fmt.Errorf("an answer that nobody waits for: %x", buf[:n])
		}
		delete(open, id)
		copy(buf[:2], queries[i][:2])
		if err := take(i, buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// dialFrom opens a socket of the client's with room for more than a window, at
// one of its addresses; none for any.
func (s *site) dialFrom(from, to string) *net.UDPConn {
	s.Helper()
	var local *net.UDPAddr
	if from != "" {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
	}
	var c *net.UDPConn
	s.must(s.client.Do(func() (err error) {
		c, err = net.DialUDP("udp", local, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), 53)))
		return err
	}))
	s.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	s.must(err)
	s.must(raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) }))
	return c
}

// cable is a socket whose queries reach the device as those of real devices
// do: in buffers with room for answers. What comes to a veth from a socket has
// been copied into a buffer that is no longer than the query, in which there is
// room for 216 octets before it and few behind, so that the program passes on
// what has longer answers.
type cable struct {
	*net.UDPConn
	s        *site
	out      *ebpf.Program
	from, to netip.AddrPort
	macs     []byte // the server's and the client's
}

// cable opens one.
func (s *site) cable(from, to string) *cable {
	s.Helper()
	c := &cable{UDPConn: s.dialFrom(from, to), s: s, to: netip.AddrPortFrom(netip.MustParseAddr(to), 53)}
	c.from = c.LocalAddr().(*net.UDPAddr).AddrPort()
	index := 0
	for _, ns := range []*netns.NS{s.ns, s.client} {
		l, err := ns.Netlink().LinkByName("eth0")
		s.must(err)
		c.macs = append(c.macs, l.Attrs().HardwareAddr...)
		index = l.Attrs().Index
	}
	var err error
	c.out, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return()}})
	s.must(err)
	s.Cleanup(func() { c.out.Close() })
	return c
}

// Write sends a query by a program that is run on its frame. Each run takes a
// number, of which the kernel has 65,534, and gives it back some time after the
// frame is no more: where none is left, nothing has been sent.
func (c *cable) Write(q []byte) (int, error) {
	f := frame(c.from, c.to, q)
	copy(f, c.macs)
	const liveFrames = 2 // BPF_F_TEST_XDP_LIVE_FRAMES
	return len(q), c.s.client.Do(func() error {
		for end := time.Now().Add(patience); ; runtime.Gosched() {
			_, err := c.out.Run(&ebpf.RunOptions{Data: f, Repeat: 1, Flags: liveFrames})
			if !errors.Is(err, unix.ENOSPC) || time.Now().After(end) {
				return err
			}
		}
	})
}

// clientAt is the client that a socket's queries come from.
func clientAt(c net.Conn) answer.Client {
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return answer.Client{Addr: at.Addr().Unmap(), Port: at.Port(), Now: uint32(time.Now().Unix())}
}

// asks has all queries answered over the wire, octet for octet as the plan does,
// and gives the share of them, 0 to 1, that the kernel has answered.
func (s *site) asks(c net.Conn, queries [][]byte) float64 {
	s.Helper()
	return s.checks(c, queries, func(int, []byte) error { return nil })
}

// checks is asks with one more look at each answer.
func (s *site) checks(c net.Conn, queries [][]byte, more func(i int, answer []byte) error) float64 {
	s.Helper()
	before, plan, client := s.answered(), s.server.Plan(), clientAt(c)
	var w answer.Worker
	want := make([]byte, answer.MaxStream)
	s.must(exchange(c, queries, func(int) {}, func(i int, got []byte) error {
		if n, _ := plan.Answer(&w, queries[i], client, want); string(got) != string(want[:n]) {
			return fmt.Errorf("query %x\n%s\nis answered\n%x\n%s\nexpected\n%x\n%s", queries[i], text(queries[i]), got, text(got), want[:n], text(want[:n]))
		}
		return more(i, got)
	}))
	return float64(s.answered()-before) / float64(len(queries))
}

// answerable leaves those queries that get an answer, of which the time is no
// part.
func (s *site) answerable(queries [][]byte) [][]byte {
	var w answer.Worker
	out := make([]byte, answer.MaxStream)
	return slices.DeleteFunc(queries, func(q []byte) bool {
		n, o := s.server.Plan().Answer(&w, q, nobody, out)
		return n == 0 || o.Special || hasCookie(q)
	})
}

// hasCookie says whether the octets of a COOKIE option's head are in a message.
func hasCookie(q []byte) bool { return strings.Contains(string(q), "\x00\x0a\x00") }

// lost is how many datagrams found no room in a namespace's sockets.
func (s *site) lost() (n int) {
	s.Helper()
	for _, ns := range []interface{ Do(func() error) error }{s.ns, s.client} {
		s.must(ns.Do(func() error {
			for _, file := range []string{"snmp", "snmp6"} {
				text, err := os.ReadFile("/proc/thread-self/net/" + file)
				if err != nil {
					return err
				}
				n += receiveErrors(string(text))
			}
			return nil
		}))
	}
	return n
}

// receiveErrors reads RcvbufErrors of UDP out of the kernel's counters.
func receiveErrors(text string) (n int) {
	var head []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "Udp6RcvbufErrors":
			fmt.Sscan(f[1], &n)
		case len(f) > 0 && f[0] == "Udp:" && head == nil:
			head = f
		case len(f) > 0 && f[0] == "Udp:":
			if i := slices.Index(head, "RcvbufErrors"); i > 0 {
				fmt.Sscan(f[i], &n)
			}
		}
	}
	return n
}

// bothWays runs a test twice at a device in a namespace: with the sockets
// answering, and natively in the kernel.
func bothWays(t *testing.T, start func(t *testing.T, off bool) *site, test func(s *site)) {
	for _, way := range []string{"sockets", "kernel"} {
		t.Run(way, func(t *testing.T) {
			s := start(t, way == "sockets")
			test(s)
			if off := way == "sockets"; off != (s.answered() == 0) {
				t.Errorf("%d answered in the kernel", s.answered())
			}
			if n := s.lost(); n > 0 {
				t.Errorf("%d datagrams lost in sockets' buffers", n)
			}
		})
	}
}
