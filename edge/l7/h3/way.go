package h3

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// way leads packets to another process of this node, one that was here before
// and has the connection: one message a packet, with whom it is from.
type way struct {
	generation uint32
	conn       *net.UnixConn
	raw        syscall.RawConn
	buffer     []byte
	send       func(fd uintptr) bool // made once
	err        error                 // of send
}

// name is what a way to the process of that generation is called, for packets
// that come to a socket at an address.
func name(generation uint32, at string) string { return fmt.Sprintf("%d %s", generation, at) }

func wayOf(name string, f *os.File) (at string, w *way, err error) {
	defer f.Close()
	number, at, ok := strings.Cut(name, " ")
	generation, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil {
		return "", nil, fmt.Errorf("%q is no generation and address", name)
	}
	conn, err := unixConn(f)
	if err != nil {
		return "", nil, err
	}
	w, err = newWay(uint32(generation), conn)
	return at, w, err
}

func newWay(generation uint32, conn *net.UnixConn) (*way, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	w := &way{generation: generation, conn: conn, raw: raw}
	w.send = func(fd uintptr) bool {
		w.err = unix.Sendto(int(fd), w.buffer, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		return true
	}
	return w, nil
}

func unixConn(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), c.Close())
	}
	return u, nil
}

// pair makes the two ends of a way.
func pair() (in, out *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	a, b := os.NewFile(uintptr(fds[0]), "in"), os.NewFile(uintptr(fds[1]), "out")
	defer a.Close()
	defer b.Close()
	if in, err = unixConn(a); err != nil {
		return nil, nil, err
	}
	if out, err = unixConn(b); err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, out, nil
}

// The form of a message: length of the address, address, port, length of the
// control messages (of ECN), these, and the packet.

// forward sends a packet on. Where the way is full the packet is lost, as it
// would be in a full socket. An error: nobody reads the other end any more.
func (w *way) forward(m *ipv4.Message) (sent bool, err error) {
	from, ok := m.Addr.(*net.UDPAddr)
	if !ok {
		return false, nil
	}
	at := from.AddrPort()
	ip := at.Addr().Unmap().AsSlice()
	b := append(append(w.buffer[:0], byte(len(ip))), ip...)
	b = binary.BigEndian.AppendUint16(b, at.Port())
	b = append(append(b, byte(m.NN)), m.OOB[:m.NN]...)
	w.buffer = append(b, m.Buffers[0][:m.N]...)
	if err := w.raw.Write(w.send); err != nil {
		return false, err
	}
	if errors.Is(w.err, unix.EAGAIN) || errors.Is(w.err, unix.ENOBUFS) || errors.Is(w.err, unix.EINTR) {
		return false, nil
	}
	return w.err == nil, w.err
}

// receive reads a message of a way into m; false: it is none.
func receive(b []byte, m *ipv4.Message) bool {
	part := func(n int) []byte {
		if len(b) < n {
			return nil
		}
		out := b[:n]
		b = b[n:]
		return out
	}
	var ip netip.Addr
	n := part(1)
	if n == nil {
		return false
	}
	ip, ok := netip.AddrFromSlice(part(int(n[0])))
	port := part(2)
	if n = part(1); !ok || port == nil || n == nil {
		return false
	}
	oob := part(int(n[0]))
	if oob == nil && n[0] > 0 || len(oob) > len(m.OOB) || len(b) > len(m.Buffers[0]) || len(b) == 0 {
		return false
	}
	m.NN, m.N = copy(m.OOB, oob), copy(m.Buffers[0], b)
	m.Addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port)))
	return true
}
