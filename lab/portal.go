//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Ports of this machine's 127.0.0.1 that lead inside.
const (
	portalDNS       = 5300 // a living nameserver; the regions' own follow
	portalHTTPS     = 8443 // the first city's browser; the other cities follow
	portalDashboard = 8080
)

// A portal leads loopback ports of this machine to machines of the lab.
type portal struct {
	lab *Lab
	log *slog.Logger
	wg  sync.WaitGroup

	mu     sync.Mutex
	open   []io.Closer
	closed bool
}

// openPortal binds every port and serves until close.
func openPortal(l *Lab, log *slog.Logger) (*portal, error) {
	p := &portal{lab: l, log: log}
	if err := p.bind(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *portal) bind() error {
	top := p.lab.Topology
	if err := p.nameserver(portalDNS, p.anyRegion); err != nil {
		return err
	}
	for i := range top.Regions {
		r := &top.Regions[i]
		if err := p.nameserver(portalDNS+1+i, func() *Region { return r }); err != nil {
			return err
		}
	}
	for i := range top.Cities {
		c, err := newClient(p.lab, &top.Cities[i])
		if err != nil {
			return err
		}
		if err := p.stream(portalHTTPS+i, c.connect); err != nil {
			return err
		}
	}
	return p.stream(portalDashboard, func(ctx context.Context) (net.Conn, error) {
		r := p.anyRegion()
		n := r.Of(Gslb)[0]
		return p.lab.Dial(ctx, n.Name, "tcp", p.lab.own(r, n, dashboardPort))
	})
}

// connect opens a connection to where the city's browser would go for the
// regional name.
func (c *client) connect(ctx context.Context) (net.Conn, error) {
	addrs, err := c.lookup(ctx, question{RegionalName, dns.TypeA})
	if err != nil {
		return nil, err
	}
	return c.lab.Dial(ctx, c.city.ID, "tcp", netip.AddrPortFrom(addrs[0], c.lab.Topology.HTTPSPort).String())
}

// anyRegion gives the first region that is alive, or the first.
func (p *portal) anyRegion() *Region {
	for i := range p.lab.Topology.Regions {
		if r := &p.lab.Topology.Regions[i]; p.lab.Alive(r.ID) {
			return r
		}
	}
	return &p.lab.Topology.Regions[0]
}

// nameserver leads a port, by UDP and TCP, to the nameserver of a region.
func (p *portal) nameserver(port int, pick func() *Region) error {
	dial := func(network string) func(context.Context) (net.Conn, error) {
		return func(ctx context.Context) (net.Conn, error) {
			r := pick()
			v4, _ := p.lab.Topology.Addr(r, r.Of(Gslb)[0])
			from := p.lab.Topology.CitiesOf(r.ID)[0].ID
			return p.lab.Dial(ctx, from, network, netip.AddrPortFrom(v4, p.lab.Topology.DNSPort).String())
		}
	}
	if err := p.stream(port, dial("tcp")); err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	p.keep(conn)
	p.wg.Go(func() { p.datagrams(conn, dial("udp")) })
	return nil
}

// stream leads a TCP port to what dial opens.
func (p *portal) stream(port int, dial func(context.Context) (net.Conn, error)) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	p.keep(l)
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.wg.Go(func() { p.join(c, dial) })
		}
	})
	return nil
}

// portalPatience limits the way in.
const portalPatience = 5 * time.Second

// join copies both ways until either side ends.
func (p *portal) join(outer net.Conn, dial func(context.Context) (net.Conn, error)) {
	defer outer.Close()
	if !p.keep(outer) {
		return
	}
	defer p.drop(outer)
	ctx, cancel := context.WithTimeout(context.Background(), portalPatience)
	defer cancel()
	inner, err := dial(ctx)
	if err != nil {
		p.log.Debug("no way in", "err", err)
		return
	}
	defer inner.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(inner, outer) // ends with the connection
		inner.Close()
	}()
	_, _ = io.Copy(outer, inner)
	outer.Close()
	<-done
}

// datagrams sends each query in by a socket of its own and brings the first
// answer back.
func (p *portal) datagrams(conn net.PacketConn, dial func(context.Context) (net.Conn, error)) {
	buf := make([]byte, 65535)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		query := append([]byte(nil), buf[:n]...)
		p.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), portalPatience)
			defer cancel()
			inner, err := dial(ctx)
			if err != nil {
				return
			}
			defer inner.Close()
			if err := inner.SetDeadline(time.Now().Add(portalPatience)); err != nil {
				return
			}
			if _, err := inner.Write(query); err != nil {
				return
			}
			reply := make([]byte, 65535)
			if n, err := inner.Read(reply); err == nil {
				_, _ = conn.WriteTo(reply[:n], from) // a client that has gone
			}
		})
	}
}

// keep notes what close is to close; after it, keep closes that itself and
// says false.
func (p *portal) keep(c io.Closer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.open = append(p.open, c)
	return true
}

func (p *portal) drop(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range p.open {
		if o == c {
			p.open = append(p.open[:i], p.open[i+1:]...)
			return
		}
	}
}

// close closes the ports and what came by them.
func (p *portal) close() error {
	p.mu.Lock()
	open := slices.Clone(p.open)
	p.closed = true
	p.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	p.wg.Wait()
	return nil
}
