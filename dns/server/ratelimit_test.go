package server

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// flood sends a query many times over UDP, and counts whole and truncated
// answers.
func flood(t *testing.T, s *Server, m *dns.Msg, n int) (whole, truncated int) {
	t.Helper()
	c, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, _ := m.Pack()
	answer := make([]byte, 4096)
	dropped := func() int { return int(gather(t, s)["meridian_dns_rate_limited_total dropped"]) }
	before := dropped()
	for range n {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for began := time.Now(); whole+truncated+dropped()-before < n; {
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		size, err := c.Read(answer)
		if err != nil && time.Since(began) > 20*time.Second {
			t.Fatalf("of %d queries %d are answered, %d truncated, %d dropped", n, whole, truncated, dropped()-before)
		}
		if err != nil {
			continue
		}
		var r dns.Msg
		if err := r.Unpack(answer[:size]); err != nil {
			t.Fatal(err)
		}
		if !r.Truncated {
			whole++
			continue
		}
		truncated++
		if len(r.Answer) > 0 || len(r.Question) != 1 || m.IsEdns0() != nil && r.IsEdns0() == nil {
			t.Errorf("truncated: %v", &r)
		}
	}
	return whole, truncated
}

func TestRateLimit(t *testing.T) {
	s := start(t, func(c *Config) { c.Sockets = 1 })
	if err := s.Apply(with(t, "rate_limit: {per_second: 20, slip: 2}", nil)); err != nil {
		t.Fatal(err)
	}
	q := query("www.demo.test.", dns.TypeA, 1)
	q.SetEdns0(1232, false)
	whole, truncated := flood(t, s, q, 100)
	if whole < 20 || whole > 30 || truncated < 33 || truncated > 40 {
		t.Errorf("of 100 queries at once, at 20 a second, %d are answered and %d truncated", whole, truncated)
	}
	if got := gather(t, s); got["meridian_dns_rate_limited_total truncated"] != float64(truncated) ||
		got["meridian_dns_rate_limited_total dropped"] != float64(100-whole-truncated) {
		t.Errorf("counted %v", got)
	}
	// TCP is not limited.
	c := dialTCP(t, s)
	for range 100 {
		send(t, c, q)
		if m := receive(t, c); len(m.Answer) != 1 {
			t.Fatal(m)
		}
	}
	// Nor is an exempt network, nor without a limit, at once.
	for _, more := range []string{"rate_limit: {per_second: 20, exempt: [127.0.0.0/8]}", "rate_limit: {per_second: 0}"} {
		if err := s.Apply(with(t, more, nil)); err != nil {
			t.Fatal(err)
		}
		if whole, truncated := flood(t, s, q, 100); whole != 100 {
			t.Errorf("%s: %d, %d", more, whole, truncated)
		}
	}
}

// RFC 7873 §5.2.4: a client with a valid cookie has shown that its address is not forged, and is not rate-limited.
func TestRFC7873ValidCookieIsNotLimited(t *testing.T) {
	s := start(t, func(c *Config) { c.Identity.Cookie = func(int64) [16]byte { return [16]byte{1} } })
	if err := s.Apply(with(t, "rate_limit: {per_second: 20}", nil)); err != nil {
		t.Fatal(err)
	}
	q := query("www.demo.test.", dns.TypeA, 1)
	q.SetEdns0(1232, false)
	cookie := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}
	q.IsEdns0().Option = []dns.EDNS0{cookie}
	r, _, err := (&dns.Client{Net: "tcp"}).Exchange(q, s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if whole, _ := flood(t, s, q, 100); whole > 30 {
		t.Errorf("with a client cookie alone %d of 100", whole)
	}
	for _, o := range r.IsEdns0().Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			cookie.Cookie = c.Cookie
		}
	}
	if whole, truncated := flood(t, s, q, 100); whole != 100 {
		t.Errorf("with cookie %s: %d whole, %d truncated of 100", cookie.Cookie, whole, truncated)
	}
}

// RFC 9715 §3.1: no answer over UDP is longer than 1232 octets, whatever the client says it takes, nor than 512 without EDNS.
// RFC 8482 §4.1: ANY is no means of amplification: over UDP it gets one RRset.
func TestRFC9715Amplification(t *testing.T) {
	s := start(t, nil)
	doc := strings.Replace(spec, "$GENERATE", "$GENERATE 1-40 big TXT $"+strings.Repeat("y", 200)+"\n    big MX 1 ns1\n    $GENERATE", 1)
	if err := s.Apply(world(t, doc)); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, 65536)
	for _, name := range []string{"big.demo.test.", "many.demo.test.", "demo.test.", "none.demo.test."} {
		for _, qtype := range []uint16{dns.TypeANY, dns.TypeTXT, dns.TypeA, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeAXFR} {
			for _, size := range []uint16{0, 512, 4096, 65535} {
				m := query(name, qtype, 1)
				limit := 512
				if size > 0 {
					m.SetEdns0(size, true)
					limit = max(512, min(int(size), 1232))
				}
				b, _ := m.Pack()
				c.Write(b)
				n, err := c.Read(answer)
				if err != nil {
					t.Fatal(err)
				}
				if n > limit {
					t.Errorf("%s type %d, size %d: %d octets", name, qtype, size, n)
				}
				var r dns.Msg
				if err := r.Unpack(answer[:n]); err != nil {
					t.Fatal(err)
				}
				if qtype == dns.TypeTXT && name == "big.demo.test." && !r.Truncated {
					t.Errorf("8 kB fit into %d octets", n)
				}
				sets := map[uint16]bool{}
				for _, rr := range r.Answer {
					sets[rr.Header().Rrtype] = true
				}
				if qtype == dns.TypeANY && len(sets) > 1 {
					t.Errorf("%s ANY: %v", name, &r)
				}
			}
		}
	}
}

func TestRecent(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	r := exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA)
	exchange1(t, "tcp", s.Addrs()[0], "none.demo.test.", dns.TypeMX)
	all := s.Recent(RecentFilter{})
	if len(all) != 2 || all[0].Name != "none.demo.test." || all[0].Rcode != "NXDOMAIN" || all[0].Transport != "tcp" || all[0].Type != "MX" {
		t.Fatalf("%+v", all)
	}
	got := s.Recent(RecentFilter{Name: "*.Demo.test", Most: 1})
	if len(got) != 1 || got[0].Name != "none.demo.test." {
		t.Errorf("%+v", got)
	}
	got = s.Recent(RecentFilter{Name: "www.demo.test"})
	wire, _ := r.Pack()
	if len(got) != 1 || got[0].Revision != 1 || got[0].Size != len(wire) && got[0].Size == 0 || len(got[0].Query) < headerLen || got[0].Hash == 0 {
		t.Errorf("%+v", got)
	}
	// The record gives the same answer again.
	if again := s.respond(got[0].Query, got[0].Client, UDP); AnswerHash(again) != got[0].Hash {
		t.Errorf("%x", again)
	}
	for range 3 * ringRate {
		exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA)
	}
	if n := len(s.Recent(RecentFilter{Most: 100000})); n > 4*ringSize {
		t.Errorf("%d records", n)
	}
}
