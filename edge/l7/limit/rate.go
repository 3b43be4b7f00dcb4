package limit

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"meridian/fleet"
)

// Rate is how often something may happen.
type Rate struct {
	Every time.Duration // one in so long a time, on average; from 1 ns
	Burst int           // so many at once, after a pause; from 1, and no more than make 36 years
}

// longestDebt bounds what a burst may owe: 36 years.
const longestDebt = time.Duration(1 << 60)

// RateOf gives the rate of a limit, or of a share of it: so many of its
// requests. A share of 0 lets one through in the longest time that there is.
func RateOf(l *fleet.RequestLimit, share int) Rate {
	if share <= 0 {
		return Rate{Every: 24 * time.Hour, Burst: 1}
	}
	every := max(l.Per.D()/time.Duration(share), 1)
	burst := int64(l.Burst) * int64(share) / int64(max(l.Requests, 1))
	return Rate{Every: every, Burst: int(min(max(burst, 1), int64(longestDebt/every)))}
}

// Table counts by key, by the generic cell rate algorithm (ITU-T I.371): each
// key has one number, the time at which all that it took is paid for. Its memory
// is fixed; where there is no room, the key that owes least is forgotten, which
// gives it no more than a burst. It is safe for concurrent use, takes no lock
// and does not allocate.
type Table struct {
	seed maphash.Seed
	sets []set
}

// set is one cache line.
type set [4]entry

type entry struct {
	key  atomic.Uint64 // 0: empty
	paid atomic.Int64  // in ns
}

// defaultKeys is how many keys a table keeps where nothing else is said: 1 MiB.
const defaultKeys = 1 << 16

// NewTable gives one for so many keys at a time, rounded up to a power of 2; 0
// for defaultKeys. Keys of one table mean nothing to another: nobody outside can
// choose two that meet.
func NewTable(keys int) *Table {
	if keys == 0 {
		keys = defaultKeys
	}
	n := 1
	for n*len(set{}) < keys {
		n *= 2
	}
	return &Table{seed: maphash.MakeSeed(), sets: make([]set, n)}
}

// ClientKey is the key of a client's network under one limit, which a number
// tells from others.
func (t *Table) ClientKey(limit uint32, a netip.Addr, v4, v6 int) uint64 {
	var b [22]byte
	a, bits := a.Unmap(), v6
	if a.Is4() {
		bits = v4
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		p = netip.Prefix{}
	}
	at := p.Addr().As16()
	binary.LittleEndian.PutUint32(b[:], limit)
	b[4] = byte(p.Bits())
	b[5] = 'c'
	copy(b[6:], at[:])
	return maphash.Bytes(t.seed, b[:]) | 1
}

// TextKey is the key of a path, header or cookie under one limit.
func (t *Table) TextKey(limit uint32, text []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], limit)
	h.Write(b[:])
	h.Write(text)
	return h.Sum64() | 1
}

// AllKey is the one key of everything under one limit.
func (t *Table) AllKey(limit uint32) uint64 { return t.TextKey(limit, nil) }

// Take takes one from the key's rate: 0 says that it may pass; else nothing was
// taken, and after that time one may.
func (t *Table) Take(now time.Duration, key uint64, r Rate) (wait time.Duration) {
	e := t.find(now, key)
	room := time.Duration(r.Burst) * r.Every
	for {
		was := e.paid.Load()
		next := max(time.Duration(was), now) + r.Every
		if over := next - now - room; over > 0 {
			return over
		}
		if e.paid.CompareAndSwap(was, int64(next)) {
			return 0
		}
	}
}

// find gives the key's entry, if need be that of the key that owes least. Where
// two goroutines bring one key at the same time it may get two entries, of which
// one is forgotten in time.
func (t *Table) find(now time.Duration, key uint64) *entry {
	s := &t.sets[key>>1%uint64(len(t.sets))]
	for {
		least := &s[0]
		for i := range s {
			e := &s[i]
			switch e.key.Load() {
			case key:
				return e
			case 0:
				if least.key.Load() != 0 {
					least = e
				}
			default:
				if least.key.Load() != 0 && e.paid.Load() < least.paid.Load() {
					least = e
				}
			}
		}
		was, paid := least.key.Load(), least.paid.Load()
		if was == key {
			return least
		}
		if least.key.CompareAndSwap(was, key) {
			least.paid.CompareAndSwap(paid, int64(now))
			return least
		}
	}
}
