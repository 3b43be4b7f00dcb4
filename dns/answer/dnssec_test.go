package answer

import (
	"encoding/base64"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// families are the ways in which the zone signed.test. is signed; see
// testdata/signed/README.
var families = []string{"nsec", "nsec3", "optout"}

func signedZone(t testing.TB, family string) *zone.Zone {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "signed", family+".zone"))
	if err != nil {
		t.Fatal(err)
	}
	z := mustZone(t, "signed.test.", string(text))
	if family != "unsigned" && !z.Signed {
		t.Fatalf("%s: the zone does not count as signed", family)
	}
	return z
}

func signedPlan(t testing.TB, family string) *Plan {
	return Zones(id, []*zone.Zone{signedZone(t, family)})
}

func do(m *dns.Msg) { m.SetEdns0(4096, true) }

// askStream asks over a stream, so that nothing is cut off.
func askStream(t testing.TB, p *Plan, name string, qtype uint16, changes ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := send(t, p, pack(t, query(name, qtype, changes...)), true)
	if m == nil {
		t.Fatalf("%s: no answer", name)
	}
	return m
}

// verify checks every signature of a response against the zone's keys, and that
// every RRset that the zone is authoritative for has one.
func verify(t testing.TB, z *zone.Zone, m *dns.Msg) {
	t.Helper()
	var keys []*dns.DNSKEY
	for rest := z.Apex().Get(zone.TypeDNSKEY).Data; len(rest) > 0; {
		var rdata []byte
		rdata, rest = zone.Next(rest)
		keys = append(keys, &dns.DNSKEY{Hdr: dns.RR_Header{Name: string(z.Name), Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 300},
			Flags: uint16(rdata[0])<<8 | uint16(rdata[1]), Protocol: rdata[2], Algorithm: rdata[3], PublicKey: base64.StdEncoding.EncodeToString(rdata[4:])})
	}
	for section, rrs := range map[string][]dns.RR{"answer": m.Answer, "authority": m.Ns, "additional": m.Extra} {
		for _, set := range rrsets(rrs) {
			head := set[0].Header()
			var sigs []*dns.RRSIG
			for _, rr := range rrs {
				if s, ok := rr.(*dns.RRSIG); ok && s.TypeCovered == head.Rrtype && strings.EqualFold(s.Hdr.Name, head.Name) {
					sigs = append(sigs, s)
				}
			}
			cut := strings.Contains(head.Name, "child.") || strings.Contains(head.Name, "insecure.") || strings.Contains(head.Name, "insent.")
			if cut && (head.Rrtype == dns.TypeNS || head.Rrtype == dns.TypeA) || synthesized(set[0], rrs) {
				if len(sigs) > 0 {
					t.Errorf("%s: %s has a signature", section, set[0])
				}
				continue
			}
			good := false
			for _, s := range sigs {
				for _, k := range keys {
					good = good || k.KeyTag() == s.KeyTag && s.Verify(k, set) == nil
				}
				if s.Hdr.Ttl != head.Ttl {
					t.Errorf("%s: TTL %d of the signature of %s", section, s.Hdr.Ttl, set[0])
				}
			}
			if !good {
				t.Errorf("%s: no good signature of %s among %v", section, set, sigs)
			}
		}
	}
}

// synthesized says whether a CNAME was made from a DNAME beside it.
func synthesized(rr dns.RR, rrs []dns.RR) bool {
	return rr.Header().Rrtype == dns.TypeCNAME && slices.ContainsFunc(rrs, func(o dns.RR) bool {
		return o.Header().Rrtype == dns.TypeDNAME && dns.IsSubDomain(o.Header().Name, rr.Header().Name)
	})
}

func rrsets(rrs []dns.RR) map[[2]string][]dns.RR {
	out := map[[2]string][]dns.RR{}
	for _, rr := range rrs {
		if h := rr.Header(); h.Rrtype != dns.TypeRRSIG && h.Rrtype != dns.TypeOPT {
			k := [2]string{strings.ToLower(h.Name), dns.Type(h.Rrtype).String()}
			out[k] = append(out[k], rr)
		}
	}
	return out
}

// matched and covered say what the NSEC and NSEC3 records of a response prove.
func matched(m *dns.Msg, name string) (types []uint16, ok bool) {
	for _, rr := range m.Ns {
		switch rr := rr.(type) {
		case *dns.NSEC:
			if strings.EqualFold(rr.Hdr.Name, name) {
				return rr.TypeBitMap, true
			}
		case *dns.NSEC3:
			if rr.Match(name) {
				return rr.TypeBitMap, true
			}
		}
	}
	return nil, false
}

func covered(m *dns.Msg, name string) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
		switch rr := rr.(type) {
		case *dns.NSEC:
			before := zone.Compare(string(zone.Wire(fleet.Name(rr.Hdr.Name))), zone.Wire(fleet.Name(name))) < 0
			next := zone.Wire(fleet.Name(rr.NextDomain))
			last := rr.NextDomain == "signed.test."
			return before && (last || zone.Compare(string(zone.Wire(fleet.Name(name))), next) < 0)
		case *dns.NSEC3:
			return rr.Cover(name)
		}
		return false
	})
}

func count(rrs []dns.RR, types ...uint16) (n int) {
	for _, rr := range rrs {
		if slices.Contains(types, rr.Header().Rrtype) {
			n++
		}
	}
	return n
}

// eachFamily runs a test on each of the signed zones.
func eachFamily(t *testing.T, f func(t *testing.T, p *Plan, z *zone.Zone, nsec3 bool)) {
	for _, family := range families {
		t.Run(family, func(t *testing.T) {
			z := signedZone(t, family)
			f(t, Zones(id, []*zone.Zone{z}), z, family != "nsec")
		})
	}
}

// RFC 4035 §3.1.1: with DO, every RRset comes with its RRSIGs, in every section.
// RFC 4034 §3: the TTL of an RRSIG is that of the RRset it covers.
func TestRFC4035EveryAnswerVerifies(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, z *zone.Zone, _ bool) {
		for _, name := range []string{"@", "www", "mail", "alias", "gone", "nothing", "a.b.nothing", "x.wild", "x.y.wild", "y.wild", "z.y.wild", "*.wild", "x.wildalias",
			"ent", "b.ent", "a.b.ent", "child", "x.child", "insecure", "x.insecure", "insent", "sub.insent", "tochild", "old", "x.old", "y.old", "svc", "site", "big", "many"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeNS, dns.TypeDS, dns.TypeSRV, dns.TypeHTTPS, dns.TypeDNSKEY, dns.TypeNSEC,
				dns.TypeNSEC3PARAM, dns.TypeCNAME, dns.TypeDNAME, dns.TypeANY, 65280} {
				full := "signed.test."
				if name != "@" {
					full = name + "." + full
				}
				verify(t, z, askStream(t, p, full, qtype, do))
			}
		}
	})
}

// RFC 3225 §3: without DO there are no DNSSEC records that were not asked for.
// RFC 4035 §3.1: a query without DO gets what it would from an unsigned zone.
func TestRFC4035WithoutDO(t *testing.T) {
	plain := signedPlan(t, "unsigned")
	eachFamily(t, func(t *testing.T, p *Plan, z *zone.Zone, _ bool) {
		for _, name := range []string{"www", "nothing", "x.wild", "ent", "x.child", "x.insecure", "x.old", "svc", "site"} {
			got, want := ask(t, p, name+".signed.test.", dns.TypeA, edns), ask(t, plain, name+".signed.test.", dns.TypeA, edns)
			if text(got.Answer) != text(want.Answer) || text(got.Ns) != text(want.Ns) || text(got.Extra) != text(want.Extra) || got.Rcode != want.Rcode {
				t.Errorf("%s: %v\nwant %v", name, got, want)
			}
		}
	})
}

// RFC 4035 §3.1.3.1: NODATA is proven by the NSEC of the name, which lacks the type.
// RFC 5155 §7.2.3: NODATA is proven by the NSEC3 that matches the name.
func TestRFC4035NoData(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, _ bool) {
		m := ask(t, p, "www.signed.test.", dns.TypeMX, do)
		types, ok := matched(m, "www.signed.test.")
		if !ok || slices.Contains(types, dns.TypeMX) || !slices.Contains(types, dns.TypeA) || m.Rcode != 0 || count(m.Ns, dns.TypeNSEC, dns.TypeNSEC3) != 1 {
			t.Errorf("%v", m)
		}
	})
}

// RFC 4035 §3.1.3.2: NXDOMAIN is proven by NSECs that cover the name and the wildcard at its closest encloser.
// RFC 5155 §7.2.2: NXDOMAIN is proven by the closest encloser, the next closer name and the wildcard.
func TestRFC4035NameError(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, nsec3 bool) {
		m := ask(t, p, "x.nothing.b.ent.signed.test.", dns.TypeA, do)
		next := "x.nothing.b.ent.signed.test."
		if nsec3 {
			next = "nothing.b.ent.signed.test."
			if _, ok := matched(m, "b.ent.signed.test."); !ok {
				t.Errorf("the closest encloser is not proven: %v", m)
			}
		}
		if m.Rcode != dns.RcodeNameError || !covered(m, next) || !covered(m, "*.b.ent.signed.test.") {
			t.Errorf("%v", m)
		}
	})
}

// RFC 4035 §3.1.3.3: an answer from a wildcard comes with the proof that the name itself does not exist.
// RFC 5155 §7.2.6: that proof is the NSEC3 that covers the next closer name.
func TestRFC4035WildcardAnswer(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, nsec3 bool) {
		m := ask(t, p, "a.b.wild.signed.test.", dns.TypeA, do)
		next := "a.b.wild.signed.test."
		if nsec3 {
			next = "b.wild.signed.test."
		}
		if count(m.Answer, dns.TypeA) != 1 || !covered(m, next) || count(m.Ns, dns.TypeNSEC, dns.TypeNSEC3) != 1 || count(m.Ns, dns.TypeSOA) != 0 {
			t.Errorf("%v", m)
		}
		if sig := m.Answer[1].(*dns.RRSIG); sig.Labels != 3 || sig.Hdr.Name != "a.b.wild.signed.test." {
			t.Errorf("%v", sig)
		}
		m = ask(t, p, "a.wildalias.signed.test.", dns.TypeA, do)
		if count(m.Answer, dns.TypeCNAME) != 1 || count(m.Answer, dns.TypeA) != 1 || !covered(m, "a.wildalias.signed.test.") {
			t.Errorf("an alias made from a wildcard: %v", m)
		}
		m = ask(t, p, "*.wild.signed.test.", dns.TypeA, do)
		if count(m.Ns, dns.TypeNSEC, dns.TypeNSEC3) != 0 {
			t.Errorf("RFC 4592 §2.2.1: the wildcard asked for by name: %v", m)
		}
	})
}

// RFC 4035 §3.1.3.4: NODATA from a wildcard is proven by the wildcard's NSEC and the one that covers the name.
// RFC 5155 §7.2.5: NODATA from a wildcard is proven by the closest encloser, the next closer name and the wildcard's NSEC3.
func TestRFC4035WildcardNoData(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, nsec3 bool) {
		m := ask(t, p, "a.wild.signed.test.", dns.TypeMX, do)
		types, ok := matched(m, "*.wild.signed.test.")
		if !ok || slices.Contains(types, dns.TypeMX) || !covered(m, "a.wild.signed.test.") || m.Rcode != 0 {
			t.Errorf("%v", m)
		}
		if _, ok := matched(m, "wild.signed.test."); nsec3 && !ok {
			t.Errorf("the closest encloser is not proven: %v", m)
		}
	})
}

// RFC 4035 §3.1.3.1: an empty non-terminal is proven to exist by the NSEC that covers it, whose next name lies below it.
// RFC 5155 §7.1: an empty non-terminal has an NSEC3 of its own, without types.
func TestRFC4035EmptyNonTerminal(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, nsec3 bool) {
		m := ask(t, p, "ent.signed.test.", dns.TypeA, do)
		if types, ok := matched(m, "ent.signed.test."); nsec3 && (!ok || len(types) != 0) || m.Rcode != 0 {
			t.Errorf("%v", m)
		}
		if !nsec3 && (!covered(m, "ent.signed.test.") || count(m.Ns, dns.TypeNSEC) != 1) {
			t.Errorf("%v", m)
		}
	})
}

// RFC 4035 §3.1.4: a referral to a signed zone has its DS set, with a signature.
func TestRFC4035SecureReferral(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, _ bool) {
		m := ask(t, p, "x.child.signed.test.", dns.TypeA, do)
		if m.Authoritative || count(m.Ns, dns.TypeNS) != 2 || count(m.Ns, dns.TypeDS) != 1 || count(m.Ns, dns.TypeRRSIG) != 1 || count(m.Ns, dns.TypeNSEC, dns.TypeNSEC3) != 0 {
			t.Errorf("%v", m)
		}
		if text(m.Extra) == "" {
			t.Error("no glue")
		}
	})
}

// RFC 4035 §3.1.4: a referral to an unsigned zone has the proof that there is no DS set.
// RFC 5155 §7.2.7: that proof is the NSEC3 of the delegation, or with opt-out the closest encloser and one that covers the next closer name.
func TestRFC4035InsecureReferral(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, z *zone.Zone, _ bool) {
		m := ask(t, p, "x.insecure.signed.test.", dns.TypeA, do)
		noDS(t, m, "insecure.signed.test.")
		if m.Authoritative || count(m.Ns, dns.TypeNS) != 1 || count(m.Ns, dns.TypeSOA) != 0 {
			t.Errorf("%v", m)
		}
		noDS(t, ask(t, p, "x.sub.insent.signed.test.", dns.TypeA, do), "sub.insent.signed.test.")
	})
}

// noDS holds a response to proving that a delegation has no DS set.
func noDS(t *testing.T, m *dns.Msg, name string) {
	t.Helper()
	types, ok := matched(m, name)
	if ok && (slices.Contains(types, dns.TypeDS) || !slices.Contains(types, dns.TypeNS) || slices.Contains(types, dns.TypeSOA)) {
		t.Errorf("%s: types %v", name, types)
	}
	if _, encloser := matched(m, "signed.test."); !ok && (!encloser || !covered(m, name) && !covered(m, "insent.signed.test.")) {
		t.Errorf("%s: nothing proven: %v", name, m)
	}
}

// RFC 4035 §3.1.4.1: DS is answered at the parent's side of a cut, with authority.
// RFC 5155 §7.2.4: that a delegation has no DS set is proven by its NSEC3, or by opt-out.
func TestRFC4035DS(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, z *zone.Zone, _ bool) {
		m := ask(t, p, "child.signed.test.", dns.TypeDS, do)
		if !m.Authoritative || count(m.Answer, dns.TypeDS) != 1 || count(m.Answer, dns.TypeRRSIG) != 1 {
			t.Errorf("%v", m)
		}
		m = ask(t, p, "insecure.signed.test.", dns.TypeDS, do)
		if !m.Authoritative || m.Rcode != 0 || len(m.Answer) != 0 || count(m.Ns, dns.TypeSOA) != 1 {
			t.Errorf("%v", m)
		}
		noDS(t, m, "insecure.signed.test.")
		child := mustZone(t, "child.signed.test.", "@ 300 SOA ns1 admin 1 2 3 4 60\n@ 300 NS ns1\nns1 300 A 192.0.2.61\n")
		both := p.WithZone(child)
		if m := ask(t, both, "child.signed.test.", dns.TypeDS, do); !m.Authoritative || count(m.Answer, dns.TypeDS) != 1 {
			t.Errorf("parent and child on one server: %v", m)
		}
		if m := ask(t, both, "child.signed.test.", dns.TypeNS, do); !m.Authoritative || count(m.Answer, dns.TypeNS) != 1 {
			t.Errorf("parent and child on one server: %v", m)
		}
		alone := Zones(id, []*zone.Zone{child})
		if m := ask(t, alone, "child.signed.test.", dns.TypeDS, do); !m.Authoritative || m.Rcode != 0 || len(m.Answer) != 0 || count(m.Ns, dns.TypeSOA) != 1 {
			t.Errorf("the child alone: %v", m)
		}
	})
}

// RFC 6672 §5.3.1: a DNAME is signed, and the CNAME made from it is not.
func TestRFC6672SignedDNAME(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, _ bool) {
		m := ask(t, p, "x.old.signed.test.", dns.TypeTXT, do)
		if count(m.Answer, dns.TypeDNAME) != 1 || count(m.Answer, dns.TypeCNAME) != 1 || count(m.Answer, dns.TypeTXT) != 1 || count(m.Answer, dns.TypeRRSIG) != 2 || len(m.Ns) != 0 {
			t.Errorf("%v", m)
		}
	})
}

// RFC 5155 §7.2.8: the owner of an NSEC3 does not exist as a name.
func TestRFC5155OwnersOfNSEC3DoNotExist(t *testing.T) {
	p, z := signedPlan(t, "nsec3"), signedZone(t, "nsec3")
	for rec := range z.NSEC3s() {
		m := ask(t, p, string(zone.Text([]byte(rec.Name))), dns.TypeNSEC3, do)
		if m.Rcode != dns.RcodeNameError || len(m.Answer) != 0 || count(m.Ns, dns.TypeNSEC3) == 0 {
			t.Fatalf("%v", m)
		}
	}
}

// RFC 4035 §3.1.1: a response that lacks a signature or a proof for want of space is truncated; additional data is just left out.
// RFC 6891 §7: the OPT survives truncation, with DO.
func TestRFC4035Truncation(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, z *zone.Zone, _ bool) {
		tight := func(m *dns.Msg) { m.SetEdns0(512, true) }
		if m := ask(t, p, "many.signed.test.", dns.TypeTXT, tight); !m.Truncated || len(m.Answer) != 0 || m.IsEdns0() == nil || !m.IsEdns0().Do() {
			t.Errorf("%v", m)
		}
		m := ask(t, p, "signed.test.", dns.TypeMX, tight)
		if m.Truncated || count(m.Answer, dns.TypeMX, dns.TypeRRSIG) != 2 {
			t.Errorf("%v", m)
		}
		for _, size := range []uint16{512, 700, 900, 1232} {
			for _, name := range []string{"www", "nothing", "a.b.wild", "x.insecure", "x.child", "x.old", "many", "ent"} {
				m := ask(t, p, name+".signed.test.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(size, true) })
				if !m.Truncated {
					verify(t, z, m)
				}
			}
		}
	})
}

// RFC 4035 §3.1.1: type RRSIG gets the signatures of the name, and an alias is not followed for it.
func TestRFC4035RRSIG(t *testing.T) {
	eachFamily(t, func(t *testing.T, p *Plan, z *zone.Zone, nsec3 bool) {
		m := askStream(t, p, "www.signed.test.", dns.TypeRRSIG, do)
		want := 3 // A, TXT, NSEC
		if nsec3 {
			want = 2
		}
		if count(m.Answer, dns.TypeRRSIG) != want || len(m.Answer) != want {
			t.Errorf("%v", m)
		}
		m = askStream(t, p, "alias.signed.test.", dns.TypeRRSIG, do)
		if len(m.Answer) != want-1 {
			t.Errorf("%v", m)
		}
		if m := ask(t, p, "ent.signed.test.", dns.TypeRRSIG, do); len(m.Answer) != 0 || m.Rcode != 0 || count(m.Ns, dns.TypeSOA) != 1 {
			t.Errorf("%v", m)
		}
	})
}

// RFC 4035 §3.1.6: AD and CD are clear in an authoritative response.
func TestRFC4035ADAndCD(t *testing.T) {
	m := ask(t, signedPlan(t, "nsec"), "www.signed.test.", dns.TypeA, do, func(m *dns.Msg) { m.AuthenticatedData, m.CheckingDisabled = true, true })
	if m.AuthenticatedData || m.CheckingDisabled {
		t.Errorf("%+v", m.MsgHdr)
	}
}

func TestSignedAnswersDoNotAllocate(t *testing.T) {
	out := make([]byte, MaxStream)
	eachFamily(t, func(t *testing.T, p *Plan, _ *zone.Zone, _ bool) {
		var w Worker
		for _, name := range []string{"www", "nothing", "a.b.wild", "a.wildalias", "x.insecure", "x.child", "x.old", "ent", "sub.insent"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeDS, dns.TypeRRSIG, dns.TypeANY} {
				q := pack(t, query(name+".signed.test.", qtype, do))
				if n := testing.AllocsPerRun(20, func() { p.Answer(&w, q, Client{Addr: netip.IPv6Loopback()}, out) }); n != 0 {
					t.Errorf("%s %s: %v allocations", name, dns.Type(qtype), n)
				}
			}
		}
	})
}

func BenchmarkSignedAnswer(b *testing.B) {
	out := make([]byte, MaxStream)
	for _, family := range families {
		p := signedPlan(b, family)
		var w Worker
		for _, name := range []string{"www", "x.nothing", "a.wild", "x.insecure"} {
			q := pack(b, query(name+".signed.test.", dns.TypeA, do))
			b.Run(family+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p.Answer(&w, q, Client{Addr: resolver}, out)
				}
			})
		}
	}
}
