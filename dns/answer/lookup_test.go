package answer

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The SOAs of the zones asked.
const (
	soa      = "demo.test. 60 SOA ns1.demo.test. admin.demo.test. 7 3600 600 86400 60"
	otherSOA = "other.test. 300 SOA ns1.demo.test. admin.other.test. 7 3600 600 86400 3600"
)

// want is what plain zones answer: sections as text.
type want struct {
	what, name string
	qtype      uint16
	rcode      int
	aa         bool
	answer     string
	authority  string
	extra      string
}

func check(t *testing.T, p *Plan, rows []want) {
	t.Helper()
	for _, c := range rows {
		m := ask(t, p, c.name, c.qtype)
		if m.Rcode != c.rcode || m.Authoritative != c.aa || m.Truncated || m.RecursionAvailable || !m.RecursionDesired || !m.Response {
			t.Errorf("%s: %s: rcode %s, %+v", c.what, c.name, dns.RcodeToString[m.Rcode], m.MsgHdr)
		}
		for section, pair := range map[string][2]string{"answer": {text(m.Answer), c.answer}, "authority": {text(m.Ns), c.authority}, "additional": {text(m.Extra), c.extra}} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %s: %s\n got %s\nwant %s", c.what, c.name, section, pair[0], pair[1])
			}
		}
	}
}

// RFC 1034 §4.3.2: data of the zone is answered with authority, from the deepest zone that holds the name.
// RFC 1035 §3.3: the addresses of the hosts that NS and MX name are added, where the zone holds them.
// RFC 2782 §Target: so are those that SRV names.
func TestRFC1034Lookup(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 1034 4.3.2 data", "mx1.demo.test", dns.TypeA, 0, true, "mx1.demo.test. 300 A 192.0.2.25", "", ""},
		{"RFC 1034 4.3.2 NS with addresses", "demo.test", dns.TypeNS, 0, true, "demo.test. 300 NS ns1.demo.test.; demo.test. 300 NS ns2.demo.test.", "",
			"ns1.demo.test. 300 A 192.0.2.53; ns1.demo.test. 300 AAAA 2001:db8::53; ns2.demo.test. 300 A 192.0.2.54"},
		{"RFC 1035 SOA", "demo.test", dns.TypeSOA, 0, true, "demo.test. 300 SOA ns1.demo.test. admin.demo.test. 7 3600 600 86400 60", "", ""},
		{"RFC 1035 3.3.9 MX with addresses", "mail.demo.test", dns.TypeMX, 0, true, "mail.demo.test. 300 MX 10 mx1.demo.test.; mail.demo.test. 300 MX 20 mx2.other.example.", "", "mx1.demo.test. 300 A 192.0.2.25"},
		{"RFC 2782 SRV with addresses", "svc.demo.test", dns.TypeSRV, 0, true, "svc.demo.test. 300 SRV 0 0 443 mx1.demo.test.", "", "mx1.demo.test. 300 A 192.0.2.25"},
		{"RFC 1035 PTR", "ptr.demo.test", dns.TypePTR, 0, true, "ptr.demo.test. 300 PTR mx1.demo.test.", "", ""},
		{"RFC 8659 CAA", "caa.demo.test", dns.TypeCAA, 0, true, `caa.demo.test. 300 CAA 0 issue "ca.example"`, "", ""},
		{"the deepest zone answers", "www.sub.demo.test", dns.TypeA, 0, true, "www.sub.demo.test. 300 A 192.0.2.81", "", ""},
		{"hosts of another zone are no additional data", "other.test", dns.TypeNS, 0, true, "other.test. 300 NS ns1.demo.test.", "", ""},
		{"another zone is refused", "www.elsewhere.example", dns.TypeA, dns.RcodeRefused, false, "", "", ""},
		{"the root is refused", ".", dns.TypeNS, dns.RcodeRefused, false, "", "", ""},
		{"transfer is refused", "demo.test", dns.TypeAXFR, dns.RcodeRefused, false, "", "", ""},
	})
}

// RFC 3597 §3: types that are not known are answered as they are in the zone.
func TestRFC3597UnknownTypes(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 3597 unknown type", "raw.demo.test", 65280, 0, true, `raw.demo.test. 300 CLASS1 TYPE65280 \# 3 abcdef`, "", ""},
	})
}

// RFC 9460 §4.1: service records come with the addresses and the service records of their targets.
// RFC 9460 §2.5.2: a target of "." in ServiceMode stands for the owner.
func TestRFC9460Services(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 9460 2.5.2 HTTPS for the owner", "web.demo.test", dns.TypeHTTPS, 0, true, `web.demo.test. 300 HTTPS 1 . alpn="h2"`, "", "web.demo.test. 300 A 192.0.2.70"},
		{"RFC 9460 4.1 HTTPS for another name", "toweb.demo.test", dns.TypeHTTPS, 0, true, `toweb.demo.test. 300 HTTPS 1 web.demo.test. alpn="h2"`, "", `web.demo.test. 300 A 192.0.2.70; web.demo.test. 300 HTTPS 1 . alpn="h2"`},
		{"RFC 7871 7.2.2 no tailored addresses in ADDITIONAL", "www.demo.test", dns.TypeHTTPS, 0, true, `www.demo.test. 300 HTTPS 1 . alpn="h2"`, "", ""},
	})
}

// RFC 2308 §3: absence comes with the SOA, whose TTL is the least of its own and MINIMUM.
// RFC 2308 §2.1: a name that does not exist is NXDOMAIN, and so is an alias that leads to none.
// RFC 2308 §2.2: a name without the type is NOERROR with the SOA.
// RFC 8020 §2: an empty non-terminal is NODATA.
func TestRFC2308Negative(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 2308 2.2 NODATA, TTL is the least of SOA's", "mx1.demo.test", dns.TypeTXT, 0, true, "", soa, ""},
		{"RFC 2308 5 SOA TTL below its minimum", "x.other.test", dns.TypeTXT, 0, true, "", otherSOA, ""},
		{"RFC 2308 2.1 NXDOMAIN", "nothing.demo.test", dns.TypeA, dns.RcodeNameError, true, "", soa, ""},
		{"RFC 8020 an empty non-terminal is NODATA", "ent.demo.test", dns.TypeA, 0, true, "", soa, ""},
	})
}

// RFC 4592 §3.3.1: a wildcard stands for names whose closest encloser is its parent.
// RFC 4592 §2.1.1: only an asterisk that is the whole leftmost label is a wildcard.
func TestRFC4592Wildcards(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 4592 wildcard", "Foo.wild.demo.test", dns.TypeA, 0, true, "Foo.wild.demo.test. 300 A 192.0.2.99", "", ""},
		{"RFC 4592 wildcard NODATA", "foo.wild.demo.test", dns.TypeTXT, 0, true, "", soa, ""},
	})
}

// RFC 1034 §3.6.2: an alias is answered with the CNAME and followed, through all zones that are served; loops end.
// RFC 6604 §3: the response code is that of the last name of the chain.
// RFC 2308 §2.1: an alias that leads to no name is NXDOMAIN with the alias in the answer.
func TestRFC1034Aliases(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 1034 4.3.2 alias in the zone, to an address that is steered", "alias.demo.test", dns.TypeA, 0, true, "alias.demo.test. 300 CNAME www.demo.test.; www.demo.test. 30 A 192.0.2.2", "", ""},
		{"RFC 1034 3.6.2 alias asked for itself", "alias.demo.test", dns.TypeCNAME, 0, true, "alias.demo.test. 300 CNAME www.demo.test.", "", ""},
		{"alias to elsewhere", "far.demo.test", dns.TypeA, 0, true, "far.demo.test. 300 CNAME www.elsewhere.example.", "", ""},
		{"alias across zones", "cross.demo.test", dns.TypeA, 0, true, "cross.demo.test. 300 CNAME x.other.test.; x.other.test. 300 A 192.0.2.80", "", ""},
		{"RFC 6604 rcode is that of the last name", "dead.demo.test", dns.TypeA, dns.RcodeNameError, true, "dead.demo.test. 300 CNAME nope.demo.test.", soa, ""},
		{"alias that loops", "loop1.demo.test", dns.TypeA, 0, true, "loop1.demo.test. 300 CNAME loop2.demo.test.; loop2.demo.test. 300 CNAME loop1.demo.test.", "", ""},
		{"wildcard alias to itself", "x.self.demo.test", dns.TypeA, 0, true, "x.self.demo.test. 300 CNAME a.self.demo.test.; a.self.demo.test. 300 CNAME a.self.demo.test.", "", ""},
		{"alias into a delegation", "incut.demo.test", dns.TypeA, 0, true, "incut.demo.test. 300 CNAME x.child.demo.test.", "child.demo.test. 300 NS ns.child.demo.test.; child.demo.test. 300 NS ns.sibling.demo.test.",
			"ns.child.demo.test. 300 A 192.0.2.60; ns.sibling.demo.test. 300 A 192.0.2.61"},
	})
}

// RFC 1034 §4.2.1: a referral has the glue that the zone holds, that of siblings too.
// RFC 1034 §4.2.2: a referral is not authoritative and has the NS set in AUTHORITY.
// RFC 2181 §6.1: the NS set at a cut is the child's, so that asking for it gives a referral.
func TestRFC1034Referrals(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 1034 4.3.2 referral with glue and sibling glue", "a.child.demo.test", dns.TypeA, 0, false, "", "child.demo.test. 300 NS ns.child.demo.test.; child.demo.test. 300 NS ns.sibling.demo.test.",
			"ns.child.demo.test. 300 A 192.0.2.60; ns.sibling.demo.test. 300 A 192.0.2.61"},
		{"RFC 2181 6.1 NS at a cut is a referral", "child.demo.test", dns.TypeNS, 0, false, "", "child.demo.test. 300 NS ns.child.demo.test.; child.demo.test. 300 NS ns.sibling.demo.test.",
			"ns.child.demo.test. 300 A 192.0.2.60; ns.sibling.demo.test. 300 A 192.0.2.61"},
	})
}

// RFC 4035 §3.1.4.1: DS is the parent's, also where parent and child are served.
func TestRFC4035DSOfPlainZones(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 4035 3.1.4.1 DS is the parent's", "child.demo.test", dns.TypeDS, 0, true, "child.demo.test. 300 DS 1 13 2 00", "", ""},
		{"RFC 4035 3.1.4.1 DS where parent and child are served", "sub.demo.test", dns.TypeDS, dns.RcodeNameError, true, "", soa, ""},
	})
}

// RFC 6672 §3.1: below a DNAME a CNAME is made with the DNAME's TTL, and followed; asked for, it is the answer.
// RFC 6672 §2.3: the owner of a DNAME is not redirected itself.
func TestRFC6672DNAME(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 6672 3.1 DNAME", "x.old.demo.test", dns.TypeTXT, 0, true, `old.demo.test. 300 DNAME new.demo.test.; x.old.demo.test. 300 CNAME x.new.demo.test.; x.new.demo.test. 300 TXT "moved"`, "", ""},
		{"RFC 6672 3.1 the synthesized CNAME answers CNAME", "x.old.demo.test", dns.TypeCNAME, 0, true, `old.demo.test. 300 DNAME new.demo.test.; x.old.demo.test. 300 CNAME x.new.demo.test.`, "", ""},
		{"RFC 6672 2.3 the owner itself", "old.demo.test", dns.TypeDNAME, 0, true, "old.demo.test. 300 DNAME new.demo.test.", "", ""},
	})
}

// RFC 8482 §4.1: over UDP type ANY is answered with one RRset.
func TestRFC8482AnyOverUDP(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 8482 4.1 ANY is one RRset", "web.demo.test", dns.TypeANY, 0, true, "web.demo.test. 300 A 192.0.2.70", "", ""},
		{"RFC 8482 4.1 ANY of a steered name", "www.demo.test", dns.TypeANY, 0, true, "www.demo.test. 30 A 192.0.2.2", "", ""},
		{"RFC 8482 ANY of an empty non-terminal", "ent.demo.test", dns.TypeANY, 0, true, "", soa, ""},
		{"RFC 8482 ANY of an alias", "alias.demo.test", dns.TypeANY, 0, true, "alias.demo.test. 300 CNAME www.demo.test.", "", ""},
		{"RFC 8482 ANY below a DNAME", "x.old.demo.test", dns.TypeANY, 0, true, `old.demo.test. 300 DNAME new.demo.test.; x.old.demo.test. 300 CNAME x.new.demo.test.; x.new.demo.test. 300 TXT "moved"`, "", ""},
		{"RFC 8482 ANY of nothing", "nothing.demo.test", dns.TypeANY, dns.RcodeNameError, true, "", soa, ""},
	})
}

// RFC 9824 §3.5: an explicit query for NXNAME is FORMERR.
func TestRFC9824NXNAMEAskedFor(t *testing.T) {
	check(t, newPlan(t, nil), []want{
		{"RFC 9824 3.3 NXNAME asked for", "demo.test", 128, dns.RcodeFormatError, false, "", "", ""},
	})
}

// RFC 6672 §2.2: a name that gets longer than 255 octets is YXDOMAIN, with the DNAME.
func TestRFC6672YXDOMAIN(t *testing.T) {
	p := newPlan(t, nil)
	long := strings.Repeat("b", 60) + ".down.demo.test"
	if m := ask(t, p, long, dns.TypeA); m.Rcode != dns.RcodeYXDomain || text(m.Answer) == "" || len(m.Answer) != 1 {
		t.Errorf("rcode %s, answer %s", dns.RcodeToString[m.Rcode], text(m.Answer))
	}
}
