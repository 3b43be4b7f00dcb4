// Package limit is response rate limiting: how many answers a second may go
// to an address and to the networks around it, so that forged queries do not
// make a nameserver a weapon against the networks they claim to come from.
//
// Pure floor: it imports the standard library alone; the time is an argument.
// dns/server asks it about each answer over UDP.
package limit

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// A network of each size is limited by itself. Wider ones may have more, as in
// Knot DNS: an address's neighbours seldom ask all at a time.
var (
	sizes4 = [...]size{{32, 1}, {24, 32}, {20, 256}, {18, 768}}
	sizes6 = [...]size{{128, 1}, {64, 2}, {56, 3}, {48, 4}, {32, 64}}
)

// size is a prefix length and how many times an address's limit it has.
type size struct {
	bits     int
	multiple uint64
}

// most is the greatest number of sizes of a family.
const most = len(sizes6)

// Verdict is what becomes of an answer.
type Verdict uint8

// The verdicts.
const (
	Send     Verdict = iota
	Drop             // over the limit
	Truncate         // over the limit, and the one of slip that is sent truncated
)

// Config is a limiter's.
type Config struct {
	PerSecond int            // answers a second to one address; at least 1
	Slip      int            // every n-th answer over the limit is truncated; 0 for none
	Exempt    []netip.Prefix // without limit
	Networks  int            // that are kept at a time, rounded up to a power of 2; 0 for 2^18
}

// Limiter limits answers. Its memory is fixed: 8 octets for each network kept.
// It is safe for concurrent use, takes no lock and does not allocate.
//
// Each network has a debt: the time until its answers are paid for, each
// answer costing a second divided by the network's limit. An answer that would
// bring the debt of any of its networks above a second is over the limit and
// costs nothing: a flood gets exactly the limit. A burst of one second's
// answers passes.
type Limiter struct {
	cfg   Config
	table *Table
	cost  [2][most]uint64 // of one answer, in ticks, by family and size
	slips atomic.Uint64
}

// Table is the debts of networks. It may be shared with what limits answers
// elsewhere, as the kernel's program does.
type Table struct {
	Sets  []Set     // a power of 2 of them
	Key   uint64    // of the hash; secret
	Start time.Time // ticks count from here
}

// Set is one cache line. Each way holds a network's tag, which is not 0, in its
// high 16 bits and below it the tick at which its debt is paid.
type Set [8]atomic.Uint64

// Tick is the unit of debts, and Window the greatest debt, in ticks.
const (
	Tick   = time.Microsecond
	Window = uint64(time.Second / Tick)

	tickBits = 48 // 8.9 years
	tickMask = 1<<tickBits - 1
)

// DefaultNetworks is how many are kept where nothing else is said.
const DefaultNetworks = 1 << 18

// Key makes one for a Table.
func Key() uint64 { return maphash.Bytes(maphash.MakeSeed(), nil) }

// New gives a limiter, in which no network has a debt. Times given to Check are
// not before start.
func New(cfg Config, start time.Time) *Limiter {
	if cfg.Networks == 0 {
		cfg.Networks = DefaultNetworks
	}
	n := 1
	for n*len(Set{}) < cfg.Networks {
		n *= 2
	}
	return NewIn(cfg, &Table{Sets: make([]Set, n), Key: Key(), Start: start})
}

// NewIn gives a limiter that goes by the debts in a table.
func NewIn(cfg Config, t *Table) *Limiter {
	l := &Limiter{cfg: cfg, table: t}
	for family, sizes := range [][]size{sizes4[:], sizes6[:]} {
		for i, s := range sizes {
			l.cost[family][i] = max(1, Window/(uint64(cfg.PerSecond)*s.multiple))
		}
	}
	return l
}

// Config gives what the limiter was made with.
func (l *Limiter) Config() Config { return l.cfg }

// Table gives where it keeps debts.
func (l *Limiter) Table() *Table { return l.table }

// Cost is what an answer costs a network, in ticks.
type Cost struct {
	Bits  int // length of the network's prefix
	Ticks uint64
}

// Costs gives those of IPv4's networks and of IPv6's.
func (l *Limiter) Costs() (v4, v6 []Cost) {
	for i, s := range sizes4 {
		v4 = append(v4, Cost{s.bits, l.cost[0][i]})
	}
	for i, s := range sizes6 {
		v6 = append(v6, Cost{s.bits, l.cost[1][i]})
	}
	return v4, v6
}

// Check says what becomes of one answer to client at a time, and counts it.
func (l *Limiter) Check(client netip.Addr, now time.Time) Verdict {
	for _, p := range l.cfg.Exempt {
		if p.Contains(client) {
			return Send
		}
	}
	t := uint64(now.Sub(l.table.Start) / Tick)
	sizes, cost := sizes4[:], &l.cost[0]
	if !client.Is4() {
		sizes, cost = sizes6[:], &l.cost[1]
	}
	var ways [most]*atomic.Uint64
	var tags [most]uint64
	for i, s := range sizes {
		ways[i], tags[i] = l.find(client, s.bits, t)
		if debt(ways[i].Load(), tags[i], t)+cost[i] > Window {
			return l.over()
		}
	}
	for i := range sizes {
		pay(ways[i], tags[i], t, cost[i])
	}
	return Send
}

// over says what becomes of an answer over the limit.
func (l *Limiter) over() Verdict {
	if l.cfg.Slip > 0 && l.slips.Add(1)%uint64(l.cfg.Slip) == 0 {
		return Truncate
	}
	return Drop
}

// find gives the way that holds the network of addr, or else the one with the
// least debt, which the network takes over.
func (l *Limiter) find(addr netip.Addr, bits int, now uint64) (way *atomic.Uint64, tag uint64) {
	h := l.table.hash(addr, bits)
	tag = h>>tickBits | 1
	s := &l.table.Sets[h&uint64(len(l.table.Sets)-1)]
	least := uint64(tickMask)
	for i := range s {
		v := s[i].Load()
		if v>>tickBits == tag {
			return &s[i], tag
		}
		if d := due(v, now); d < least {
			least, way = d, &s[i]
		}
	}
	return way, tag
}

// hash spreads networks; an IPv4 one is that of the address mapped into IPv6.
func (t *Table) hash(addr netip.Addr, bits int) uint64 {
	if addr.Is4() {
		bits += 96
	}
	a := addr.As16()
	hi, lo := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	if bits < 64 {
		hi, lo = hi&^(^uint64(0)>>bits), 0
	} else {
		lo &^= ^uint64(0) >> (bits - 64)
	}
	h := t.Key
	for _, w := range [...]uint64{hi, lo, uint64(bits)} {
		h = (h ^ w) * 0x9fb21c651e98df25
		h ^= h >> 32
	}
	return h
}

// due is how long a way's debt lasts from now.
func due(v, now uint64) uint64 {
	if at := v & tickMask; at > now {
		return at - now
	}
	return 0
}

// debt is that of the network with the tag; none where the way is another's.
func debt(v, tag, now uint64) uint64 {
	if v>>tickBits != tag {
		return 0
	}
	return due(v, now)
}

func pay(way *atomic.Uint64, tag, now, cost uint64) {
	for {
		v := way.Load()
		next := tag<<tickBits | (now+debt(v, tag, now)+cost)&tickMask
		if way.CompareAndSwap(v, next) {
			return
		}
	}
}
