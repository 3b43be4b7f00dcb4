package l7

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"crypto/tls"

	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// packets is one UDP socket, by which clients reach an https service's port by
// HTTP/3.
type packets struct {
	g       *Gateway
	at      netip.AddrPort
	serving PacketServer
	s       *server // what its sessions belong to; it has no connections of its own
	ended   chan struct{}
}

// ListenPacket opens a UDP socket at an address that need not be there yet.
// SO_REUSEPORT lets another process of this node take its place, and this one
// open another while clients of the first are still let go.
func ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if network == "udp6" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		var err error
		if e := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), level, option, 1); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
		}); e != nil {
			return e
		}
		return err
	}}
	return lc.ListenPacket(ctx, network, address)
}

// packetPorts lists the ports at which HTTP/3 is served: those of https
// services that have it on.
func (gen *generation) packetPorts(on bool) []uint16 {
	seen := map[uint16]bool{}
	var out []uint16
	for _, s := range gen.services {
		if !on || s == nil || s.spec.Protocol != fleet.HTTPS || !s.spec.HTTP3 {
			continue
		}
		for _, p := range s.spec.Ports {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// setAltSvc makes what answers over TLS say of HTTP/3 (RFC 7838).
func (gen *generation) setAltSvc(ports []uint16) {
	for _, p := range ports {
		gen.altSvc[p] = []byte(`h3=":` + strconv.Itoa(int(p)) + `"; ma=86400`)
	}
}

// openPackets binds the UDP sockets that gen needs and the Gateway does not
// have yet. On an error nothing stays open.
func (g *Gateway) openPackets(gen *generation) ([]*packets, error) {
	var out []*packets
	for _, a := range g.addresses(gen.world) {
		for _, port := range gen.packetPorts(g.cfg.HTTP3 != nil) {
			at := netip.AddrPortFrom(a, port)
			if g.packets[at] != nil {
				continue
			}
			p, err := g.openPacket(at)
			if err != nil {
				for _, p := range out {
					p.serving.Close()
				}
				return nil, fmt.Errorf("listen on %s/udp: %w", at, err)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func (g *Gateway) openPacket(at netip.AddrPort) (*packets, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	socket, err := g.cfg.ListenPacket(context.Background(), network, at.String())
	if err != nil {
		return nil, err
	}
	p := &packets{g: g, at: at, s: g.newServer(at.Port(), profile{protocol: fleet.HTTPS}), ended: make(chan struct{})}
	if p.serving, err = g.cfg.HTTP3.Listen(socket, g.tlsConfig(at.Port(), true), p.admit); err != nil {
		socket.Close()
		return nil, err
	}
	return p, nil
}

// admit gives a connection its session, unless it is refused for overload.
func (p *packets) admit(client, vip netip.AddrPort, state *tls.ConnectionState) (Session, func()) {
	if p.g.turnsAwayFrom(client.Addr()) {
		return nil, nil
	}
	x := &session{s: p.s, origin: new(origin), tls: state, id: p.g.sessions.Add(1)}
	x.from(client, vip)
	p.g.connOpened()
	return x, func() {
		x.end()
		p.g.connClosed()
	}
}

func (p *packets) serve() {
	defer close(p.ended)
	if err := p.serving.Serve(); err != nil {
		p.g.cfg.Logger.Warn("gateway: HTTP/3", "address", p.at, "err", err)
	}
}

// relistenPackets puts new sockets to work and drains those that gen does not
// want.
func (g *Gateway) relistenPackets(gen *generation, opened []*packets) {
	for _, p := range opened {
		g.packets[p.at] = p
		g.tasks.run(p.serve)
	}
	wanted := map[netip.AddrPort]bool{}
	for _, a := range g.addresses(gen.world) {
		for _, port := range gen.packetPorts(g.cfg.HTTP3 != nil) {
			wanted[netip.AddrPortFrom(a, port)] = true
		}
	}
	for at, p := range g.packets {
		if !wanted[at] {
			delete(g.packets, at)
			p.s.leave()
			g.tasks.run(func() {
				ctx, cancel := context.WithTimeout(g.base, g.cfg.Grace+gen.drain)
				defer cancel()
				pauseFor(ctx, g.cfg.Grace)
				if err := p.serving.Shutdown(ctx); err != nil {
					g.cfg.Logger.Warn("gateway: requests were cut off", "address", p.at, "err", err)
				}
				p.serving.Close()
			})
		}
	}
}

func (p *packets) shutdown(ctx context.Context) error {
	p.s.leave()
	return p.serving.Shutdown(ctx)
}

// shutdownPackets lets all connections of HTTP/3 end in good order.
func (g *Gateway) shutdownPackets(ctx context.Context, list []*packets) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, p := range list {
		wg.Go(func() { errs[i] = p.shutdown(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
