package server

import (
	"hash/maphash"
	"sync/atomic"
	"syscall"

	"meridian/dns/answer"
	"meridian/fleet"
)

// Reasons for which a message or connection is dropped: those of answer.Drop,
// and the transports' own.
const (
	dropOversize   = iota + 3 // longer than any query that could be answered
	dropSend                  // the answer could not be sent, or was not taken in time
	dropConnection            // too many connections
	dropClient                // too many connections of one client
	dropReceive               // the kernel could not hand over messages
	dropSpecial               // too many transfers, updates and the like at a time
	dropProxy                 // a PROXY header that is wrong, missing, or from whom none is expected
	dropHandshake             // no TLS came about
	dropSlow                  // a message did not come whole in time
	dropProtocol              // a rule of the transport's protocol was broken
	dropReasons
)

var dropNames = [dropReasons]string{dropOversize: "oversize", dropSend: "send", dropConnection: "connections",
	dropClient: "client-connections", dropReceive: "receive", dropSpecial: "special", dropProxy: "proxy",
	dropHandshake: "handshake", dropSlow: "slow", dropProtocol: "protocol"}

func dropName(i int) string {
	if i < dropOversize {
		return answer.Drop(i).String()
	}
	return dropNames[i]
}

// Types are counted one by one where they are common.
var typeNames = [...]string{"other", "A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "DS", "HTTPS", "ANY", "DNSKEY", "SVCB", "CAA"}

func typeIndex(t uint16) int {
	switch t {
	case 1:
		return 1
	case 2:
		return 2
	case 5:
		return 3
	case 6:
		return 4
	case 12:
		return 5
	case 15:
		return 6
	case 16:
		return 7
	case 28:
		return 8
	case 33:
		return 9
	case 43:
		return 10
	case 65:
		return 11
	case 255:
		return 12
	case 48:
		return 13
	case 64:
		return 14
	case 257:
		return 15
	}
	return 0
}

var classNames = [...]string{"other", "IN", "CH", "ANY"}

func classIndex(c uint16) int {
	switch c {
	case 1:
		return 1
	case 3:
		return 2
	case 255:
		return 3
	}
	return 0
}

var rcodeNames = map[int]string{0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED",
	6: "YXDOMAIN", 9: "NOTAUTH", 16: "BADVERS", 23: "BADCOOKIE"}

const rcodes = 24

// counters are those of one socket, written by the goroutine that serves it (a
// listener's by its connections) and read by scrapes.
type counters struct {
	queries atomic.Uint64
	handed  atomic.Uint64 // to the Handler
	limited atomic.Uint64 // answers dropped by the rate limit
	slipped atomic.Uint64 // answers truncated by it
	calls   atomic.Uint64 // system calls of a UDP socket
	kernel  atomic.Uint64 // drops of sockets that are closed
	rcode   [rcodes]atomic.Uint64
	types   [len(typeNames)]atomic.Uint64
	classes [len(classNames)]atomic.Uint64
	drops   [dropReasons]atomic.Uint64
	zones   zoneCounts
}

// stats are what is noted of one socket.
type stats struct {
	counters
	transport Transport
	conn      syscall.RawConn // of a UDP socket; nil else

	drawn  atomic.Uint64 // see draw
	second atomic.Int64  // see due
	noted  atomic.Int64
	ring   ring
	_      [64]byte // so that sockets share no cache line
}

// count counts n messages of one outcome.
func (st *counters) count(o *answer.Outcome, n uint64) {
	if o.Drop != answer.Answered {
		st.drops[o.Drop].Add(n)
		return
	}
	st.queries.Add(n)
	st.types[typeIndex(o.Type)].Add(n)
	st.classes[classIndex(o.Class)].Add(n)
	if o.Rcode < rcodes {
		st.rcode[o.Rcode].Add(n)
	}
	if o.Zone != nil {
		st.zones.add(o.Zone.Name, n)
	}
}

// tally collects the outcomes of a batch, most of which are alike, so that the
// counters are touched once for each kind of outcome.
type tally struct {
	kinds [8]struct {
		outcome answer.Outcome
		n       uint64
	}
	n int
}

func (t *tally) add(st *stats, o *answer.Outcome) {
	for i := range t.kinds[:t.n] {
		if k := &t.kinds[i]; k.outcome == *o {
			k.n++
			return
		}
	}
	if t.n == len(t.kinds) {
		st.countAll(t)
	}
	t.kinds[t.n].outcome, t.kinds[t.n].n = *o, 1
	t.n++
}

// countAll counts what was collected.
func (st *stats) countAll(t *tally) {
	for i := range t.kinds[:t.n] {
		k := &t.kinds[i]
		st.count(&k.outcome, k.n)
		k.outcome.Zone = nil // not to hold on to it
	}
	t.n = 0
}

func (st *counters) drop(reason int) { st.drops[reason].Add(1) }

// add adds another socket's counters.
func (st *counters) add(o *counters) {
	st.queries.Add(o.queries.Load())
	st.handed.Add(o.handed.Load())
	st.limited.Add(o.limited.Load())
	st.slipped.Add(o.slipped.Load())
	st.calls.Add(o.calls.Load())
	st.kernel.Add(o.kernel.Load())
	addAll(st.rcode[:], o.rcode[:])
	addAll(st.types[:], o.types[:])
	addAll(st.classes[:], o.classes[:])
	addAll(st.drops[:], o.drops[:])
	st.zones.addAll(&o.zones)
}

// addTo adds what is noted of an open socket to counters.
func (st *stats) addTo(sum *counters) {
	sum.add(&st.counters)
	if st.conn != nil {
		sum.kernel.Add(kernelDrops(st.conn))
	}
}

func addAll(to, from []atomic.Uint64) {
	for i := range from {
		to[i].Add(from[i].Load())
	}
}

// zoneCounts count queries by zone: of the zones asked for first, some hundreds
// one by one, and the rest together. It is of fixed size, takes no lock and
// does not allocate but for a zone's first query.
type zoneCounts struct {
	slots [zoneSlots]zoneCount
	other atomic.Uint64
}

type zoneCount struct {
	name atomic.Pointer[fleet.Name]
	n    atomic.Uint64
}

const (
	zoneSlots = 1 << 9
	zoneTries = 8 // slots that a zone may have
)

// zoneSeed only spreads names over the slots of this process.
var zoneSeed = maphash.MakeSeed()

// add counts n queries to a zone.
func (c *zoneCounts) add(name fleet.Name, n uint64) {
	h := maphash.String(zoneSeed, string(name))
	for i := range uint64(zoneTries) {
		slot := &c.slots[(h+i)%zoneSlots]
		p := slot.name.Load()
		if p == nil {
			p = slot.take(name)
		}
		if *p == name {
			slot.n.Add(n)
			return
		}
	}
	c.other.Add(n)
}

// take gives the slot to a zone if no other was faster, and says whose it is.
func (s *zoneCount) take(name fleet.Name) *fleet.Name {
	s.name.CompareAndSwap(nil, &name)
	return s.name.Load()
}

func (c *zoneCounts) addAll(o *zoneCounts) {
	for i := range o.slots {
		if p := o.slots[i].name.Load(); p != nil {
			c.add(*p, o.slots[i].n.Load())
		}
	}
	c.other.Add(o.other.Load())
}
