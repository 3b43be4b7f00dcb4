//go:build linux

package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dial opens a connection from inside the namespace. The address must be
// numeric: a name would be looked up on another thread, in another namespace.
func (n *NS) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("%s: dial: %w", n.Name, err)
	}
	err = n.Enter(func() error {
		// The socket is made by this goroutine, on this thread, since there is
		// one address only and so no race between several.
		d := net.Dialer{}
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a stream listener inside the namespace.
func (n *NS) Listen(network, address string) (l net.Listener, err error) {
	err = n.Enter(func() error {
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram socket inside the namespace; IPv6 also at an
// address that is local by a route alone, as IPv4 is anyway.
func (n *NS) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Enter(func() error {
		lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) (err error) {
			if network == "udp6" {
				err = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1) })
			}
			return err
		}}
		c, err = lc.ListenPacket(context.Background(), network, address)
		return err
	})
	return c, err
}

// Holds says whether the kernel takes packets for an address as its own: nil if it
// does.
func (n *NS) Holds(a netip.Addr) error {
	routes, err := n.nl.RouteGet(a.AsSlice())
	if err != nil {
		return fmt.Errorf("%s: route of %s: %w", n.Name, a, err)
	}
	if len(routes) == 0 || routes[0].Type != unix.RTN_LOCAL {
		return fmt.Errorf("%s: %s is not its own", n.Name, a)
	}
	return nil
}
