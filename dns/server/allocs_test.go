package server

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"meridian/dns/answer"
	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// shapesSpec has a name for each shape of an answer, in a zone that is signed
// and in one that is not.
const shapesSpec = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: split, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}], steering: {policy: weighted, weights: {fra: 50, tyo: 50}}}
- {service: turn, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}], steering: {records: 2, rotate: query}}
dns: {DNS dnssec: [{policy: p, denial: DENIAL}]}
zones:
- zone: signed.test
  dnssec: p
CONTENT- zone: plain.test
CONTENT`

const shapesContent = `  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    host A 192.0.2.54
    host AAAA 2001:db8::54
    mail MX 10 host
    alias CNAME other
    other CNAME host
    old DNAME new
    x.new A 192.0.2.55
    *.wild A 192.0.2.56
    child NS ns.child
    ns.child A 192.0.2.60
    a.ent TXT "x"
    $GENERATE 1-100 many A 192.0.3.$
  steered:
  - {name: www, service: web, https: {second: true}}
  - {name: split, service: split}
  - {name: turn, service: turn}
`

// shapesWorld is of that Spec, with more settings of dns.
func shapesWorld(t testing.TB, dnsSettings, denial string) *fleet.World {
	t.Helper()
	w := world(t, strings.NewReplacer("DNS", dnsSettings, "DENIAL", denial, "CONTENT", shapesContent).Replace(shapesSpec))
	spec, policy, now := &w.Snapshot.Spec.Zones[0], w.Snapshot.Spec.DNSSECPolicy("p"), time.Now()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	state, _, _, err := sign.Step(sign.State{}, spec.Zone, policy, now, sign.Facts{}, rand.NewChaCha8([32]byte{1}))
	must(err)
	o := sign.Options{State: &state, Policy: policy, Serial: 8, Now: now}
	list, err := answer.Variants(w, spec)
	must(err)
	for _, v := range list {
		o.Variants = append(o.Variants, sign.Variants{Owner: zone.Wire(v.Name), Type: v.Type, Empty: v.Empty, Sets: v.Sets})
	}
	base, err := zone.Load(spec.Zone, []byte(spec.Records), "")
	must(err)
	signed, _, err := sign.Sign(base, &o)
	must(err)
	key := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(spec.Zone)}
	w.Zones = new(fleet.Zones).With([]fleet.Object{{Key: key, Data: signed.Encode(), Version: "signed"}}, nil)
	return w
}

// loop is a server's UDP loop, taken step by step, and a client of it.
type loop struct {
	server *Server
	socket *udpSocket
	client int
	buf    [4096]byte
}

func newLoop(t testing.TB, w *fleet.World) *loop {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(Config{Logger: quiet, Identity: answer.Identity{Node: "fra-1", Version: "test", Cookie: func(day int64) [16]byte { return [16]byte{byte(day)} }}})
	must(err)
	must(s.Apply(w))
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(err)
	to := c.LocalAddr().(*net.UDPAddr).Port
	u, err := newUDPSocket(c.(*net.UDPConn), false, new(stats))
	must(err)
	t.Cleanup(u.close)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(err)
	t.Cleanup(func() { unix.Close(fd) })
	must(unix.Connect(fd, &unix.SockaddrInet4{Port: to, Addr: [4]byte{127, 0, 0, 1}}))
	return &loop{server: s, socket: u, client: fd}
}

// turn sends a query, has the loop go round once, and gives the answer's length,
// which is 0 where none has come. Loopback delivers before a call returns.
func (l *loop) turn(q []byte) int {
	if _, err := unix.Write(l.client, q); err != nil {
		return -1
	}
	l.socket.makeRoom()
	if err := l.socket.poll.Read(l.socket.receive); err != nil || l.socket.errno != 0 {
		return -1
	}
	l.socket.answerAll(l.server)
	n, err := unix.Read(l.client, l.buf[:])
	if err != nil {
		return 0
	}
	return n
}

// shape is a common query and what its answer has.
type shape struct {
	what, name string
	rtype      uint16
	edns, do   bool
	options    string // in hexadecimal digits
	rcode      int    // with the extended bits
	answers    int    // at least
	authority  int
	extra      int // but for the OPT
}

const (
	ecsOption    = "0008000700011800" + "0a0102"
	newCookie    = "000a00080102030405060708"
	staleCookie  = "000a001801020304050607080100000000000000ffffffffffffffff"
	nsidOption   = "00030000"
	otherOptions = "ff1400030102030010000405060708"
)

// shapes are those of a zone; the signed one's answers have more to them.
func shapes(apex string) []shape {
	var out []shape
	for _, s := range []shape{
		{what: "A", name: "host", rtype: dns.TypeA, answers: 1},
		{what: "AAAA", name: "host", rtype: dns.TypeAAAA, answers: 1},
		{what: "MX with an address", name: "mail", rtype: dns.TypeMX, answers: 1, extra: 1},
		{what: "NS", name: "@", rtype: dns.TypeNS, answers: 1, extra: 1},
		{what: "SOA", name: "@", rtype: dns.TypeSOA, answers: 1},
		{what: "NODATA", name: "host", rtype: dns.TypeTXT, authority: 1},
		{what: "empty non-terminal", name: "ent", rtype: dns.TypeA, authority: 1},
		{what: "NXDOMAIN", name: "a.b.none", rtype: dns.TypeA, rcode: dns.RcodeNameError, authority: 1},
		{what: "referral with glue", name: "x.child", rtype: dns.TypeA, authority: 1, extra: 1},
		{what: "wildcard", name: "x.wild", rtype: dns.TypeA, answers: 1},
		{what: "wildcard NODATA", name: "x.wild", rtype: dns.TypeTXT, authority: 1},
		{what: "aliases", name: "alias", rtype: dns.TypeA, answers: 3},
		{what: "DNAME", name: "x.old", rtype: dns.TypeA, answers: 3},
		{what: "DS at the cut", name: "child", rtype: dns.TypeDS, authority: 1},
		{what: "ANY", name: "host", rtype: dns.TypeANY, answers: 1},
		{what: "steered A", name: "www", rtype: dns.TypeA, answers: 1},
		{what: "steered AAAA", name: "www", rtype: dns.TypeAAAA, answers: 1},
		{what: "steered HTTPS", name: "www", rtype: dns.TypeHTTPS, answers: 1},
		{what: "steered NODATA", name: "www", rtype: dns.TypeTXT, authority: 1},
		{what: "steered by shares", name: "split", rtype: dns.TypeA, answers: 1},
		{what: "steered, by turns", name: "turn", rtype: dns.TypeA, answers: 2},
	} {
		s.name = strings.TrimPrefix(s.name+"."+apex, "@.")
		plain, edns, do, ecs, all := s, s, s, s, s
		edns.what, edns.edns = s.what+", EDNS", true
		do.what, do.edns, do.do = s.what+", DO", true, true
		ecs.what, ecs.edns, ecs.options = s.what+", Client Subnet", true, ecsOption
		all.what, all.edns, all.do, all.options = s.what+", DO and many options", true, true, nsidOption+ecsOption+newCookie+otherOptions
		out = append(out, plain, edns, do, ecs, all)
	}
	return out
}

// query makes it.
func (s *shape) query(t testing.TB) []byte {
	t.Helper()
	m := query(dns.Fqdn(s.name), s.rtype, 7)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !s.edns {
		return b
	}
	options, err := hex.DecodeString(s.options)
	if err != nil {
		t.Fatal(err)
	}
	b[11] = 1
	b = append(b, 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, byte(len(options)))
	if s.do {
		b[len(b)-4] = 0x80
	}
	return append(b, options...)
}

// holds says whether an answer has what it must.
func (s *shape) holds(t testing.TB, got []byte) {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(got); err != nil {
		t.Fatalf("%s: %v in %x", s.what, err, got)
	}
	extra := len(m.Extra)
	if s.edns {
		extra--
	}
	if m.Rcode != s.rcode || len(m.Answer) < s.answers || len(m.Ns) < s.authority || extra < s.extra {
		t.Errorf("%s: expected rcode %d and %d, %d and %d records of\n%v", s.what, s.rcode, s.answers, s.authority, s.extra, &m)
	}
}

// measure holds that a turn of the loop allocates nothing.
func (l *loop) measure(t testing.TB, what string, q []byte) {
	t.Helper()
	if n := testing.AllocsPerRun(20, func() {
		if l.turn(q) < 0 {
			t.Errorf("%s: the loop failed", what)
		}
	}); n != 0 {
		t.Errorf("%s: %v allocations", what, n)
	}
}

// No common query makes the UDP loop allocate, from receiving it to sending
// what it gets.
func TestTheLoopAllocatesNothing(t *testing.T) {
	for _, denial := range []string{"nsec", "nsec3"} {
		l := newLoop(t, shapesWorld(t, "whoami: whoami.plain.test, version: \"1\", nsid: here, errors_to: errors.example,", denial))
		list := append(shapes("signed.test"), shapes("plain.test")...)
		list = append(list,
			shape{what: "whoami", name: "whoami.plain.test", rtype: dns.TypeTXT, edns: true, options: ecsOption, answers: 1},
			shape{what: "NSID", name: "host.plain.test", rtype: dns.TypeA, edns: true, options: nsidOption, answers: 1},
			shape{what: "cookie", name: "host.plain.test", rtype: dns.TypeA, edns: true, options: newCookie, answers: 1},
			shape{what: "cookie to renew", name: "host.plain.test", rtype: dns.TypeA, edns: true, options: staleCookie, answers: 1},
			shape{what: "malformed cookie", name: "host.plain.test", rtype: dns.TypeA, edns: true, options: "000a000101", rcode: dns.RcodeFormatError},
			shape{what: "malformed Client Subnet", name: "www.plain.test", rtype: dns.TypeA, edns: true, options: "0008000400012100", rcode: dns.RcodeFormatError},
			shape{what: "unknown options", name: "host.plain.test", rtype: dns.TypeA, edns: true, options: otherOptions, answers: 1},
			shape{what: "truncated", name: "many.plain.test", rtype: dns.TypeA},
			shape{what: "truncated, EDNS", name: "many.signed.test", rtype: dns.TypeA, edns: true, do: true},
			shape{what: "refused", name: "www.elsewhere.example", rtype: dns.TypeA, edns: true, rcode: dns.RcodeRefused},
			shape{what: "NXNAME asked for", name: "host.plain.test", rtype: dns.TypeNXNAME, rcode: dns.RcodeFormatError},
			shape{what: "transfer", name: "plain.test", rtype: dns.TypeAXFR, rcode: dns.RcodeRefused},
		)
		for i := range list {
			q := list[i].query(t)
			list[i].holds(t, l.buf[:max(0, l.turn(q))])
			l.measure(t, denial+": "+list[i].what, q)
		}
		l.odd(t)
	}
}

// odd are queries that no shape describes.
func (l *loop) odd(t *testing.T) {
	host := shape{name: "host.plain.test", rtype: dns.TypeA, edns: true, answers: 1, options: newCookie}
	q := host.query(t)
	given := l.buf[:l.turn(q)]
	at := bytes.Index(given, []byte{0, 10, 0, 24})
	renewed := append(q[:len(q)-12:len(q)-12], given[at:at+28]...)
	renewed[len(renewed)-29] = 28
	if n := l.turn(renewed); n < 0 || l.socket.work.Outcome.Cookie != true {
		t.Errorf("the cookie is not valid: %x", l.buf[:n])
	}
	l.measure(t, "valid cookie", renewed)

	version := shape{name: "host.plain.test", rtype: dns.TypeA, edns: true}.with(t, func(q []byte) { q[len(q)-5] = 1 })
	chaos := shape{name: "version.bind", rtype: dns.TypeTXT}.with(t, func(q []byte) { q[len(q)-1] = dns.ClassCHAOS })
	opcode := shape{name: "host.plain.test", rtype: dns.TypeA}.with(t, func(q []byte) { q[2] = 15 << 3 })
	response := shape{name: "host.plain.test", rtype: dns.TypeA}.with(t, func(q []byte) { q[2] |= 0x80 })
	for _, c := range []struct {
		what  string
		query []byte
		rcode int // -1 for no answer
	}{
		{"BADVERS", version, dns.RcodeBadVers}, {"CHAOS", chaos, 0}, {"unknown opcode", opcode, dns.RcodeNotImplemented}, {"a response", response, -1},
		{"short", []byte{1, 2, 3}, -1}, {"malformed", []byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff}, dns.RcodeFormatError},
	} {
		var m dns.Msg
		n := l.turn(c.query)
		if err := m.Unpack(l.buf[:max(n, 0)]); (n == 0) != (c.rcode < 0) || n > 0 && (err != nil || m.Rcode != c.rcode) {
			t.Errorf("%s: %x", c.what, l.buf[:n])
		}
		l.measure(t, c.what, c.query)
	}
}

func (s shape) with(t testing.TB, change func([]byte)) []byte {
	t.Helper()
	q := s.query(t)
	change(q)
	return q
}

// So it is with answers that compact denial signs once and keeps, with cookies
// required, and over the rate limit.
func TestTheLoopAllocatesNothingUnderSettings(t *testing.T) {
	compact := newLoop(t, shapesWorld(t, "", "compact"))
	for _, name := range []string{"none", "host", "x.wild"} {
		s := shape{what: "compact denial for " + name, name: name + ".signed.test", rtype: dns.TypeTXT, edns: true, do: true, authority: 4}
		q := s.query(t)
		s.holds(t, compact.buf[:max(0, compact.turn(q))])
		compact.measure(t, s.what, q)
	}

	strict := newLoop(t, shapesWorld(t, "cookies: {require: true},", "nsec"))
	s := shape{what: "BADCOOKIE", name: "host.plain.test", rtype: dns.TypeA, edns: true, options: newCookie, rcode: dns.RcodeBadCookie}
	q := s.query(t)
	s.holds(t, strict.buf[:max(0, strict.turn(q))])
	strict.measure(t, s.what, q)

	limited := newLoop(t, shapesWorld(t, "rate_limit: {per_second: 1, slip: 2},", "nsec"))
	s = shape{name: "host.signed.test", rtype: dns.TypeA, edns: true, do: true}
	limited.measure(t, "rate limited", s.query(t))
	if st := limited.socket.stats; st.limited.Load() == 0 || st.slipped.Load() == 0 {
		t.Errorf("%d limited, %d slipped", st.limited.Load(), st.slipped.Load())
	}

	behind := newLoop(t, shapesWorld(t, "proxies: [127.0.0.0/8],", "nsec"))
	s = shape{name: "www.signed.test", rtype: dns.TypeA, edns: true, do: true}
	q = append(proxyHeader("203.0.113.9:4444", proxyDatagram), s.query(t)...)
	if behind.turn(q) <= 0 {
		t.Error("no answer behind a proxy")
	}
	behind.measure(t, "behind a proxy", q)
}

// Each message of a full batch is answered without an allocation, over either
// family, with the address that it came to.
func TestABatchAllocatesNothing(t *testing.T) {
	l := newLoop(t, shapesWorld(t, "", "nsec"))
	q := shape{name: "www.signed.test", rtype: dns.TypeA, edns: true, do: true}.with(t, func([]byte) {})
	if n := testing.AllocsPerRun(20, func() {
		for range batch {
			if _, err := unix.Write(l.client, q); err != nil {
				t.Error(err)
			}
		}
		l.socket.makeRoom()
		if err := l.socket.poll.Read(l.socket.receive); err != nil || l.socket.received != batch {
			t.Errorf("%d messages, %v", l.socket.received, err)
		}
		l.socket.answerAll(l.server)
		for range batch {
			if _, err := unix.Read(l.client, l.buf[:]); err != nil {
				t.Error(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
