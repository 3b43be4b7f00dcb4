package answer

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func secret(t testing.TB, s string) [16]byte { return [16]byte(unhex(t, s)) }

// cookiePlan has one zone and the given secrets, the newest first.
func cookiePlan(t testing.TB, require bool, secrets ...string) *Plan {
	p := signedPlan(t, "unsigned")
	p.settings.cookies = cookies{require: require}
	for _, s := range secrets {
		p.settings.cookies.fixed = append(p.settings.cookies.fixed, secret(t, s))
	}
	return p
}

// withCookie asks with a COOKIE option; it gives the response, its cookie in
// hexadecimal, and the outcome.
func withCookie(t testing.TB, p *Plan, c Client, q *dns.Msg, cookie string) (*dns.Msg, string, Outcome) {
	t.Helper()
	edns(q)
	o := q.IsEdns0()
	o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: optionCookie, Data: unhex(t, cookie)})
	var w Worker
	out := make([]byte, MaxStream)
	n, outcome := p.Answer(&w, pack(t, q), c, out)
	m := new(dns.Msg)
	if err := m.Unpack(out[:n]); err != nil {
		t.Fatal(err)
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if got, ok := o.(*dns.EDNS0_COOKIE); ok {
				return m, got.Cookie, outcome
			}
		}
	}
	return m, "", outcome
}

// The reference values of SipHash-2-4: key 00 to 0f, messages 00, 01, … of
// growing length (Aumasson and Bernstein, appendix A and vectors.h).
func TestSipHash(t *testing.T) {
	var key [16]byte
	var msg []byte
	for i := range key {
		key[i] = byte(i)
	}
	for range 15 {
		msg = append(msg, byte(len(msg)))
	}
	if got := sipHash(&key, msg); got != 0xa129ca6149be45e5 {
		t.Errorf("%x", got)
	}
	if got := sipHash(&key, nil); got != 0x726fdb47dd0e0e31 {
		t.Errorf("%x", got)
	}
	if got := sipHash(&key, msg[:8]); got != 0x93f5f5799a932462 {
		t.Errorf("%x", got)
	}
}

// RFC 9018 §4: server cookies are made by SipHash-2-4 over client cookie, version 1, reserved octets, time and address (the worked examples of appendix A).
// RFC 9018 §5: a cookie made with the secret before the newest is still valid.
func TestRFC9018WorkedExamples(t *testing.T) {
	const first, old, next = "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962"
	for _, c := range []struct {
		what, client string
		secrets      []string
		now          uint32
		query, want  string
		valid        bool
	}{
		{"A.1 a client learns a server cookie", "198.51.100.100", []string{first}, 1559731985, "2464c4abcf10c957", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", false},
		{"A.2 it is renewed after 40 minutes", "198.51.100.100", []string{first}, 1559734385, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77", true},
		{"A.3 reserved octets are hashed as they came", "203.0.113.203", []string{first}, 1559727985 + 60, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", true},
		{"A.3 and are 0 in a new one", "203.0.113.203", []string{first}, 1559734700, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e", false},
		{"A.4 IPv6, and a secret that was rolled over", "2001:db8:220:1:59de:d0f4:8769:82b8", []string{next, old}, 1559741961 + 1801, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "", true},
		{"A.4 the new secret", "2001:db8:220:1:59de:d0f4:8769:82b8", []string{next, old}, 1559741961, "22681ab97d52c298", "22681ab97d52c298010000005cf7c609a6bb79d16625507a", false},
	} {
		p := cookiePlan(t, false, c.secrets...)
		m, got, outcome := withCookie(t, p, Client{Addr: netip.MustParseAddr(c.client), Now: c.now}, query("www.signed.test", dns.TypeA), c.query)
		if c.want != "" && got != c.want || outcome.Cookie != c.valid || len(m.Answer) != 1 {
			t.Errorf("%s: cookie %s (valid %v), want %s (%v)", c.what, got, outcome.Cookie, c.want, c.valid)
		}
	}
}

// RFC 9018 §4.3: a cookie older than an hour or more than five minutes ahead is not valid; one over half an hour old is renewed.
func TestRFC9018Age(t *testing.T) {
	p := cookiePlan(t, false, "e5e973e5a6b2a43f48e7dc849e37bfcf")
	const made = 1559731985
	const cookie = "2464c4abcf10c957010000005cf79f111f8130c3eee29480"
	client := netip.MustParseAddr("198.51.100.100")
	for _, c := range []struct {
		age         int
		valid, same bool
	}{{0, true, true}, {1800, true, true}, {1801, true, false}, {3600, true, false}, {3601, false, false}, {-300, true, true}, {-301, false, false}} {
		_, got, outcome := withCookie(t, p, Client{Addr: client, Now: uint32(made + c.age)}, query("www.signed.test", dns.TypeA), cookie)
		if outcome.Cookie != c.valid || (got == cookie) != c.same || !strings.HasPrefix(got, "2464c4abcf10c957") {
			t.Errorf("age %d: %s, valid %v", c.age, got, outcome.Cookie)
		}
	}
	if _, _, o := withCookie(t, p, Client{Addr: client.Next(), Now: made}, query("www.signed.test", dns.TypeA), cookie); o.Cookie {
		t.Error("another address shows the cookie")
	}
	if _, _, o := withCookie(t, p, Client{Addr: client, Now: made}, query("www.signed.test", dns.TypeA), cookie[:17]+"2"+cookie[18:]); o.Cookie {
		t.Error("version 2 is valid")
	}
}

// RFC 9018 §5: where secrets change daily, a cookie is checked with that of the day it was made on.
func TestRFC9018SecretsByDay(t *testing.T) {
	p := Zones(Identity{Cookie: func(day int64) [16]byte { return [16]byte{byte(day), byte(day >> 8)} }}, []*zone.Zone{signedZone(t, "unsigned")})
	const midnight = 20600 * 86400
	client := netip.MustParseAddr("192.0.2.1")
	_, cookie, _ := withCookie(t, p, Client{Addr: client, Now: midnight - 60}, query("www.signed.test", dns.TypeA), "0102030405060708")
	if _, _, o := withCookie(t, p, Client{Addr: client, Now: midnight + 60}, query("www.signed.test", dns.TypeA), cookie); !o.Cookie {
		t.Error("a cookie of two minutes ago, made on the day before, is not valid")
	}
	_, again, _ := withCookie(t, p, Client{Addr: client, Now: midnight + 60}, query("www.signed.test", dns.TypeA), "0102030405060708")
	if again[32:] == cookie[32:] {
		t.Error("two days have one secret")
	}
}

// RFC 7873 §5.2: a client cookie gets a server cookie; a length that no cookie has is FORMERR; of several options the first counts.
// RFC 7873 §5.2.1: a query without the option gets a response without it.
func TestRFC7873Options(t *testing.T) {
	p := cookiePlan(t, false, "e5e973e5a6b2a43f48e7dc849e37bfcf")
	c := Client{Addr: netip.MustParseAddr("192.0.2.1"), Now: 1559731985}
	for n := range 45 {
		m, got, _ := withCookie(t, p, c, query("www.signed.test", dns.TypeA), strings.Repeat("ab", n))
		if legal := n == 8 || n >= 16 && n <= 40; legal != (m.Rcode == 0) || legal != (len(got) == 2*cookieLen) || !legal && m.Rcode != dns.RcodeFormatError {
			t.Errorf("%d octets: %s, cookie %q", n, dns.RcodeToString[m.Rcode], got)
		}
	}
	twice := query("www.signed.test", dns.TypeA, edns)
	o := twice.IsEdns0()
	o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: optionCookie, Data: []byte("12345678")}, &dns.EDNS0_LOCAL{Code: optionCookie, Data: []byte("1")})
	if m := send(t, p, pack(t, twice), false); m.Rcode != 0 || len(m.IsEdns0().Option) != 1 {
		t.Errorf("two options: %v", m)
	}
	if m := ask(t, p, "www.signed.test", dns.TypeA, edns); len(m.IsEdns0().Option) != 0 {
		t.Errorf("a cookie for nobody: %v", m)
	}
	off := signedPlan(t, "unsigned")
	off.settings.cookies = cookies{}
	if m, got, _ := withCookie(t, off, c, query("www.signed.test", dns.TypeA), "ab"); m.Rcode != 0 || got != "" {
		t.Errorf("cookies are off: %v", m)
	}
}

// RFC 7873 §5.4: a query with a cookie and no question is answered with a cookie.
func TestRFC7873CookieAlone(t *testing.T) {
	p := cookiePlan(t, false, "e5e973e5a6b2a43f48e7dc849e37bfcf")
	c := Client{Addr: netip.MustParseAddr("192.0.2.1"), Now: 1559731985}
	q := new(dns.Msg)
	q.Id = 7
	m, got, _ := withCookie(t, p, c, q, "0102030405060708")
	if m.Rcode != 0 || m.Id != 7 || len(m.Question) != 0 || len(got) != 48 {
		t.Errorf("%v", m)
	}
	if m := send(t, p, pack(t, &dns.Msg{MsgHdr: dns.MsgHdr{Id: 7}}), false); m.Rcode != dns.RcodeFormatError {
		t.Errorf("neither question nor cookie: %v", m)
	}
}

// RFC 7873 §5.2.3: where cookies are required, a client that knows cookies and shows no valid one gets BADCOOKIE over UDP, with a cookie to come back with.
// RFC 7873 §5.2.4: so does one that shows a wrong cookie.
// RFC 7873 §5.2.5: with the right cookie the query is answered.
func TestRFC7873BadCookie(t *testing.T) {
	p := cookiePlan(t, true, "e5e973e5a6b2a43f48e7dc849e37bfcf")
	c := Client{Addr: netip.MustParseAddr("192.0.2.1"), Now: 1559731985}
	q := func() *dns.Msg { return query("www.signed.test", dns.TypeA) }
	m, good, _ := withCookie(t, p, c, q(), "0102030405060708")
	if m.Rcode != dns.RcodeBadCookie || len(m.Answer) != 0 || len(good) != 48 || len(m.Question) != 1 {
		t.Errorf("a client's cookie alone: %v", m)
	}
	if m, _, _ := withCookie(t, p, c, q(), "0102030405060708"+strings.Repeat("00", 16)); m.Rcode != dns.RcodeBadCookie {
		t.Errorf("a wrong cookie: %v", m)
	}
	if m, _, o := withCookie(t, p, c, q(), good); m.Rcode != 0 || len(m.Answer) != 1 || !o.Cookie {
		t.Errorf("the right cookie: %v", m)
	}
	if m := ask(t, p, "www.signed.test", dns.TypeA); m.Rcode != 0 {
		t.Errorf("a client that knows no cookies: %v", m)
	}
	stream := c
	stream.Stream = true
	if m, _, _ := withCookie(t, p, stream, q(), "0102030405060708"); m.Rcode != 0 || len(m.Answer) != 1 {
		t.Errorf("over a stream: %v", m)
	}
}

func TestCookiesDoNotAllocate(t *testing.T) {
	p := Zones(Identity{Cookie: func(day int64) [16]byte { return [16]byte{1} }}, []*zone.Zone{signedZone(t, "unsigned")})
	c := Client{Addr: netip.MustParseAddr("2001:db8::1"), Now: 1559731985}
	q := query("www.signed.test", dns.TypeA, edns)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: optionCookie, Data: []byte("12345678123456781234567812345678")[:24]})
	b, out := pack(t, q), make([]byte, MaxStream)
	var w Worker
	if n := testing.AllocsPerRun(50, func() { p.Answer(&w, b, c, out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
