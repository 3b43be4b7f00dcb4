package answer

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What plain zones answer: sections as text, flags by name.
func TestAnswers(t *testing.T) {
	p := newPlan(t, nil)
	const soa = "demo.test. 60 SOA ns1.demo.test. admin.demo.test. 7 3600 600 86400 60"
	const otherSOA = "other.test. 300 SOA ns1.demo.test. admin.other.test. 7 3600 600 86400 3600"
	for _, c := range []struct {
		rfc, name string
		qtype     uint16
		rcode     int
		aa        bool
		answer    string
		authority string
		extra     string
	}{
		{"RFC 1034 4.3.2 data", "mx1.demo.test", dns.TypeA, 0, true, "mx1.demo.test. 300 A 192.0.2.25", "", ""},
		{"RFC 1034 4.3.2 NS with addresses", "demo.test", dns.TypeNS, 0, true, "demo.test. 300 NS ns1.demo.test.; demo.test. 300 NS ns2.demo.test.", "",
			"ns1.demo.test. 300 A 192.0.2.53; ns1.demo.test. 300 AAAA 2001:db8::53; ns2.demo.test. 300 A 192.0.2.54"},
		{"RFC 1035 SOA", "demo.test", dns.TypeSOA, 0, true, "demo.test. 300 SOA ns1.demo.test. admin.demo.test. 7 3600 600 86400 60", "", ""},
		{"RFC 1035 3.3.9 MX with addresses", "mail.demo.test", dns.TypeMX, 0, true, "mail.demo.test. 300 MX 10 mx1.demo.test.; mail.demo.test. 300 MX 20 mx2.other.example.", "", "mx1.demo.test. 300 A 192.0.2.25"},
		{"RFC 2782 SRV with addresses", "svc.demo.test", dns.TypeSRV, 0, true, "svc.demo.test. 300 SRV 0 0 443 mx1.demo.test.", "", "mx1.demo.test. 300 A 192.0.2.25"},
		{"RFC 9460 2.5.2 HTTPS for the owner", "web.demo.test", dns.TypeHTTPS, 0, true, `web.demo.test. 300 HTTPS 1 . alpn="h2"`, "", "web.demo.test. 300 A 192.0.2.70"},
		{"RFC 9460 4.1 HTTPS for another name", "toweb.demo.test", dns.TypeHTTPS, 0, true, `toweb.demo.test. 300 HTTPS 1 web.demo.test. alpn="h2"`, "", `web.demo.test. 300 A 192.0.2.70; web.demo.test. 300 HTTPS 1 . alpn="h2"`},
		{"RFC 7871 7.2.2 no tailored addresses in ADDITIONAL", "www.demo.test", dns.TypeHTTPS, 0, true, `www.demo.test. 300 HTTPS 1 . alpn="h2"`, "", ""},
		{"RFC 1035 PTR", "ptr.demo.test", dns.TypePTR, 0, true, "ptr.demo.test. 300 PTR mx1.demo.test.", "", ""},
		{"RFC 8659 CAA", "caa.demo.test", dns.TypeCAA, 0, true, `caa.demo.test. 300 CAA 0 issue "ca.example"`, "", ""},
		{"RFC 3597 unknown type", "raw.demo.test", 65280, 0, true, `raw.demo.test. 300 CLASS1 TYPE65280 \# 3 abcdef`, "", ""},
		{"RFC 2308 2.2 NODATA, TTL is the least of SOA's", "mx1.demo.test", dns.TypeTXT, 0, true, "", soa, ""},
		{"RFC 2308 5 SOA TTL below its minimum", "x.other.test", dns.TypeTXT, 0, true, "", otherSOA, ""},
		{"RFC 2308 2.1 NXDOMAIN", "nothing.demo.test", dns.TypeA, dns.RcodeNameError, true, "", soa, ""},
		{"RFC 8020 an empty non-terminal is NODATA", "ent.demo.test", dns.TypeA, 0, true, "", soa, ""},
		{"RFC 4592 wildcard", "Foo.wild.demo.test", dns.TypeA, 0, true, "Foo.wild.demo.test. 300 A 192.0.2.99", "", ""},
		{"RFC 4592 wildcard NODATA", "foo.wild.demo.test", dns.TypeTXT, 0, true, "", soa, ""},
		{"RFC 1034 4.3.2 alias in the zone, to an address that is steered", "alias.demo.test", dns.TypeA, 0, true, "alias.demo.test. 300 CNAME www.demo.test.; www.demo.test. 30 A 192.0.2.2", "", ""},
		{"RFC 1034 3.6.2 alias asked for itself", "alias.demo.test", dns.TypeCNAME, 0, true, "alias.demo.test. 300 CNAME www.demo.test.", "", ""},
		{"alias to elsewhere", "far.demo.test", dns.TypeA, 0, true, "far.demo.test. 300 CNAME www.elsewhere.example.", "", ""},
		{"alias across zones", "cross.demo.test", dns.TypeA, 0, true, "cross.demo.test. 300 CNAME x.other.test.; x.other.test. 300 A 192.0.2.80", "", ""},
		{"RFC 6604 rcode is that of the last name", "dead.demo.test", dns.TypeA, dns.RcodeNameError, true, "dead.demo.test. 300 CNAME nope.demo.test.", soa, ""},
		{"alias that loops", "loop1.demo.test", dns.TypeA, 0, true, "loop1.demo.test. 300 CNAME loop2.demo.test.; loop2.demo.test. 300 CNAME loop1.demo.test.", "", ""},
		{"wildcard alias to itself", "x.self.demo.test", dns.TypeA, 0, true, "x.self.demo.test. 300 CNAME a.self.demo.test.; a.self.demo.test. 300 CNAME a.self.demo.test.", "", ""},
		{"alias into a delegation", "incut.demo.test", dns.TypeA, 0, true, "incut.demo.test. 300 CNAME x.child.demo.test.", "child.demo.test. 300 NS ns.child.demo.test.; child.demo.test. 300 NS ns.sibling.demo.test.",
			"ns.child.demo.test. 300 A 192.0.2.60; ns.sibling.demo.test. 300 A 192.0.2.61"},
		{"RFC 1034 4.3.2 referral with glue and sibling glue", "a.child.demo.test", dns.TypeA, 0, false, "", "child.demo.test. 300 NS ns.child.demo.test.; child.demo.test. 300 NS ns.sibling.demo.test.",
			"ns.child.demo.test. 300 A 192.0.2.60; ns.sibling.demo.test. 300 A 192.0.2.61"},
		{"RFC 2181 6.1 NS at a cut is a referral", "child.demo.test", dns.TypeNS, 0, false, "", "child.demo.test. 300 NS ns.child.demo.test.; child.demo.test. 300 NS ns.sibling.demo.test.",
			"ns.child.demo.test. 300 A 192.0.2.60; ns.sibling.demo.test. 300 A 192.0.2.61"},
		{"RFC 4035 3.1.4.1 DS is the parent's", "child.demo.test", dns.TypeDS, 0, true, "child.demo.test. 300 DS 1 13 2 00", "", ""},
		{"RFC 4035 3.1.4.1 DS where parent and child are served", "sub.demo.test", dns.TypeDS, dns.RcodeNameError, true, "", soa, ""},
		{"the deepest zone answers", "www.sub.demo.test", dns.TypeA, 0, true, "www.sub.demo.test. 300 A 192.0.2.81", "", ""},
		{"RFC 6672 3.1 DNAME", "x.old.demo.test", dns.TypeTXT, 0, true, `old.demo.test. 300 DNAME new.demo.test.; x.old.demo.test. 300 CNAME x.new.demo.test.; x.new.demo.test. 300 TXT "moved"`, "", ""},
		{"RFC 6672 3.1 the synthesized CNAME answers CNAME", "x.old.demo.test", dns.TypeCNAME, 0, true, `old.demo.test. 300 DNAME new.demo.test.; x.old.demo.test. 300 CNAME x.new.demo.test.`, "", ""},
		{"RFC 6672 2.3 the owner itself", "old.demo.test", dns.TypeDNAME, 0, true, "old.demo.test. 300 DNAME new.demo.test.", "", ""},
		{"RFC 8482 4.1 ANY is one RRset", "web.demo.test", dns.TypeANY, 0, true, "web.demo.test. 300 A 192.0.2.70", "", ""},
		{"RFC 8482 4.1 ANY of a steered name", "www.demo.test", dns.TypeANY, 0, true, "www.demo.test. 30 A 192.0.2.2", "", ""},
		{"RFC 8482 ANY of an empty non-terminal", "ent.demo.test", dns.TypeANY, 0, true, "", soa, ""},
		{"hosts of another zone are no additional data", "other.test", dns.TypeNS, 0, true, "other.test. 300 NS ns1.demo.test.", "", ""},
		{"RFC 8482 ANY of an alias", "alias.demo.test", dns.TypeANY, 0, true, "alias.demo.test. 300 CNAME www.demo.test.", "", ""},
		{"RFC 8482 ANY below a DNAME", "x.old.demo.test", dns.TypeANY, 0, true, `old.demo.test. 300 DNAME new.demo.test.; x.old.demo.test. 300 CNAME x.new.demo.test.; x.new.demo.test. 300 TXT "moved"`, "", ""},
		{"RFC 8482 ANY of nothing", "nothing.demo.test", dns.TypeANY, dns.RcodeNameError, true, "", soa, ""},
		{"another zone is refused", "www.elsewhere.example", dns.TypeA, dns.RcodeRefused, false, "", "", ""},
		{"the root is refused", ".", dns.TypeNS, dns.RcodeRefused, false, "", "", ""},
		{"transfer is refused", "demo.test", dns.TypeAXFR, dns.RcodeRefused, false, "", "", ""},
		{"RFC 9824 3.3 NXNAME asked for", "demo.test", 128, dns.RcodeFormatError, false, "", "", ""},
	} {
		m := ask(t, p, c.name, c.qtype)
		if m.Rcode != c.rcode || m.Authoritative != c.aa || m.Truncated || m.RecursionAvailable || !m.RecursionDesired || !m.Response {
			t.Errorf("%s: %s: rcode %s, %+v", c.rfc, c.name, dns.RcodeToString[m.Rcode], m.MsgHdr)
		}
		for section, pair := range map[string][2]string{"answer": {text(m.Answer), c.answer}, "authority": {text(m.Ns), c.authority}, "additional": {text(m.Extra), c.extra}} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %s: %s\n got %s\nwant %s", c.rfc, c.name, section, pair[0], pair[1])
			}
		}
	}
}

func TestRFC6672YXDOMAIN(t *testing.T) {
	p := newPlan(t, nil)
	long := strings.Repeat("b", 60) + ".down.demo.test"
	if m := ask(t, p, long, dns.TypeA); m.Rcode != dns.RcodeYXDomain || text(m.Answer) == "" || len(m.Answer) != 1 {
		t.Errorf("rcode %s, answer %s", dns.RcodeToString[m.Rcode], text(m.Answer))
	}
}

// The question comes back with its case (0x20), and the answer's owner too.
func TestQuestionKeepsItsCase(t *testing.T) {
	m := ask(t, newPlan(t, nil), "wWw.DeMo.TeSt", dns.TypeA)
	if m.Question[0].Name != "wWw.DeMo.TeSt." || m.Answer[0].Header().Name != "wWw.DeMo.TeSt." {
		t.Errorf("%v %v", m.Question, m.Answer)
	}
}

func TestRFC4892Identity(t *testing.T) {
	p := newPlan(t, nil)
	ch := func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }
	for name, want := range map[string]string{"id.server": "fra-1", "hostname.bind": "fra-1", "VERSION.bind": "meridian test", "version.server": "meridian test"} {
		m := ask(t, p, name, dns.TypeTXT, ch)
		if len(m.Answer) != 1 || m.Answer[0].(*dns.TXT).Txt[0] != want || m.Answer[0].Header().Class != dns.ClassCHAOS {
			t.Errorf("%s: %v", name, m.Answer)
		}
	}
	if m := ask(t, p, "demo.test", dns.TypeTXT, ch); m.Rcode != dns.RcodeRefused {
		t.Errorf("another CH name: %s", dns.RcodeToString[m.Rcode])
	}
	if m := ask(t, p, "demo.test", dns.TypeSOA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassHESIOD }); m.Rcode != dns.RcodeRefused {
		t.Errorf("class HS: %s", dns.RcodeToString[m.Rcode])
	}
	if m := ask(t, p, "demo.test", dns.TypeSOA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }); len(m.Answer) != 1 || m.Authoritative {
		t.Errorf("class ANY: %v", m)
	}
}

func TestRFC6891(t *testing.T) {
	p := newPlan(t, nil)
	t.Run("no OPT, no OPT", func(t *testing.T) {
		if ask(t, p, "mx1.demo.test", dns.TypeA).IsEdns0() != nil {
			t.Error("OPT in the response to a query without")
		}
	})
	t.Run("OPT in every response to one", func(t *testing.T) {
		for _, name := range []string{"mx1.demo.test", "nothing.demo.test", "elsewhere.example", "a.child.demo.test"} {
			o := ask(t, p, name, dns.TypeA, edns).IsEdns0()
			if o == nil || o.UDPSize() != PayloadUDP || o.Version() != 0 || o.Do() {
				t.Errorf("%s: %v", name, o)
			}
		}
	})
	t.Run("DO is copied, other flags are not", func(t *testing.T) {
		o := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) { m.IsEdns0().Hdr.Ttl |= 0xffff }).IsEdns0()
		if o.Hdr.Ttl != 0x8000 {
			t.Errorf("flags %x", o.Hdr.Ttl)
		}
	})
	t.Run("BADVERS for a later version, without an answer", func(t *testing.T) {
		m := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) { m.IsEdns0().SetVersion(1) })
		if m.Rcode != dns.RcodeBadVers || m.IsEdns0().Version() != 0 || len(m.Answer) != 0 {
			t.Errorf("%v", m)
		}
	})
	t.Run("unknown options are passed over", func(t *testing.T) {
		m := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")})
		})
		if m.Rcode != 0 || len(m.IsEdns0().Option) != 0 || len(m.Answer) != 1 {
			t.Errorf("%v", m)
		}
	})
	t.Run("two OPTs are FORMERR", func(t *testing.T) {
		m := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) { m.Extra = append(m.Extra, m.Extra[0]) })
		if m.Rcode != dns.RcodeFormatError || m.IsEdns0() == nil {
			t.Errorf("%v", m)
		}
	})
	t.Run("an OPT elsewhere than in ADDITIONAL is FORMERR", func(t *testing.T) {
		m := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) { m.Ns, m.Extra = m.Extra, nil })
		if m.Rcode != dns.RcodeFormatError {
			t.Errorf("%v", m)
		}
	})
}

func TestRFC8906(t *testing.T) {
	p := newPlan(t, nil)
	t.Run("Z, AD, TC, RA, AA and CD are not copied; RD is", func(t *testing.T) {
		m := ask(t, p, "mx1.demo.test", dns.TypeA, func(m *dns.Msg) {
			m.Zero, m.AuthenticatedData, m.Truncated, m.RecursionAvailable, m.Authoritative, m.CheckingDisabled = true, true, true, true, true, true
		})
		if m.Zero || m.AuthenticatedData || m.Truncated || m.RecursionAvailable || m.CheckingDisabled || !m.RecursionDesired {
			t.Errorf("%+v", m.MsgHdr)
		}
	})
	t.Run("unknown opcode is NOTIMP", func(t *testing.T) {
		for _, opcode := range []int{1, dns.OpcodeStatus, 3, dns.OpcodeNotify, dns.OpcodeUpdate, 15} {
			if m := ask(t, p, "demo.test", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = opcode }); m.Rcode != dns.RcodeNotImplemented || m.Opcode != opcode {
				t.Errorf("opcode %d: %+v", opcode, m.MsgHdr)
			}
		}
	})
	t.Run("unknown opcode is NOTIMP whatever follows", func(t *testing.T) {
		if m := send(t, p, []byte{0, 1, 6 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, false); m.Rcode != dns.RcodeNotImplemented {
			t.Errorf("%+v", m.MsgHdr)
		}
	})
	t.Run("unknown type is NODATA", func(t *testing.T) {
		if m := ask(t, p, "mx1.demo.test", 65000); m.Rcode != 0 || len(m.Ns) != 1 {
			t.Errorf("%v", m)
		}
	})
}

func TestMalformed(t *testing.T) {
	p := newPlan(t, nil)
	good := pack(t, query("mx1.demo.test", dns.TypeA, edns))
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte{}, good...)) }
	for name, c := range map[string]struct {
		msg   []byte
		rcode int // -1: dropped
	}{
		"RFC 9619 no question":           {change(func(b []byte) []byte { b[5] = 0; return append(b[:12:12], b[31:]...) }), dns.RcodeFormatError},
		"RFC 9619 two questions":         {change(func(b []byte) []byte { b[5] = 2; return b }), dns.RcodeFormatError},
		"trailing octets":                {change(func(b []byte) []byte { return append(b, 0) }), dns.RcodeFormatError},
		"cut short":                      {change(func(b []byte) []byte { return b[:len(b)-1] }), dns.RcodeFormatError},
		"cut in the question":            {change(func(b []byte) []byte { return b[:20] }), dns.RcodeFormatError},
		"header alone":                   {change(func(b []byte) []byte { return b[:12] }), dns.RcodeFormatError},
		"a pointer in the question":      {change(func(b []byte) []byte { b[12] = 0xc0; return b }), dns.RcodeFormatError},
		"a label type that is not known": {change(func(b []byte) []byte { b[12] = 0x40; return b }), dns.RcodeFormatError},
		"more records than there are":    {change(func(b []byte) []byte { b[10] = 255; return b }), dns.RcodeFormatError},
		"shorter than a header":          {good[:11], -1},
		"nothing":                        {nil, -1},
		"a response":                     {change(func(b []byte) []byte { b[2] |= 0x80; return b }), -1},
	} {
		m := send(t, p, c.msg, false)
		if got := -1; m != nil {
			if got = m.Rcode; got != c.rcode || m.Id != 0x1234 {
				t.Errorf("%s: %+v, want rcode %d", name, m.MsgHdr, c.rcode)
			}
		} else if c.rcode != got {
			t.Errorf("%s: dropped", name)
		}
	}
}

func TestTruncation(t *testing.T) {
	p := newPlan(t, nil)
	plain := ask(t, p, "many.demo.test", dns.TypeA)
	if !plain.Truncated || len(plain.Answer) != 0 {
		t.Errorf("RFC 2181 9: 60 addresses in 512 octets: TC %v, %d records; want whole RRsets only", plain.Truncated, len(plain.Answer))
	}
	m := ask(t, p, "many.demo.test", dns.TypeA, edns)
	if m.Truncated || len(m.Answer) != 60 {
		t.Errorf("60 addresses in 1232 octets: TC %v, %d records", m.Truncated, len(m.Answer))
	}
	small := ask(t, p, "many.demo.test", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(100, false) })
	if !small.Truncated || small.IsEdns0() == nil {
		t.Error("RFC 6891 6.2.3: a size below 512 counts as 512, and the OPT survives truncation")
	}
	stream := send(t, p, pack(t, query("many.demo.test", dns.TypeA)), true)
	if stream.Truncated || len(stream.Answer) != 60 {
		t.Error("RFC 7766: truncated over a stream")
	}
}

func TestRFC9471GlueThatDoesNotFitTruncates(t *testing.T) {
	doc := strings.Replace(spec, "    child DS 1", "    deep NS ns1.deep\n    $GENERATE 1-60 ns1.deep A 192.0.5.$\n    child DS 1", 1)
	p, err := Compile(id, newWorld(t, doc), newAtlas(), nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m := ask(t, p, "x.deep.demo.test", dns.TypeA); !m.Truncated || len(m.Ns) != 1 {
		t.Errorf("%v", m)
	}
}

func TestRFC5001NSID(t *testing.T) {
	p := newPlan(t, nil)
	m := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	})
	if o := m.IsEdns0().Option; len(o) != 1 || o[0].String() != "6672612d31" {
		t.Errorf("%v", o)
	}
}

func TestRFC8914(t *testing.T) {
	for _, c := range []struct {
		plan  *Plan
		name  string
		qtype uint16
		rcode int
		code  uint16
	}{
		{newPlan(t, nil), "elsewhere.example", dns.TypeA, dns.RcodeRefused, dns.ExtendedErrorCodeNotAuthoritative},
		{newPlan(t, nil), "demo.test", dns.TypeAXFR, dns.RcodeRefused, dns.ExtendedErrorCodeProhibited},
		{newPlan(t, nil), "demo.test", 128, dns.RcodeFormatError, 30},
		{Empty(id), "demo.test", dns.TypeA, dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady},
	} {
		m := ask(t, c.plan, c.name, c.qtype, edns)
		if m.Rcode != c.rcode || len(m.IsEdns0().Option) != 1 || m.IsEdns0().Option[0].(*dns.EDNS0_EDE).InfoCode != c.code {
			t.Errorf("%s: %v", c.name, m)
		}
	}
}
