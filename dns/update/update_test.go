package update

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

const text = `$ORIGIN example.test.
$TTL 300
@ SOA ns1 admin 7 3600 600 86400 60
@ NS ns1
@ NS ns2.other.example.
@ DNSKEY 257 3 15 MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbL
ns1 A 192.0.2.53
www A 192.0.2.1
www A 192.0.2.2
www TXT x
alias CNAME www
a.b TXT deep
*.wild TXT w
mx MX 10 Mail
`

func load(t testing.TB) *zone.Zone {
	t.Helper()
	z, err := zone.Load("example.test.", []byte(text), "f")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// rr reads a record; "name CLASS TYPE" makes one without data of class ANY or
// NONE, and "NONE record" one of class NONE with data.
func rr(t testing.TB, s string) dns.RR {
	t.Helper()
	f := strings.Fields(s)
	if len(f) == 3 && (f[1] == "ANY" || f[1] == "NONE") {
		return &dns.ANY{Hdr: dns.RR_Header{Name: f[0], Class: dns.StringToClass[f[1]], Rrtype: dns.StringToType[f[2]]}}
	}
	rest, none := strings.CutPrefix(s, "NONE ")
	r, err := dns.NewRR(rest)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	if none {
		r.Header().Class, r.Header().Ttl = dns.ClassNONE, 0
	}
	return r
}

// message makes an update as it comes from the wire.
func message(t testing.TB, prerequisites, updates []string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate("Example.test.")
	for _, s := range prerequisites {
		m.Answer = append(m.Answer, rr(t, s))
	}
	for _, s := range updates {
		m.Ns = append(m.Ns, rr(t, s))
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return out
}

func anything([]byte, uint16) bool { return true }

func list(s string) []string {
	var out []string
	for l := range strings.SplitSeq(s, ";") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// RFC 2136 §2.4.1: RRset exists (value independent). RFC 2136 §2.4.2: RRset exists (value dependent).
// RFC 2136 §2.4.3: RRset does not exist. RFC 2136 §2.4.4: name is in use. RFC 2136 §2.4.5: name is not in use.
// RFC 2136 §3.2: their errors are NXRRSET, NXRRSET, YXRRSET, NXDOMAIN and YXDOMAIN; a TTL, data where there is none, or another class is FORMERR; a name out of the zone NOTZONE.
func TestRFC2136Prerequisites(t *testing.T) {
	for _, c := range []struct {
		pre  string
		want int
	}{
		{"www.example.test. ANY A", dns.RcodeSuccess},
		{"www.example.test. ANY AAAA", dns.RcodeNXRrset},
		{"none.example.test. ANY A", dns.RcodeNXRrset},
		{"www.example.test. 0 A 192.0.2.2; WWW.example.test. 0 A 192.0.2.1", dns.RcodeSuccess},
		{"www.example.test. 0 A 192.0.2.1", dns.RcodeNXRrset},
		{"www.example.test. 0 A 192.0.2.1; www.example.test. 0 A 192.0.2.2; www.example.test. 0 A 192.0.2.3", dns.RcodeNXRrset},
		{"www.example.test. 0 A 192.0.2.1; www.example.test. 0 A 192.0.2.9", dns.RcodeNXRrset},
		{"mx.example.test. 0 MX 10 mAIL.example.test.", dns.RcodeSuccess},
		{"mx.example.test. 0 MX 11 mail.example.test.", dns.RcodeNXRrset},
		{"www.example.test. NONE AAAA", dns.RcodeSuccess},
		{"www.example.test. NONE A", dns.RcodeYXRrset},
		{"www.example.test. ANY ANY", dns.RcodeSuccess},
		{"none.example.test. ANY ANY", dns.RcodeNameError},
		{"b.example.test. ANY ANY", dns.RcodeNameError}, // an empty non-terminal owns nothing
		{"x.wild.example.test. ANY ANY", dns.RcodeNameError},
		{"none.example.test. NONE ANY", dns.RcodeSuccess},
		{"b.example.test. NONE ANY", dns.RcodeSuccess},
		{"www.example.test. NONE ANY", dns.RcodeYXDomain},
		{"www.other.test. ANY A", dns.RcodeNotZone},
		{"www.example.test. 1 A 192.0.2.1", dns.RcodeFormatError},
		{"NONE www.example.test. 0 A 192.0.2.1", dns.RcodeFormatError},
		{"www.example.test. ANY AXFR", dns.RcodeFormatError},
	} {
		changes, rcode := Apply(load(t), message(t, list(c.pre), []string{"new.example.test. 60 A 192.0.2.7"}), anything)
		if rcode != c.want || (len(changes) > 0) != (c.want == dns.RcodeSuccess) {
			t.Errorf("%s: %s, %d changes, want %s", c.pre, dns.RcodeToString[rcode], len(changes), dns.RcodeToString[c.want])
		}
	}
}

// RFC 2136 §3.1: the zone section has one SOA of the zone; another zone or class is NOTAUTH.
// RFC 2136 §3.4.1: names out of the zone are NOTZONE; meta types, TTLs and data where none may be, and other classes, are FORMERR; nothing is changed then.
func TestRFC2136Prescan(t *testing.T) {
	for _, c := range []struct {
		upd  string
		want int
	}{
		{"www.other.test. 60 A 192.0.2.1", dns.RcodeNotZone},
		{"new.example.test. 60 A 192.0.2.1; www.other.test. ANY A", dns.RcodeNotZone},
		{"www.example.test. ANY AXFR", dns.RcodeFormatError},
		{"www.example.test. NONE ANY", dns.RcodeFormatError},
		{"www.example.test. NONE A", dns.RcodeFormatError},
		{"www.example.test. 60 CH TXT x", dns.RcodeFormatError},
	} {
		changes, rcode := Apply(load(t), message(t, nil, list(c.upd)), anything)
		if rcode != c.want || changes != nil {
			t.Errorf("%s: %s, want %s", c.upd, dns.RcodeToString[rcode], dns.RcodeToString[c.want])
		}
	}
	m := message(t, nil, []string{"new.example.test. 60 A 192.0.2.7"})
	for what, c := range map[string]struct {
		change func(*dns.Msg)
		want   int
	}{
		"other zone": {func(m *dns.Msg) { m.Question[0].Name = "other.test." }, dns.RcodeNotAuth}, "class": {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeNotAuth},
		"type": {func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }, dns.RcodeFormatError}, "two": {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		"none": {func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
	} {
		x := m.Copy()
		c.change(x)
		if _, rcode := Apply(load(t), x, anything); rcode != c.want {
			t.Errorf("%s: %s", what, dns.RcodeToString[rcode])
		}
	}
}

// RFC 2136 §3.4.2.2: records are added, or replace the CNAME or an older SOA; a CNAME beside other data, and other data beside a CNAME, are passed over.
// RFC 2136 §3.4.2.3: deleting RRsets or names keeps the apex's SOA and NS.
// RFC 2136 §3.4.2.4: deleting a record keeps the SOA and the last NS of the apex.
// RFC 2136 §3.6: a change without a SOA gives the next serial; no change gives none.
// RFC 2181 §5.2: an added record gives its TTL to the whole RRset.
func TestRFC2136Changes(t *testing.T) {
	const next = "-SOA 7;+SOA 8"
	for _, c := range []struct{ upd, want string }{
		{"new.example.test. 60 A 192.0.2.7", "+new A 60;" + next},
		{"WWW.example.test. 300 A 192.0.2.1", ""},
		{"www.example.test. 300 A 192.0.2.3", "+www A 300;" + next},
		{"www.example.test. 60 A 192.0.2.1", "-www A 300;-www A 300;+www A 60;+www A 60;" + next},
		{"alias.example.test. 300 A 192.0.2.1", ""},
		{"www.example.test. 300 CNAME ns1.example.test.", ""},
		{"alias.example.test. 300 CNAME ns1.example.test.", "-alias CNAME 300;+alias CNAME 300;" + next},
		{"alias.example.test. ANY CNAME; alias.example.test. 60 A 192.0.2.1", "-alias CNAME 300;+alias A 60;" + next},
		{"example.test. 300 SOA ns1.example.test. admin.example.test. 20 1 1 1 1", "-SOA 7;+SOA 20"},
		{"example.test. 300 SOA ns1.example.test. admin.example.test. 7 1 1 1 1", ""},
		{"example.test. 300 SOA ns1.example.test. admin.example.test. 6 1 1 1 1", ""},
		{"www.example.test. 300 SOA ns1.example.test. admin.example.test. 20 1 1 1 1", ""},
		{"example.test. ANY NS", ""},
		{"example.test. ANY SOA", ""},
		{"example.test. ANY ANY", ""},
		{"www.example.test. ANY ANY", "-www A 300;-www A 300;-www TXT 300;" + next},
		{"www.example.test. ANY A", "-www A 300;-www A 300;" + next},
		{"none.example.test. ANY A", ""},
		{"NONE www.example.test. 0 A 192.0.2.1", "-www A 300;" + next},
		{"NONE www.example.test. 0 A 192.0.2.9", ""},
		{"NONE mx.example.test. 0 MX 10 MAIL.example.test.", "-mx MX 300;" + next},
		{"NONE example.test. 0 NS ns1.example.test.", "-@ NS 300;" + next},
		{"NONE example.test. 0 NS ns1.example.test.; NONE example.test. 0 NS ns2.other.example.", "-@ NS 300;" + next},
		{"NONE example.test. 0 SOA ns1.example.test. admin.example.test. 7 3600 600 86400 60", ""},
		{"www.example.test. ANY A; www.example.test. 300 A 192.0.2.1; www.example.test. 300 A 192.0.2.2", ""},
		{"new.example.test. 60 TYPE65280 \\# 2 abcd", "+new TYPE65280 60;" + next},
	} {
		z := load(t)
		changes, rcode := Apply(z, message(t, nil, list(c.upd)), anything)
		var got []string
		for _, ch := range changes {
			sign := "+"
			if ch.Delete {
				sign = "-"
			}
			owner := strings.TrimSuffix(strings.TrimSuffix(string(zone.Text(ch.Owner)), "example.test."), ".")
			if owner == "" {
				owner = "@"
			}
			if ch.Type == dns.TypeSOA {
				got = append(got, fmt.Sprintf("%sSOA %d", sign, serial(ch.Data)))
			} else {
				got = append(got, fmt.Sprintf("%s%s %s %d", sign, owner, dns.Type(ch.Type), ch.TTL))
			}
		}
		if rcode != dns.RcodeSuccess || !slices.Equal(got, list(c.want)) {
			t.Errorf("%s: %s %q, want %q", c.upd, dns.RcodeToString[rcode], got, list(c.want))
		}
		if _, err := z.With(changes); err != nil {
			t.Errorf("%s: %v", c.upd, err)
		}
	}
}

// RFC 2136 §3.3: what no rule allows is refused, with the whole update.
// RFC 3007 §3.1.2: what signing makes (RRSIG, NSEC, NSEC3) is nobody's to change; DNSKEY and its like only by a rule that names them.
func TestRFC3007Rules(t *testing.T) {
	rules := []fleet.UpdateRule{
		{Key: "all."}, {Key: "dyn.", Names: []string{"*.dyn", "www", "@"}, Types: []string{"A", "txt", "TYPE65280"}}, {Key: "below.", Names: []string{"*"}},
		{Key: "keys.", Types: []string{"DNSKEY", "RRSIG"}},
	}
	for _, c := range []struct {
		key, upd string
		ok       bool
	}{
		{"all.", "new.example.test. 60 A 192.0.2.7", true},
		{"nobody.", "new.example.test. 60 A 192.0.2.7", false},
		{"", "new.example.test. 60 A 192.0.2.7", false},
		{"all.", "example.test. 60 DNSKEY 257 3 15 MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbL", false},
		{"keys.", "example.test. ANY DNSKEY", true},
		{"keys.", "example.test. ANY RRSIG", false},
		{"all.", "example.test. ANY NSEC3PARAM", false},
		{"dyn.", "x.dyn.example.test. 60 A 192.0.2.7", true},
		{"dyn.", "a.b.dyn.example.test. 60 TYPE65280 \\# 1 00", true},
		{"dyn.", "dyn.example.test. 60 A 192.0.2.7", false},
		{"dyn.", "www.example.test. 60 TXT y", true},
		{"dyn.", "example.test. 60 TXT y", true},
		{"dyn.", "www.example.test. 60 AAAA 2001:db8::1", false},
		{"dyn.", "x.dyn.example.test. 60 A 192.0.2.7; y.example.test. 60 A 192.0.2.7", false},
		{"dyn.", "www.example.test. ANY ANY", true},
		{"dyn.", "mx.example.test. ANY ANY", false},
		{"below.", "x.example.test. 60 A 192.0.2.7", true},
		{"below.", "example.test. 60 A 192.0.2.7", false},
	} {
		allowed := Rules("example.test.", rules, fleet.Name(c.key))
		if allowed == nil {
			if c.ok {
				t.Errorf("%s: no rule", c.key)
			}
			continue
		}
		changes, rcode := Apply(load(t), message(t, nil, list(c.upd)), allowed)
		if want := map[bool]int{true: dns.RcodeSuccess, false: dns.RcodeRefused}[c.ok]; rcode != want || !c.ok && changes != nil {
			t.Errorf("key %s, %s: %s", c.key, c.upd, dns.RcodeToString[rcode])
		}
	}
	for _, bad := range []fleet.UpdateRule{{Key: "k.", Types: []string{"NOTYPE"}}, {Key: "k.", Types: []string{"ANY"}}, {Key: "k.", Names: []string{"a..b"}}} {
		if _, err := compile("example.test.", bad); err == nil {
			t.Errorf("%+v can be read", bad)
		}
	}
}

// Whatever an update asks for, what comes of it is a zone with one SOA of a
// greater serial and with an NS, or a refusal.
func FuzzUpdate(f *testing.F) {
	for _, m := range []*dns.Msg{
		message(f, nil, list("new.example.test. 60 A 192.0.2.7")),
		message(f, list("www.example.test. ANY A; none.example.test. NONE ANY"), list("www.example.test. ANY ANY; NONE example.test. 0 NS ns1.example.test.")),
		message(f, list("www.example.test. 0 A 192.0.2.1"), list("www.example.test. 60 CNAME x.; x.example.test. 60 DNAME y.; example.test. 1 SOA a. b. 20 1 1 1 1")),
	} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	z := load(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(dns.Msg)
		if m.Unpack(data) != nil {
			return
		}
		changes, rcode := Apply(z, m, anything)
		if len(changes) == 0 {
			return
		}
		if rcode != dns.RcodeSuccess {
			t.Fatal("a refused update has changes")
		}
		next, err := z.With(changes)
		if err != nil {
			return // refused by who applies them
		}
		var text bytes.Buffer
		if err := next.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if again, err := zone.Load(next.Name, text.Bytes(), "written"); err != nil || !bytes.Equal(again.Encode(), next.Encode()) {
			t.Fatalf("what was taken comes back otherwise: %v\n%s", err, text.Bytes())
		}
		apex := next.Apex()
		if soa := apex.Get(zone.TypeSOA); soa == nil || soa.Count != 1 || !Newer(next.Serial, z.Serial) || apex.Get(zone.TypeNS) == nil {
			t.Fatalf("serial %d after %d", next.Serial, z.Serial)
		}
	})
}
