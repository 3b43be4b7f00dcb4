package answer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

const compactSpec = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2, 192.0.2.22], v6: ["2001:db8::2"]}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: order, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: failover, regions: [tyo], all_down: fail_closed}}
dns:
  dnssec: [{policy: small, denial: compact, algorithm: ALGORITHM}]
zones:
- zone: signed.test
  dnssec: small
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    alias CNAME nothing
    wild CNAME x.many
    plain TXT "x"
    old DNAME empty
    a.b.ent TXT "deep"
    *.many TXT "one"
    *.many TXT "two"
    *.to CNAME plain
    caa CAA 0 issue "ca.example"
    child NS ns.child
    ns.child A 192.0.2.54
  steered:
  - {name: www, service: web, https: {second: true}}
  - {name: order, service: order}
  - {name: "*.any", service: web}
`

// compactPlan gives a plan whose zone denies compactly, and the zone.
func compactPlan(t testing.TB, algorithm fleet.DNSSECAlgorithm, v *fleet.View) (*Plan, *zone.Zone) {
	t.Helper()
	w := newWorld(t, strings.Replace(compactSpec, "ALGORITHM", string(algorithm), 1))
	z := signedBy(t, w, "small", true)
	publish(w, z)
	p, err := Compile(id, w, newAtlas(), v, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, p.Zone(z.Name)
}

// askAt asks over a stream at a moment.
func askAt(t testing.TB, p *Plan, at time.Time, name string, qtype uint16, changes ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	var w Worker
	out := make([]byte, MaxStream)
	c := Client{Addr: netip.MustParseAddr("198.51.100.1"), Stream: true, Now: uint32(at.Unix())}
	n, _ := p.Answer(&w, pack(t, query(name, qtype, changes...)), c, out)
	var m dns.Msg
	if err := m.Unpack(out[:n]); err != nil {
		t.Fatal(err)
	}
	return &m
}

// co sets DO and CO (RFC 9824 section 5.1).
func co(m *dns.Msg) {
	do(m)
	m.IsEdns0().Hdr.Ttl |= 0x4000
}

func hasCO(m *dns.Msg) bool { return m.IsEdns0() != nil && m.IsEdns0().Hdr.Ttl&0x4000 != 0 }

// denied gives the one NSEC of a response, in full.
func denied(t *testing.T, m *dns.Msg) string {
	t.Helper()
	var all []string
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		if n, ok := rr.(*dns.NSEC); ok {
			all = append(all, fmt.Sprintf("%s %d %s %s", n.Hdr.Name, n.Hdr.Ttl, n.NextDomain, types(n.TypeBitMap)))
		}
	}
	if len(all) > 1 {
		t.Errorf("%d NSECs in\n%v", len(all), m)
	}
	return strings.Join(all, "; ")
}

func types(list []uint16) string {
	var out []string
	for _, t := range list {
		out = append(out, dns.Type(t).String())
	}
	return strings.Join(out, " ")
}

// RFC 9824 §3.1: a missing name is a NODATA with one NSEC, of that name and the one right behind it, whose bitmap has RRSIG, NSEC and NXNAME.
// RFC 9824 §3.2: a name without the type is a NODATA with one NSEC of the name, which tells of its types and of no other name.
// RFC 9824 §3.4: an insecure referral has the NSEC of the delegation, without DS.
// RFC 9824 §5: without DO, a missing name is NXDOMAIN.
func TestRFC9824(t *testing.T) {
	for _, algorithm := range []fleet.DNSSECAlgorithm{fleet.ECDSAP256, fleet.Ed25519} {
		p, z := compactPlan(t, algorithm, down("order", "tyo"))
		for _, c := range []struct {
			name  string
			qtype uint16
			plain int // the rcode without DO
			nsec  string
		}{
			{"nothing.signed.test.", dns.TypeA, dns.RcodeNameError, `nothing.signed.test. 60 \000.nothing.signed.test. RRSIG NSEC NXNAME`},
			{"not.in.nothing.signed.test.", dns.TypeANY, dns.RcodeNameError, `not.in.nothing.signed.test. 60 \000.not.in.nothing.signed.test. RRSIG NSEC NXNAME`},
			{"alias.signed.test.", dns.TypeA, dns.RcodeNameError, `nothing.signed.test. 60 \000.nothing.signed.test. RRSIG NSEC NXNAME`},
			{"x.old.signed.test.", dns.TypeA, dns.RcodeNameError, `x.empty.signed.test. 60 \000.x.empty.signed.test. RRSIG NSEC NXNAME`},
			{"plain.signed.test.", dns.TypeA, 0, `plain.signed.test. 60 \000.plain.signed.test. TXT RRSIG NSEC`},
			{"b.ent.signed.test.", dns.TypeA, 0, `b.ent.signed.test. 60 \000.b.ent.signed.test. RRSIG NSEC`},
			{"x.many.signed.test.", dns.TypeA, 0, `x.many.signed.test. 60 \000.x.many.signed.test. TXT RRSIG NSEC`},
			{"wild.signed.test.", dns.TypeA, 0, `x.many.signed.test. 60 \000.x.many.signed.test. TXT RRSIG NSEC`},
			{"www.signed.test.", dns.TypeTXT, 0, `www.signed.test. 60 \000.www.signed.test. A AAAA RRSIG NSEC HTTPS`},
			{"order.signed.test.", dns.TypeA, 0, `order.signed.test. 30 \000.order.signed.test. RRSIG NSEC`},
			{"a.child.signed.test.", dns.TypeA, 0, `child.signed.test. 60 \000.child.signed.test. NS RRSIG NSEC`},
			{"child.signed.test.", dns.TypeDS, 0, `child.signed.test. 60 \000.child.signed.test. NS RRSIG NSEC`},
		} {
			m := askAt(t, p, now, c.name, c.qtype, do)
			verify(t, z, m)
			if got := denied(t, m); got != c.nsec || m.Rcode != 0 || hasCO(m) {
				t.Errorf("%s: %s\n%v", c.name, got, m)
			}
			if m := askAt(t, p, now, c.name, c.qtype); m.Rcode != c.plain || denied(t, m) != "" {
				t.Errorf("%s without DO:\n%v", c.name, m)
			}
		}
	}
}

// RFC 9824 §3.3: an answer from a wildcard is signed as that of the name asked for, and needs no proof.
func TestRFC9824Wildcard(t *testing.T) {
	p, z := compactPlan(t, fleet.ECDSAP256, nil)
	for _, c := range []struct {
		name  string
		qtype uint16
		sets  int
	}{
		{"X.many.signed.test.", dns.TypeTXT, 1},
		{"x.y.many.signed.test.", dns.TypeTXT, 1},
		{"x.to.signed.test.", dns.TypeTXT, 2},
		{"wild.signed.test.", dns.TypeTXT, 2},
		{"x.any.signed.test.", dns.TypeA, 1},
		{"x.any.signed.test.", dns.TypeANY, 2},
		{"*.many.signed.test.", dns.TypeTXT, 1},
	} {
		for range 4 { // steered records rotate
			m := askAt(t, p, now, c.name, c.qtype, do)
			verify(t, z, m)
			if len(rrsets(m.Answer)) != c.sets || len(m.Ns) > 0 {
				t.Errorf("%s:\n%v", c.name, m)
			}
			for _, rr := range m.Answer {
				if s, ok := rr.(*dns.RRSIG); ok && int(s.Labels) != dns.CountLabel(strings.TrimPrefix(s.Hdr.Name, "*.")) {
					t.Errorf("%s: %s is of a wildcard", c.name, s)
				}
			}
		}
	}
}

// RFC 9824 §5.1: to a query with CO the rcode of a missing name is NXDOMAIN, and CO is set; names that exist are not touched, nor is what other zones answer.
func TestRFC9824ResponseCode(t *testing.T) {
	p, z := compactPlan(t, fleet.Ed25519, nil)
	for name, rcode := range map[string]int{"nothing.signed.test.": dns.RcodeNameError, "alias.signed.test.": dns.RcodeNameError,
		"plain.signed.test.": 0, "b.ent.signed.test.": 0, "x.many.signed.test.": 0} {
		m := askAt(t, p, now, name, dns.TypeA, co)
		verify(t, z, m)
		if m.Rcode != rcode || !hasCO(m) || denied(t, m) == "" {
			t.Errorf("%s:\n%v", name, m)
		}
	}
	if m := askAt(t, p, now, "nothing.signed.test.", dns.TypeA, edns, func(m *dns.Msg) { m.IsEdns0().Hdr.Ttl |= 0x4000 }); hasCO(m) || m.Rcode != dns.RcodeNameError {
		t.Errorf("CO without DO:\n%v", m)
	}
	if m := askStream(t, signedPlan(t, "nsec"), "nothing.signed.test.", dns.TypeA, co); hasCO(m) || m.Rcode != dns.RcodeNameError {
		t.Errorf("CO to a zone that is signed ahead:\n%v", m)
	}
}

// RFC 9824 §1: the content of the zone is not disclosed: whatever is asked for, no NSEC tells of a name that the client does not know.
func TestRFC9824TellsNoNames(t *testing.T) {
	p, z := compactPlan(t, fleet.Ed25519, nil)
	for _, name := range []string{"signed.test.", "plain.signed.test.", "www.signed.test.", "b.ent.signed.test.", "x.many.signed.test.", "nothing.signed.test.", "alias.signed.test."} {
		for _, change := range []func(*dns.Msg){do, edns, co} {
			m := askAt(t, p, now, name, dns.TypeNSEC, change)
			if denied(t, m) == "" || len(m.Answer) == 0 || len(m.Ns) > 0 || m.Rcode != 0 {
				t.Errorf("%s NSEC:\n%v", name, m)
			}
			if m.IsEdns0().Do() {
				verify(t, z, m)
			}
			for _, qtype := range []uint16{dns.TypeNSEC, dns.TypeANY, dns.TypeRRSIG, dns.TypeTXT} {
				m := askAt(t, p, now, name, qtype, change)
				for _, rr := range slices.Concat(m.Answer, m.Ns) {
					if n, ok := rr.(*dns.NSEC); ok && n.NextDomain != `\000.`+strings.ToLower(n.Hdr.Name) {
						t.Errorf("%s %s: %s", name, dns.Type(qtype), n)
					}
				}
			}
		}
	}
}

// RFC 9824 §3: since every bitmap has RRSIG, type RRSIG is no NODATA at any name, missing or empty: a validator would refuse that.
func TestRFC9824AskedForSignatures(t *testing.T) {
	p, _ := compactPlan(t, fleet.Ed25519, down("order", "tyo"))
	for _, name := range []string{"nothing", "b.ent", "www", "order", "x.many", "x.any", "plain", "alias", "x.old"} {
		m := askAt(t, p, now, name+".signed.test.", dns.TypeRRSIG, do)
		covers := map[uint16]int{}
		for _, rr := range m.Answer {
			if s, ok := rr.(*dns.RRSIG); ok {
				covers[s.TypeCovered]++
			}
		}
		if covers[dns.TypeNSEC] != 1 || len(m.Ns) > 0 || m.Rcode != 0 {
			t.Errorf("%s:\n%v", name, m)
		}
	}
}

// RFC 8482 §4.1: type ANY over UDP gets one set of a name, and not its NSEC, which may come before all others.
func TestRFC8482CompactAny(t *testing.T) {
	p, z := compactPlan(t, fleet.Ed25519, nil)
	for name, want := range map[string]uint16{"caa.signed.test.": dns.TypeCAA, "plain.signed.test.": dns.TypeTXT} {
		m := ask(t, p, name, dns.TypeANY, do)
		verify(t, z, m)
		if len(m.Answer) != 2 || m.Answer[0].Header().Rrtype != want || len(m.Ns) > 0 {
			t.Errorf("%s:\n%v", name, m)
		}
	}
}

// A signature is made once an hour for what is asked for again, is the same on
// every server, and is valid for a day.
func TestCompactSignaturesLastADay(t *testing.T) {
	p, _ := compactPlan(t, fleet.ECDSAP256, nil)
	other, _ := compactPlan(t, fleet.ECDSAP256, nil)
	of := func(p *Plan, at time.Time) *dns.RRSIG {
		for _, rr := range askAt(t, p, at, "nothing.signed.test.", dns.TypeA, do).Ns {
			if s, ok := rr.(*dns.RRSIG); ok && s.TypeCovered == dns.TypeNSEC {
				return s
			}
		}
		t.Fatal("no signature")
		return nil
	}
	hour := now.Truncate(time.Hour)
	first, last := of(p, hour), of(other, hour.Add(time.Hour-time.Second))
	if first.String() != last.String() {
		t.Errorf("%s\n%s", first, last)
	}
	for _, at := range []time.Time{hour.Add(-time.Hour), hour.Add(25 * time.Hour)} {
		if !first.ValidityPeriod(at) {
			t.Errorf("not valid at %s: %s", at, first)
		}
	}
	if n := other.SignedOnline(); n != 1 || of(other, hour) == nil || other.SignedOnline() != n {
		t.Errorf("%d signatures were made for one name", other.SignedOnline())
	}
	if next := of(p, hour.Add(time.Hour)); next.Inception != first.Inception+3600 {
		t.Errorf("in the next hour: %s", next)
	}
}

// Keys that do not sign the zone, or that are damaged, are refused with the zone.
func TestCompactKeysAreChecked(t *testing.T) {
	w := newWorld(t, strings.Replace(compactSpec, "ALGORITHM", "ed25519", 1))
	z := signedBy(t, w, "small", true)
	good := z.Online
	for why, online := range map[string][]byte{
		"are cut short":            good[:20],
		"not one that signs":       append([]byte{15}, make([]byte, 32)...),
		"not with algorithm 8":     append([]byte{8}, good[1:]...),
		"has no NSECs to go by":    nil,
		"private key of ecdsap256": append([]byte{13}, make([]byte, 32)...),
	} {
		bad := z
		if bad.Online = online; online == nil {
			hashed := newWorld(t, strings.Replace(strings.Replace(compactSpec, "ALGORITHM", "ed25519", 1), "compact", "nsec3", 1))
			bad = signedBy(t, hashed, "small", true)
			bad.Online = good
		}
		publish(w, bad)
		if _, err := Compile(id, w, nil, nil, now, nil); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "zone signed.test.") {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// What is asked for again allocates nothing.
func TestCompactAnswersDoNotAllocate(t *testing.T) {
	p, _ := compactPlan(t, fleet.ECDSAP256, nil)
	var w Worker
	out := make([]byte, PayloadUDP)
	c := Client{Addr: netip.MustParseAddr("198.51.100.1"), Now: uint32(now.Unix())}
	for _, q := range [][]byte{
		pack(t, query("nothing.signed.test.", dns.TypeA, do)), pack(t, query("plain.signed.test.", dns.TypeA, do)),
		pack(t, query("x.many.signed.test.", dns.TypeTXT, do)), pack(t, query("x.any.signed.test.", dns.TypeA, do)),
	} {
		if n := testing.AllocsPerRun(100, func() { p.Answer(&w, q, c, out) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// BenchmarkCompact asks for one name again and again, and for one never asked
// for before.
func BenchmarkCompact(b *testing.B) {
	for _, algorithm := range []fleet.DNSSECAlgorithm{fleet.ECDSAP256, fleet.Ed25519} {
		p, _ := compactPlan(b, algorithm, nil)
		var w Worker
		out := make([]byte, PayloadUDP)
		c := Client{Addr: netip.MustParseAddr("198.51.100.1"), Now: uint32(now.Unix())}
		q := pack(b, query("00000000.signed.test.", dns.TypeA, do))
		b.Run(string(algorithm)+"/again", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Answer(&w, q, c, out)
			}
		})
		b.Run(string(algorithm)+"/new", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				copy(q[headerLen+1:], fmt.Sprintf("%08x", i))
				p.Answer(&w, q, c, out)
			}
		})
	}
}
