package limit

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"meridian/fleet"
)

// left is how many the key could take now.
func (t *Table) left(now time.Duration, key uint64, r Rate) int {
	s := &t.sets[key>>1%uint64(len(t.sets))]
	for i := range s {
		if s[i].key.Load() == key {
			owes := max(time.Duration(s[i].paid.Load())-now, 0)
			return max(r.Burst-int((owes+r.Every-1)/r.Every), 0)
		}
	}
	return r.Burst
}

// A key gets its burst at once, then one each interval, and after a pause the
// burst again; what was refused costs nothing.
func TestTake(t *testing.T) {
	table, r := NewTable(0), Rate{Every: 100 * ms, Burst: 3}
	now := time.Hour
	key := table.AllKey(1)
	for i := range 3 {
		if left := table.left(now, key, r); left != 3-i {
			t.Errorf("%d left, want %d", left, 3-i)
		}
		if wait := table.Take(now, key, r); wait != 0 {
			t.Fatalf("%d of the burst waits %v", i, wait)
		}
	}
	for range 5 {
		if wait := table.Take(now, key, r); wait != 100*ms {
			t.Errorf("the next waits %v", wait)
		}
	}
	if wait := table.Take(now+99*ms, key, r); wait != 1*ms {
		t.Errorf("just before: %v", wait)
	}
	if wait := table.Take(now+100*ms, key, r); wait != 0 {
		t.Errorf("in time: %v", wait)
	}
	passed := 0
	for at := now + s; at < now+11*s; at += ms {
		if table.Take(at, key, r) == 0 {
			passed++
		}
	}
	if passed != 100+2 {
		t.Errorf("in ten seconds %d of ten a second and a burst of 3 passed", passed)
	}
}

func TestKeysAreApart(t *testing.T) {
	table, r := NewTable(0), Rate{Every: s, Burst: 1}
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	keys := map[uint64]string{}
	for name, k := range map[string]uint64{
		"all": table.AllKey(1), "all of 2": table.AllKey(2), "text": table.TextKey(1, []byte("x")), "text of 2": table.TextKey(2, []byte("x")),
		"client": table.ClientKey(1, a("192.0.2.1"), 32, 64), "client of 2": table.ClientKey(2, a("192.0.2.1"), 32, 64),
		"other client": table.ClientKey(1, a("192.0.2.2"), 32, 64), "network": table.ClientKey(1, a("192.0.2.0"), 24, 64),
		"IPv6": table.ClientKey(1, a("2001:db8::1"), 32, 64), "nobody": table.ClientKey(1, netip.Addr{}, 32, 64),
	} {
		if was, ok := keys[k]; ok || k == 0 {
			t.Errorf("%s has the key of %s", name, was)
		}
		keys[k] = name
		if table.Take(s, k, r) != 0 || table.Take(s, k, r) == 0 {
			t.Errorf("%s does not count by itself", name)
		}
	}
	for _, same := range [][2]netip.Addr{
		{a("2001:db8::1"), a("2001:db8::ffff:1")}, {a("192.0.2.1"), a("::ffff:192.0.2.1")}, {a("fe80::1%a"), a("fe80::2%b")},
	} {
		if table.ClientKey(1, same[0], 32, 64) != table.ClientKey(1, same[1], 32, 64) {
			t.Errorf("%v have two keys", same)
		}
	}
}

// The table keeps its size, and who owes most is remembered longest: a flood of
// other keys does not free one that is at its limit.
func TestAFullTableForgetsWhoOwesLeast(t *testing.T) {
	table, r := NewTable(1024), Rate{Every: s, Burst: 10}
	culprit := table.AllKey(7)
	for range 10 {
		table.Take(s, culprit, r)
	}
	for i := range uint32(100_000) {
		table.Take(s, table.AllKey(100+i), r)
	}
	if wait := table.Take(s, culprit, r); wait == 0 {
		t.Error("a flood freed it")
	}
	if len(table.sets) != 1024/4 {
		t.Errorf("%d sets", len(table.sets))
	}
}

func TestTakeFromManyGoroutines(t *testing.T) {
	table, r := NewTable(64), Rate{Every: s, Burst: 1000}
	key := table.AllKey(1)
	table.Take(s, key, r)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				if table.Take(s, key, r) == 0 {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 999 {
		t.Errorf("%d of 999 passed", passed.Load())
	}
}

func TestRatesOfASpec(t *testing.T) {
	l := &fleet.RequestLimit{Requests: 100, Per: fleet.Duration(10 * s), Burst: 50}
	for share, want := range map[int]Rate{100: {100 * ms, 50}, 20: {500 * ms, 10}, 1: {10 * s, 1}, 0: {24 * time.Hour, 1}, -5: {24 * time.Hour, 1}} {
		if got := RateOf(l, share); got != want {
			t.Errorf("share %d: %+v", share, got)
		}
	}
	// The greatest burst of the slowest rate overflows nothing.
	l = &fleet.RequestLimit{Requests: 1, Per: fleet.Duration(24 * time.Hour), Burst: 1_000_000_000}
	table := NewTable(0)
	r := RateOf(l, 1)
	for range 1000 {
		if table.Take(s, 3, r) != 0 {
			t.Fatalf("%+v refuses within its burst", r)
		}
	}
}

func TestRatesDoNotAllocate(t *testing.T) {
	table, r := NewTable(0), Rate{Every: s, Burst: 1}
	from, text := netip.MustParseAddr("2001:db8::1"), []byte("session")
	now := s
	if n := testing.AllocsPerRun(100, func() {
		now += s
		table.Take(now, table.ClientKey(1, from, 32, 64), r)
		table.Take(now, table.TextKey(1, text), r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTake(b *testing.B) {
	table, r := NewTable(0), Rate{Every: time.Microsecond, Burst: 100}
	from := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	now := s
	for b.Loop() {
		now += us
		table.Take(now, table.ClientKey(1, from, 32, 64), r)
	}
}
