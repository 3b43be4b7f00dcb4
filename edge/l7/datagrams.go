package l7

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/overload"
	"meridian/fleet"
)

const (
	maxDatagram   = 64 << 10
	datagramQueue = 4 << 20 // octets that the kernel may keep for a socket to read
	sweepEvery    = 250 * time.Millisecond
	// unanswered bounds how long a flow stays to which no endpoint has said anything:
	// its source may be forged.
	unanswered = 10 * time.Second
	// quiet is how long a flow must have been silent to be let go when its port is.
	quiet = time.Second
)

// datagrams is a UDP port of a VIP whose datagrams are passed on. A client's, from
// one address and port, are a flow, which keeps its endpoint. One goroutine reads
// the socket and has the flows to itself; each flow has one that reads answers.
type datagrams struct {
	g      *Gateway
	at     netip.AddrPort // as bound for clients: says the port
	socket *net.UDPConn
	flows  map[netip.AddrPort]*flow
	swept  moment

	readers sync.WaitGroup
	leaving atomic.Bool
	handed  atomic.Bool   // another process reads the socket
	ended   chan struct{} // closed when all is gone
}

// openDatagrams binds the UDP ports that gen needs and the Gateway does not have.
// On an error nothing stays open.
func (g *Gateway) openDatagrams(gen *generation) ([]*datagrams, error) {
	var out []*datagrams
	for at := range g.datagramPorts(gen) {
		if g.datagrams[at] != nil {
			continue
		}
		network := "udp4"
		if at.Addr().Is6() {
			network = "udp6"
		}
		c, err := g.cfg.ListenPacket(context.Background(), network, at.String())
		socket, ok := c.(*net.UDPConn)
		if err == nil && !ok {
			err = errors.New("not a UDP socket")
		}
		if err != nil {
			for _, d := range out {
				d.socket.Close()
			}
			return nil, fmt.Errorf("listen on %s: %w", at, err)
		}
		_ = socket.SetReadBuffer(datagramQueue) // as much as the kernel allows
		out = append(out, &datagrams{g: g, at: at, socket: socket, flows: map[netip.AddrPort]*flow{}, ended: make(chan struct{})})
	}
	return out, nil
}

func (g *Gateway) datagramPorts(gen *generation) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, a := range g.addresses(gen.world) {
		for _, port := range gen.table.DatagramPorts() {
			out[netip.AddrPortFrom(a, port)] = true
		}
	}
	return out
}

// relay puts new ports to work and lets those go that gen does not want.
func (g *Gateway) relay(gen *generation, opened []*datagrams) {
	for _, d := range opened {
		g.datagrams[d.at] = d
		g.tasks.run(d.serve)
	}
	wanted := g.datagramPorts(gen)
	for at, d := range g.datagrams {
		if !wanted[at] {
			delete(g.datagrams, at)
			g.tasks.run(func() {
				ctx, cancel := context.WithTimeout(g.base, g.cfg.Grace+gen.drain)
				defer cancel()
				pauseFor(ctx, g.cfg.Grace)
				d.shutdown(ctx)
				d.close()
			})
		}
	}
}

// shutdown takes no new flows and waits for those there are to fall silent.
func (d *datagrams) shutdown(ctx context.Context) error {
	d.leaving.Store(true)
	select {
	case <-d.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *datagrams) close() { d.socket.Close() }

// handOver leaves the socket to another process to read. What endpoints say to
// flows that are here is still passed on, until they fall silent.
func (d *datagrams) handOver() {
	d.leaving.Store(true)
	d.handed.Store(true)
	d.socket.SetReadDeadline(past)
}

// serve reads clients' datagrams until the socket is closed, or the last flow of a
// port that is to go has gone.
func (d *datagrams) serve() {
	defer close(d.ended)
	defer d.end()
	b := make([]byte, maxDatagram)
	d.sweep(d.g.now())
	for {
		if d.handed.Load() {
			d.outlive()
			return
		}
		n, from, err := d.socket.ReadFromUDPAddrPort(b)
		now := d.g.now()
		if d.swept.add(sweepEvery).passed(now) {
			if d.sweep(now); d.leaving.Load() && len(d.flows) == 0 {
				return
			}
		}
		switch {
		case err == nil:
			d.deliver(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), now)
		case errors.Is(err, net.ErrClosed):
			return
		case !errors.Is(err, os.ErrDeadlineExceeded):
			d.g.metrics.stress.dropped.WithLabelValues(dropSocket).Inc()
		}
	}
}

// outlive lets the flows end that were here when the socket was handed over.
func (d *datagrams) outlive() {
	for len(d.flows) > 0 && pauseFor(d.g.base, sweepEvery) {
		d.sweep(d.g.now())
	}
}

func (d *datagrams) end() {
	d.socket.Close()
	for from, f := range d.flows {
		d.remove(from, f)
	}
	d.readers.Wait()
}

// sweep lets flows go that have been silent too long; the socket is read until the
// next is due.
func (d *datagrams) sweep(now moment) {
	d.swept = now
	d.socket.SetReadDeadline(d.g.time(now.add(sweepEvery)))
	if d.handed.Load() { // meanwhile
		d.socket.SetReadDeadline(past)
	}
	for from, f := range d.flows {
		if f.dead.Load() || f.last().add(d.patience(f)).passed(now) {
			d.remove(from, f)
		}
	}
}

// patience is how long a flow may be silent.
func (d *datagrams) patience(f *flow) time.Duration {
	limit := f.service.spec.Timeouts.Idle.D()
	switch {
	case d.leaving.Load():
		return min(limit, quiet)
	case f.heard.Load() == 0:
		return min(limit, unanswered)
	}
	return limit
}

func (d *datagrams) remove(from netip.AddrPort, f *flow) {
	delete(d.flows, from)
	f.close()
}

// deliver passes a client's datagram on.
func (d *datagrams) deliver(b []byte, from netip.AddrPort, now moment) {
	gen := d.g.gen.Load()
	f := d.flows[from]
	if f == nil || !f.stays(gen) {
		if f = d.flow(gen, from, f, now); f == nil {
			return
		}
	}
	f.seen.Store(int64(now))
	if _, err := f.to.Write(b); err != nil {
		f.fail()
		return
	}
	f.stats.received.Add(float64(len(b)))
	f.stats.datagrams[0].Inc()
}

// flow makes the client's flow, in the place of a former one if there was one.
func (d *datagrams) flow(gen *generation, from netip.AddrPort, was *flow, now moment) *flow {
	var tried balance.Tried
	if was != nil {
		d.remove(from, was)
		if was.gen == gen {
			tried.Add(was.index)
		}
	}
	s := gen.datagrams(d.at.Port())
	if s == nil || d.leaving.Load() && !d.handed.Load() && was == nil || !d.g.mayFlow() && !d.evict(now) {
		d.g.metrics.stress.dropped.WithLabelValues(dropFull).Inc()
		return nil
	}
	if d.g.sheds(overload.Refuse) || d.g.rejects(s.spec.Priority) {
		d.g.metrics.stress.shed.WithLabelValues(shedFlow).Inc()
		return nil
	}
	f, err := d.connect(gen, s, from, &tried)
	if err != nil {
		d.g.metrics.stress.dropped.WithLabelValues(dropNoEndpoint).Inc()
		s.stats.flags[flagNoEndpoint].Inc()
		return nil
	}
	d.flows[from] = f
	d.readers.Go(f.run)
	return f
}

// connect opens a socket to an endpoint.
func (d *datagrams) connect(gen *generation, s *service, from netip.AddrPort, tried *balance.Tried) (*flow, error) {
	var key uint64
	if s.spec.RoutingPolicy == fleet.ConsistentHash {
		key = balance.Key(from.Addr())
	}
	p := s.pools[0]
	for range len(p.endpoints) {
		i := p.balancer.Pick(balance.Ask{Key: key, Draw: rand.Uint64(), Now: time.Duration(d.g.now())}, tried)
		if i < 0 {
			break
		}
		to, err := d.dial(p.endpoints[i].address, s, from)
		if err != nil {
			tried.Add(i)
			p.endpoints[i].vital.doubt()
			continue
		}
		raw, err := to.SyscallConn()
		if err != nil {
			to.Close()
			return nil, err
		}
		return newFlow(d, gen, s, i, from, to, raw), nil
	}
	return nil, errors.New("no endpoint")
}

func (d *datagrams) dial(address string, s *service, from netip.AddrPort) (*net.UDPConn, error) {
	var dial net.Dialer
	if s.spec.ClientIP == fleet.ClientIPTransparent {
		transparent(&dial, "udp", from.Addr())
	}
	c, err := dial.DialContext(d.g.base, "udp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// mayFlow says whether there is room for one more flow.
func (g *Gateway) mayFlow() bool { return g.flows.Load() < int64(g.cfg.MaxFlows) }

// evict makes room: of a few flows at random the one goes that has had no answer,
// or has been silent the longest. So those of forged sources push out each other.
func (d *datagrams) evict(now moment) bool {
	var worst *flow
	var which netip.AddrPort
	most, n := int64(-1), 0
	for from, f := range d.flows {
		silent := int64(now - f.last())
		if f.heard.Load() == 0 {
			silent += int64(time.Hour)
		}
		if silent > most {
			worst, which, most = f, from, silent
		}
		if n++; n == 16 {
			break
		}
	}
	if worst == nil {
		return false
	}
	d.g.metrics.stress.evicted.Inc()
	d.remove(which, worst)
	return true
}
