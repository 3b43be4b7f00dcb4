package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// opened is one place where the server listens, and its sockets.
type opened struct {
	place
	addrs []netip.AddrPort // with the port that was given for port 0
	udp   []*udpSocket
	tcp   []*streamListener
	quic  []*quicSocket
	stats []*stats

	stop func()        // ends what serves the sockets; nil while nothing does
	done chan struct{} // closed when that has ended
}

// quicSocket is a socket for dns/quic.
type quicSocket struct {
	net.PacketConn
	endpoint *Endpoint
}

func (o *opened) close() {
	for _, u := range o.udp {
		u.close()
	}
	for _, l := range o.tcp {
		l.Close()
	}
	for _, q := range o.quic {
		q.Close()
	}
}

// Open opens the sockets, so that the caller may give up rights before Run. A
// second call does nothing.
func (s *Server) Open(ctx context.Context) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if len(s.open) > 0 {
		return nil
	}
	want := s.settings.Load().listen
	if len(want) == 0 {
		return errors.New("dns server: no address to listen on")
	}
	fresh, err := s.openNew(ctx, want)
	if err != nil {
		return err
	}
	s.install(fresh, want)
	return nil
}

// retry is how often the server tries to listen where it could not.
const retry = time.Second

// listenAtLast opens the sockets. Where the Spec says at which addresses, one
// that is not free, or not there, is waited for: a program that ended could not
// be told of another.
func (s *Server) listenAtLast(ctx context.Context) error {
	said := ""
	for {
		err := s.Open(ctx)
		if err == nil || len(s.cfg.Listen) > 0 {
			return err
		}
		if why := err.Error(); why != said {
			said = why
			s.log.Error("cannot listen; trying again until it can, or the Spec says otherwise", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.another:
		case <-time.After(retry):
		}
	}
}

// Listening says whether the sockets are open.
func (s *Server) Listening() bool {
	s.opening.Lock()
	defer s.opening.Unlock()
	return len(s.open) > 0
}

// Addrs lists the addresses of UDP and TCP, with the ports that were given for
// port 0.
func (s *Server) Addrs() []netip.AddrPort { return s.AddrsOf(UDP) }

// AddrsOf lists the addresses of a transport; UDP and TCP have the same.
func (s *Server) AddrsOf(t Transport) []netip.AddrPort {
	if t == TCP {
		t = UDP
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	var out []netip.AddrPort
	for _, o := range s.open {
		if o.transport == t {
			out = append(out, o.addrs...)
		}
	}
	return out
}

// portTries is how often a port is looked for that is free for UDP and TCP.
const portTries = 100

// openNew opens the places that are wanted and not open yet: all or none.
func (s *Server) openNew(ctx context.Context, want []place) (fresh []*opened, err error) {
	for _, p := range want {
		if slices.ContainsFunc(s.open, func(o *opened) bool { return o.same(p) }) {
			continue
		}
		o := &opened{place: p}
		fresh = append(fresh, o)
		if err := s.openFree(ctx, o); err != nil {
			for _, o := range fresh {
				o.close()
			}
			return nil, fmt.Errorf("dns server: %s: %w", p.field, err)
		}
	}
	return fresh, nil
}

// install adds the places just opened, has them served if Run runs, and closes
// those that are not wanted any more.
func (s *Server) install(fresh []*opened, want []place) {
	for _, o := range fresh {
		s.open = append(s.open, o)
		s.stats = append(s.stats, o.stats...)
		if s.running != nil {
			s.serve(o)
		}
	}
	s.open = slices.DeleteFunc(s.open, func(o *opened) bool {
		if slices.ContainsFunc(want, o.same) {
			return false
		}
		s.log.Info("serving DNS no longer", "transport", o.place, "addresses", o.addrs)
		s.retire(o)
		return true
	})
}

// retire closes a place. What serves it ends by itself: a message with the
// Handler may wait for what is being applied just now. The place's counters
// then go on in those of its transport.
func (s *Server) retire(o *opened) {
	for _, st := range o.stats { // what the kernel tells ends with the socket
		if st.conn != nil {
			st.kernel.Add(kernelDrops(st.conn))
			st.conn = nil
		}
	}
	fold := func() {
		for _, st := range o.stats {
			st.addTo(&s.retired[st.transport])
		}
		s.stats = slices.DeleteFunc(s.stats, func(st *stats) bool { return slices.Contains(o.stats, st) })
	}
	if o.stop == nil {
		o.close()
		fold()
		return
	}
	o.stop()
	for _, u := range o.udp {
		u.stop()
	}
	for _, l := range o.tcp {
		l.Close()
	}
	s.running.errgroup.Go(func() error {
		<-o.done
		s.opening.Lock()
		defer s.opening.Unlock()
		o.close() // QUIC has said goodbye by now
		fold()
		return nil
	})
}

// serve starts the goroutines of a place. It ends with Run, or with o.stop.
func (s *Server) serve(o *opened) {
	s.log.Info("serving DNS", "transport", o.place, "addresses", o.addrs)
	ctx, cancel := context.WithCancel(s.running.ctx)
	o.stop, o.done = cancel, make(chan struct{})
	var sockets sync.WaitGroup
	run := func(f func() error) {
		sockets.Add(1)
		s.running.errgroup.Go(func() error { defer sockets.Done(); return f() })
	}
	for _, u := range o.udp {
		run(func() error { return u.serve(ctx, s) })
	}
	for _, l := range o.tcp {
		run(func() error { return l.serve(ctx, s) })
	}
	for _, q := range o.quic {
		run(func() error { return s.cfg.QUIC.Serve(ctx, q.PacketConn, q.endpoint) })
	}
	s.running.errgroup.Go(func() error {
		defer close(o.done)
		defer cancel()
		sockets.Wait()
		return nil
	})
}

// openFree opens a place; of port 0 one that is free for UDP and for TCP.
func (s *Server) openFree(ctx context.Context, o *opened) error {
	p := o.place
	err := s.openAll(ctx, o)
	for try := 1; try < portTries && p.addr.Port() == 0 && errors.Is(err, syscall.EADDRINUSE); try++ {
		half := *o
		defer half.close() // only then, so that the system gives other ports meanwhile
		*o = opened{place: p}
		err = s.openAll(ctx, o)
	}
	return err
}

// openAll opens the sockets of a place. The families are kept apart: each
// socket speaks one.
func (s *Server) openAll(ctx context.Context, o *opened) error {
	a := o.addr
	if a.Addr() != netip.IPv6Unspecified() {
		_, err := s.openOne(ctx, o, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		return err
	}
	port, err := s.openOne(ctx, o, netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port()))
	if err != nil {
		return err
	}
	_, err = s.openOne(ctx, o, netip.AddrPortFrom(a.Addr(), port))
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		s.log.Warn("no IPv6 here: serving IPv4 alone", "err", err)
		return nil
	}
	return err
}

// openOne opens the sockets of one address: TCP first, which finds a port that
// is free for both.
func (s *Server) openOne(ctx context.Context, o *opened, a netip.AddrPort) (port uint16, err error) {
	if o.transport != QUIC {
		if a, err = s.listen(ctx, o, a); err != nil {
			return 0, err
		}
	}
	switch o.transport {
	case UDP:
		for range s.cfg.Sockets {
			if err := s.openUDP(ctx, o, a); err != nil {
				return 0, err
			}
		}
	case QUIC, HTTPS:
		if s.cfg.QUIC == nil {
			break
		}
		if a, err = s.openQUIC(ctx, o, a); err != nil {
			return 0, err
		}
	}
	o.addrs = append(o.addrs, a)
	return a.Port(), nil
}

func (s *Server) listen(ctx context.Context, o *opened, a netip.AddrPort) (netip.AddrPort, error) {
	if err := s.guard(ctx, a); err != nil {
		return a, err
	}
	lc := net.ListenConfig{Control: controlTCP}
	l, err := lc.Listen(ctx, network("tcp", a), a.String())
	if err != nil {
		return a, err
	}
	t := o.transport
	if t == UDP {
		t = TCP
	}
	st := o.newStats(t)
	a = netip.AddrPortFrom(a.Addr(), l.Addr().(*net.TCPAddr).AddrPort().Port())
	tcp := &streamListener{Listener: l, transport: t, stats: st}
	if t == HTTPS {
		tcp.web = &web{Endpoint: &Endpoint{Transport: HTTPS, server: s, stats: st}}
		if s.cfg.QUIC != nil {
			tcp.web.altSvc = fmt.Sprintf(`h3=":%d"; ma=3600`, a.Port())
		}
	}
	o.tcp = append(o.tcp, tcp)
	return a, nil
}

// guard keeps two programs from listening at one address, which SO_REUSEPORT
// would let pass. Among our own sockets it is wanted: a new one is open before
// the old one closes.
func (s *Server) guard(ctx context.Context, a netip.AddrPort) error {
	for _, o := range s.open {
		for _, have := range o.addrs {
			if have.Port() == a.Port() {
				return nil
			}
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, network("tcp", a), a.String())
	if err != nil {
		return err
	}
	return l.Close()
}

func network(kind string, a netip.AddrPort) string {
	if a.Addr().Is6() {
		return kind + "6"
	}
	return kind + "4"
}

func (s *Server) openUDP(ctx context.Context, o *opened, a netip.AddrPort) error {
	anywhere := a.Addr().IsUnspecified()
	lc := net.ListenConfig{Control: controlUDP(a.Addr().Is6(), anywhere)}
	c, err := lc.ListenPacket(ctx, network("udp", a), a.String())
	if err != nil {
		return err
	}
	u, err := newUDPSocket(c.(*net.UDPConn), anywhere, o.newStats(UDP))
	if err != nil {
		c.Close()
		return err
	}
	u.stats.conn = u.raw
	o.udp = append(o.udp, u)
	return nil
}

func (s *Server) openQUIC(ctx context.Context, o *opened, a netip.AddrPort) (netip.AddrPort, error) {
	lc := net.ListenConfig{Control: controlQUIC}
	c, err := lc.ListenPacket(ctx, network("udp", a), a.String())
	if err != nil {
		return a, err
	}
	e := &Endpoint{Transport: o.transport, server: s, stats: o.newStats(o.transport)}
	if o.transport == HTTPS {
		e.HTTP = &web{Endpoint: e}
	}
	e.stats.conn, _ = c.(*net.UDPConn).SyscallConn()
	a = netip.AddrPortFrom(a.Addr(), c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	if o.proxied {
		c = &proxiedConn{c, c.(*net.UDPConn), s, e.stats}
	}
	o.quic = append(o.quic, &quicSocket{c, e})
	return a, nil
}

func (o *opened) newStats(t Transport) *stats {
	st := &stats{transport: t}
	o.stats = append(o.stats, st)
	return st
}
