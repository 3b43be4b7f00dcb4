package answer

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// RFC 1035 §2.3.3: names match without regard to case, and the case of the question is kept (0x20).
func TestRFC1035QuestionKeepsItsCase(t *testing.T) {
	m := ask(t, newPlan(t, nil), "wWw.DeMo.TeSt", dns.TypeA)
	if m.Question[0].Name != "wWw.DeMo.TeSt." || m.Answer[0].Header().Name != "wWw.DeMo.TeSt." {
		t.Errorf("%v %v", m.Question, m.Answer)
	}
}

// RFC 4892 §2: id.server, hostname.bind, version.bind and version.server of class CH tell about the server.
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

// RFC 6891 §6.1.1: there is an OPT in the response where the query has one, and else none; a second one or one elsewhere is FORMERR.
// RFC 6891 §6.1.2: options that are not known are passed over and not echoed.
// RFC 6891 §6.1.3: a version above 0 is BADVERS, with version 0 and no answer.
// RFC 6891 §6.1.4: DO is copied, and flags that are not known are 0.
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

// RFC 8906 §3.1.4: an operation that is not known is NOTIMP.
// RFC 8906 §3.1.2: a type that is not known is NODATA.
// RFC 8906 §3.1.3: flags that are not known are not copied.
// RFC 1035 §4.1.1: of the flags of the query only RD comes back.
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

// RFC 9619 §4: more than one question is FORMERR.
// RFC 1035 §4.1.1: what cannot be understood is FORMERR; responses are dropped.
func TestRFC9619Malformed(t *testing.T) {
	p := newPlan(t, nil)
	good := pack(t, query("mx1.demo.test", dns.TypeA, edns))
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte{}, good...)) }
	for name, c := range map[string]struct {
		msg   []byte
		rcode int // -1: dropped
	}{
		"RFC 9619 no question":           {change(func(b []byte) []byte { b[5] = 0; return append(b[:12:12], b[31:]...) }), dns.RcodeFormatError},
		"RFC 9619 two questions":         {change(func(b []byte) []byte { b[5] = 2; return b }), dns.RcodeFormatError},
		"trailing octets":                {change(func(b []byte) []byte { return append(b, 0) }), dns.RcodeSuccess},
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

// RFC 2181 §9: TC is set where an RRset does not fit, of which then nothing is sent.
// RFC 6891 §6.2.3: a size below 512 octets counts as 512.
// RFC 6891 §7: the OPT survives truncation.
func TestRFC2181Truncation(t *testing.T) {
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

// RFC 9471 §3.1: glue below the delegation that does not fit sets TC.
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

// RFC 5001 §2: the name server identifier is given to who asks for it.
func TestRFC5001NSID(t *testing.T) {
	p := newPlan(t, nil)
	m := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	})
	if o := m.IsEdns0().Option; len(o) != 1 || o[0].String() != "6672612d31" {
		t.Errorf("%v", o)
	}
	if m := ask(t, Zones(Identity{}, nil), "mx1.demo.test", dns.TypeA, asking(optionNSID)); len(m.IsEdns0().Option) != 1 { // EDE alone
		t.Errorf("of a server without a name: %v", m)
	}
}

// RFC 8914 §4: why a query fails is told: not authoritative (20), prohibited (18), not ready (14).
// RFC 9824 §3.5: that NXNAME cannot be asked for is told (30).
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
