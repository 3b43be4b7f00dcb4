//go:build linux

package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
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

// ListenPacket opens a datagram socket inside the namespace.
func (n *NS) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Enter(func() error {
		c, err = (&net.ListenConfig{}).ListenPacket(context.Background(), network, address)
		return err
	})
	return c, err
}
