package limit

import (
	"net/netip"
	"testing"
	"time"
)

var start = time.Unix(1_800_000_000, 0)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// flood asks n times, spread evenly over a time, and counts what is sent.
func flood(l *Limiter, from time.Time, d time.Duration, n int, client func(i int) netip.Addr) (sent, truncated int) {
	for i := range n {
		switch l.Check(client(i), from.Add(time.Duration(i)*d/time.Duration(n))) {
		case Send:
			sent++
		case Truncate:
			truncated++
		}
	}
	return sent, truncated
}

func TestOneAddressGetsItsLimit(t *testing.T) {
	l := New(Config{PerSecond: 50, Slip: 2}, start)
	sent, truncated := flood(l, start, 10*time.Second, 100_000, func(int) netip.Addr { return ip("192.0.2.1") })
	if sent < 540 || sent > 551 { // a burst of one second, and ten seconds' answers
		t.Errorf("%d answers in 10 s at 50 a second", sent)
	}
	if want := (100_000 - sent) / 2; truncated != want {
		t.Errorf("%d truncated, want %d: every second one over the limit", truncated, want)
	}
	if v := l.Check(ip("192.0.2.1"), start.Add(12*time.Second)); v != Send {
		t.Errorf("after a rest: %v", v)
	}
}

func TestWiderNetworksHaveMore(t *testing.T) {
	for _, c := range []struct {
		name   string
		client func(i int) netip.Addr
		want   int // answers a second
	}{
		{"/24", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }, 32},
		{"/20", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i >> 8 & 15), byte(i)}) }, 256},
		{"/18", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i >> 8 & 63), byte(i)}) }, 768},
		{"/64", func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
		}, 2},
		{"/56", func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(i), 15: byte(i)})
		}, 3},
		{"/48", func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 6: byte(i), 7: byte(i >> 8)})
		}, 4},
		{"/32", func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 4: byte(i), 5: byte(i >> 8)})
		}, 64},
	} {
		l := New(Config{PerSecond: 10}, start)
		sent, truncated := flood(l, start, 3*time.Second, 200_000, c.client)
		if want := 4 * 10 * c.want; sent < want*98/100 || sent > want*101/100+1 {
			t.Errorf("%s: %d answers, want about %d", c.name, sent, want)
		}
		if truncated != 0 {
			t.Errorf("%s: %d truncated without slip", c.name, truncated)
		}
	}
}

// A flood from one network takes nothing from others, however many networks a
// flood claims to come from.
func TestOthersAreLeftAlone(t *testing.T) {
	l := New(Config{PerSecond: 50, Networks: 1 << 12}, start)
	flood(l, start, time.Second, 300_000, func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte{byte(i%90 + 1), byte(i >> 16), byte(i >> 8), byte(i)})
	})
	sent := 0
	for i := range 20 {
		if l.Check(ip("203.0.113.7"), start.Add(time.Second+time.Duration(i)*40*time.Millisecond)) == Send {
			sent++
		}
	}
	if sent != 20 {
		t.Errorf("a client at 25 queries a second got %d of 20 answers", sent)
	}
}

func TestExempt(t *testing.T) {
	l := New(Config{PerSecond: 1, Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, start)
	if sent, _ := flood(l, start, time.Second, 1000, func(int) netip.Addr { return ip("198.51.100.9") }); sent != 1000 {
		t.Errorf("%d of 1000 answers to an exempt network", sent)
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	l := New(Config{PerSecond: 50, Slip: 2}, start)
	a, b := ip("192.0.2.1"), ip("2001:db8::1")
	if n := testing.AllocsPerRun(1000, func() { l.Check(a, start); l.Check(b, start) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkCheck is the cost to each answer while a flood comes from
// everywhere.
func BenchmarkCheck(b *testing.B) {
	l := New(Config{PerSecond: 50, Slip: 2}, start)
	i := uint32(0)
	for b.Loop() {
		i = i*1664525 + 1013904223
		l.Check(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), start.Add(time.Duration(i)))
	}
}
