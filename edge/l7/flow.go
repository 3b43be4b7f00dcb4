package l7

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// flow is one client's datagrams at one port, and the answers to them.
type flow struct {
	d      *datagrams
	client netip.AddrPort
	to     *net.UDPConn // connected to the endpoint: nobody else's answers come
	raw    syscall.RawConn
	vital  *vital

	stats *serviceStats

	// The port's reader alone uses these.
	gen     *generation // that it was found good in
	service *service
	index   int // in the balancer of the generation that it was made in

	seen, heard atomic.Int64 // moments of the last datagram from the client and to it
	dead        atomic.Bool  // the endpoint cannot be reached
	once        sync.Once
}

func newFlow(d *datagrams, gen *generation, s *service, i int, from netip.AddrPort, to *net.UDPConn, raw syscall.RawConn) *flow {
	f := &flow{d: d, client: from, to: to, raw: raw, stats: s.stats, gen: gen, service: s, index: i, vital: s.pools[0].endpoints[i].vital}
	f.seen.Store(int64(d.g.now()))
	f.vital.Begin()
	d.g.flows.Add(1)
	s.stats.streams.Inc()
	s.stats.flows.Inc()
	return f
}

// close ends the flow; its reader then ends too.
func (f *flow) close() {
	f.once.Do(func() {
		f.to.Close()
		f.vital.End()
		f.d.g.flows.Add(-1)
		f.stats.flows.Dec()
	})
}

func (f *flow) last() moment { return moment(max(f.seen.Load(), f.heard.Load())) }

// stays says whether the flow may keep its endpoint: that is still the service's,
// though it may be draining, and is not down while another is better.
func (f *flow) stays(gen *generation) bool {
	if f.dead.Load() {
		return false
	}
	if f.gen != gen {
		s := gen.datagrams(f.d.at.Port())
		if s == nil || s.spec.Service != f.service.spec.Service || !s.pools[0].keeps[f.vital] {
			return false
		}
		f.gen, f.service, f.index = gen, s, s.pools[0].indexOf(f.vital)
	}
	return f.vital.State() != fleet.Down || !f.service.pools[0].better()
}

// better says whether a member of the pool is not down.
func (p *pool) better() bool {
	for _, e := range p.endpoints {
		if e.vital.State() != fleet.Down {
			return true
		}
	}
	return false
}

// indexOf finds an endpoint in the balancer, -1 where it drains.
func (p *pool) indexOf(v *vital) int {
	for i, e := range p.endpoints {
		if e.vital == v {
			return i
		}
	}
	return -1
}

// fail notes that the endpoint takes no datagrams: the client's next goes to
// another.
func (f *flow) fail() {
	if f.dead.CompareAndSwap(false, true) {
		f.stats.flags[flagConnect].Inc()
		f.vital.doubt()
	}
}

// room is memory for one datagram.
type room [maxDatagram]byte

var rooms = sync.Pool{New: func() any { return new(room) }}

// run passes answers back until the flow is closed. It holds no memory for a
// datagram while it waits for one.
func (f *flow) run() {
	var got *room
	var n int
	var failed error
	look := func(fd uintptr) bool {
		b := rooms.Get().(*room)
		for {
			switch n, failed = unix.Read(int(fd), b[:]); failed {
			case nil:
				got = b
				return true
			case unix.EINTR:
			case unix.EAGAIN:
				rooms.Put(b)
				return false
			default:
				rooms.Put(b)
				return true
			}
		}
	}
	for {
		if err := f.raw.Read(look); err != nil {
			return // closed
		}
		if failed != nil {
			f.fail() // the endpoint's host says that nobody is there (ICMP)
			continue
		}
		f.heard.Store(int64(f.d.g.now()))
		f.stats.sent.Add(float64(n))
		f.stats.datagrams[1].Inc()
		_, _ = f.d.socket.WriteToUDPAddrPort(got[:n], f.client) // as a network, which may lose it
		rooms.Put(got)
	}
}
