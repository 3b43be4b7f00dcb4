package xdp

import (
	"bytes"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/limit"
	"meridian/dns/zone"
)

// newLimited gives a machine with a rate limit, and the sockets' limiter that
// shares its debts.
func newLimited(t *testing.T, cfg limit.Config) (*machine, *limit.Limiter) {
	t.Helper()
	m := newMachine(t, newPlan(t, spec, nil))
	table, err := m.debtTable()
	if err != nil {
		t.Fatal(err)
	}
	l := limit.NewIn(cfg, table)
	if err := m.setLimit(l, table); err != nil {
		t.Fatal(err)
	}
	return m, l
}

// Over the limit answers are dropped, and every second one is truncated as the
// sockets do it; a valid cookie is exempt, and so are networks that are said to
// be. The sockets go by the same debts.
func TestRateLimit(t *testing.T) {
	m, l := newLimited(t, limit.Config{PerSecond: 20, Slip: 2, Exempt: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}})
	for _, client := range []string{"10.1.2.3:5353", "[2001:db8::7]:5353"} {
		from := netip.MustParseAddrPort(client)
		server := server4
		if from.Addr().Is6() {
			server = server6
		}
		q := withOptions("www.demo.test", zone.TypeA, false, ecs4(10, 1, 2)...)
		want := m.sockets(q, from)
		whole, truncated, dropped := 0, 0, 0
		begin := time.Now()
		for range 100 {
			verdict, out := m.run(t, frame(from, server, q))
			if verdict == 1 {
				dropped++
				continue
			}
			got := unframe(t, out, from, server)
			if bytes.Equal(got, want) {
				whole++
				continue
			}
			truncated++
			var a, b dns.Msg
			if a.Unpack(got) != nil || b.Unpack(want) != nil {
				t.Fatalf("%x", got)
			}
			b.Truncated, b.Answer, b.Ns = true, nil, nil
			if packed, err := b.Pack(); err != nil || !bytes.Equal(packed, got) {
				t.Fatalf("truncated:\n%v\nexpected\n%v", &a, &b)
			}
		}
		most := 21 + int(20*time.Since(begin).Seconds())
		if whole < 20 || whole > most || max(truncated-dropped, dropped-truncated) > runtime.NumCPU() { // each CPU counts by itself which are truncated
			t.Errorf("of 100 queries at once, at 20 a second: %d answered, %d truncated, %d dropped", whole, truncated, dropped)
		}
		if time.Since(begin) < 30*time.Millisecond && l.Check(from.Addr(), time.Now()) == limit.Send {
			t.Error("the sockets know nothing of it")
		}
	}
	free := netip.MustParseAddrPort("10.3.2.3:5353")
	for range 100 {
		if verdict, _ := m.run(t, frame(free, server4, question([]byte("\x03mx1\x04demo\x04test\x00"), 1, false))); verdict != xdpTX {
			t.Fatalf("an exempt client: verdict %d", verdict)
		}
	}
	shown := m.sockets(withOptions("mx1.demo.test", zone.TypeA, false, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8), nobodyPort)
	cookie := shown[len(shown)-28:]
	for range 100 {
		if verdict, _ := m.run(t, frame(nobodyPort, server4, withOptions("mx1.demo.test", zone.TypeA, false, cookie...))); verdict != xdpTX {
			t.Fatalf("a client with a cookie: verdict %d", verdict)
		}
	}
}

// What the sockets have answered counts in the kernel.
func TestRateLimitKnowsTheSockets(t *testing.T) {
	m, l := newLimited(t, limit.Config{PerSecond: 1000})
	from := netip.MustParseAddrPort("10.1.9.9:5353")
	at := time.Now()
	for l.Check(from.Addr(), at) == limit.Send {
	}
	if verdict, _ := m.run(t, frame(from, server4, withOptions("mx1.demo.test", zone.TypeA, false))); verdict != 1 && time.Since(at) < time.Millisecond {
		t.Errorf("verdict %d", verdict)
	}
}

// The Spec's rate limit is in force through both.
func TestRateLimitOfTheSpec(t *testing.T) {
	s := newSite(t, strings.Replace(spec, "zones:\n", "dns: {rate_limit: {per_second: 10, slip: 0}}\nzones:\n", 1), Native)
	s.eventually("limited", func() bool { return s.path.Debts() != nil })
	c := s.dial(siteServer4)
	begin := time.Now()
	given, err := ask(c, withOptions("demo.test", 255, false, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8))
	s.must(err)
	last := withOptions("demo.test", 255, false, given[len(given)-28:]...) // by its cookie without limit, and after all others
	last[1] = 9
	for i := range 61 {
		q := withOptions("mx1.demo.test", zone.TypeA, false)
		if i%2 == 1 {
			q = withOptions("demo.test", 255, false)
		} else if i == 60 {
			q = last
		}
		_, err := c.Write(q)
		s.must(err)
	}
	n := 1
	for buf := make([]byte, 4096); ; n++ {
		s.must(c.SetReadDeadline(time.Now().Add(patience)))
		_, err := c.Read(buf)
		s.must(err)
		if buf[1] == 9 {
			break
		}
	}
	if most := 14 + int(10*time.Since(begin).Seconds()); n < 10 || n > most {
		t.Errorf("%d answers at once, at 10 a second", n)
	}
	if a := s.path.Answered(); a.Limited == 0 {
		t.Error("none was limited in the kernel")
	}
}

// Networks that PROXY headers come from leave the others' answers to the kernel.
func TestProxiesOfTheSpec(t *testing.T) {
	s := newSite(t, strings.Replace(spec, "zones:\n", "dns: {proxies: [203.0.113.0/24]}\nzones:\n", 1), Native)
	s.eventually("attached", func() bool { _, ok := s.path.Attached(); return ok })
	c := s.dial(siteServer4)
	s.eventually("answered in the kernel", func() bool {
		if _, err := c.Write(withOptions("mx1.demo.test", zone.TypeA, false)); err != nil {
			t.Fatal(err)
		}
		return s.path.Answered().Queries > 0
	})
}
