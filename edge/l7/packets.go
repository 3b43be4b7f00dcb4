package l7

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// listenPacket opens a UDP socket at an address that need not be there yet.
// SO_REUSEPORT lets another process of this node take its place.
func listenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = packetOptions(int(fd), network) }); e != nil {
			return e
		}
		return err
	}}
	return lc.ListenPacket(ctx, network, address)
}

func packetOptions(fd int, network string) error {
	level, freebind := unix.IPPROTO_IP, unix.IP_FREEBIND
	if strings.HasSuffix(network, "6") {
		level, freebind = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	if err := unix.SetsockoptInt(fd, level, freebind, 1); err != nil {
		return fmt.Errorf("set IP_FREEBIND: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	return nil
}

// packets is one UDP socket, whose connections the HTTP/3 carrier serves.
type packets struct {
	g       *Gateway
	at      netip.AddrPort
	server  PacketServer
	leaving chan struct{} // closed: clients are asked to go
	once    sync.Once
	current atomic.Pointer[server] // what sessions that begin are of
}

// openPackets binds what gen needs for HTTP/3 and the Gateway does not have
// yet. On an error nothing stays open.
func (g *Gateway) openPackets(gen *generation) ([]*packets, error) {
	var out []*packets
	for at := range g.wantedPackets(gen) {
		if g.packets[at] != nil {
			continue
		}
		p, err := g.newPackets(at)
		if err != nil {
			for _, p := range out {
				_ = p.server.Close() // it has begun nothing
			}
			return nil, fmt.Errorf("listen on %s, UDP: %w", at, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (g *Gateway) newPackets(at netip.AddrPort) (*packets, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	socket, err := g.cfg.ListenPacket(context.Background(), network, at.String())
	if err != nil {
		return nil, err
	}
	p := &packets{g: g, at: at, leaving: make(chan struct{})}
	if p.server, err = g.cfg.HTTP3.Listen(socket, g.tlsConfig(at.Port()), p.admit); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return p, nil
}

// wantedPackets lists where HTTP/3 is served: at the ports of https services
// that have it.
func (g *Gateway) wantedPackets(gen *generation) map[netip.AddrPort]profile {
	if g.cfg.HTTP3 == nil {
		return nil
	}
	out := map[netip.AddrPort]profile{}
	for _, port := range gen.table.Ports() {
		if port.Protocol != fleet.HTTPS || !gen.http3(port.Number) {
			continue
		}
		for _, a := range g.addresses(gen.world) {
			out[netip.AddrPortFrom(a, port.Number)] = profile{port.Protocol, gen.idle(port.Number)}
		}
	}
	return out
}

// http3 says whether a service at that port has HTTP/3.
func (gen *generation) http3(port uint16) bool {
	for _, s := range gen.services {
		if s != nil && s.spec.HTTP3 && slices.Contains(s.spec.Ports, port) {
			return true
		}
	}
	return false
}

// repacket puts new sockets to work and lets go of those that gen does not want.
func (g *Gateway) repacket(gen *generation, opened []*packets, limit time.Duration) {
	for _, p := range opened {
		g.packets[p.at] = p
	}
	wanted := g.wantedPackets(gen)
	for at, p := range g.packets {
		profile, ok := wanted[at]
		if !ok {
			delete(g.packets, at)
			p.retire(limit)
			continue
		}
		had := p.current.Load()
		if had != nil && had.profile == profile {
			continue
		}
		s := g.newServer(at.Port(), profile)
		s.leaving = p.leaving
		p.current.Store(s)
		if had == nil {
			g.tasks.run(p.serve)
		}
	}
}

func (p *packets) serve() {
	if err := p.server.Serve(); err != nil {
		p.g.cfg.Logger.Error("gateway: HTTP/3 is served no more", "address", p.at, "err", err)
	}
}

// admit begins a session.
func (p *packets) admit(client, vip netip.AddrPort, state *tls.ConnectionState) (Session, func()) {
	x := &session{s: p.current.Load(), tls: state, id: p.g.sessions.Add(1)}
	x.from(netip.AddrPortFrom(client.Addr().Unmap().WithZone(""), client.Port()), vip)
	p.g.connOpened()
	return x, func() {
		x.end()
		p.g.connClosed()
	}
}

// leave asks clients to go.
func (p *packets) leave() { p.once.Do(func() { close(p.leaving) }) }

// retire drains the socket in the background, as Gateway.retire does.
func (p *packets) retire(limit time.Duration) {
	p.leave()
	p.g.tasks.run(func() {
		ctx, cancel := context.WithTimeout(p.g.base, p.g.cfg.Grace+limit)
		defer cancel()
		pauseFor(ctx, p.g.cfg.Grace)
		if err := p.server.Shutdown(ctx); err != nil {
			p.g.cfg.Logger.Warn("gateway: requests were cut off", "address", p.at, "err", err)
		}
		p.close()
	})
}

func (p *packets) close() {
	p.leave()
	if err := p.server.Close(); err != nil {
		p.g.cfg.Logger.Debug("gateway: close", "address", p.at, "err", err)
	}
}

// altSvc tells clients of HTTP/3 at a port (RFC 7838 section 3). They may
// remember it for a day: where UDP does not get through they go on by TCP.
func altSvc(port uint16) []byte {
	b := append([]byte(nil), `h3=":`...)
	b = strconv.AppendUint(b, uint64(port), 10)
	return append(b, `"; ma=86400`...)
}
