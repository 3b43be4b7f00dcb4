package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// probe is one question of RFC 8906 section 8 and what a server has to say.
type probe struct {
	section string
	name    string
	query   []byte
	tcp     bool
	rcode   int
	opcode  int
	soa     bool   // wanted in the answer
	aa      bool   // wanted; else it must not be there
	opt     bool   // wanted; else it must not be there
	rd      bool   // wanted; else it must not be there
	anySOA  bool   // whether there is a SOA is not asked
	absent  uint16 // an option that must not come back
}

// probes for a zone. They are made by hand: no library stands between the
// octets here and the server.
func probes(zone string) []probe {
	soa := func(flags uint16, opt []byte) []byte { return rawQuery(flags, zone, dns.TypeSOA, opt) }
	edns := func(version byte, flags uint16, options []byte) []byte { return rawOPT(4096, version, flags, options) }
	option := func(code uint16, data ...byte) []byte {
		return append([]byte{byte(code >> 8), byte(code), byte(len(data) >> 8), byte(len(data))}, data...)
	}
	many := concat(option(dns.EDNS0COOKIE, 1, 2, 3, 4, 5, 6, 7, 8), option(dns.EDNS0NSID), option(dns.EDNS0EXPIRE), option(dns.EDNS0SUBNET, 0, 1, 0, 0))
	opcode15 := []byte{0x12, 0x34, 15 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	plain := probe{soa: true, aa: true}
	with := probe{soa: true, aa: true, opt: true}
	badvers := probe{rcode: dns.RcodeBadVers, opt: true}
	make := func(p probe, section, name string, query []byte) probe {
		p.section, p.name, p.query = section, name, query
		return p
	}
	out := []probe{
		make(plain, "8.1.1", "the zone is served", soa(0, nil)),
		make(probe{aa: true, anySOA: true}, "8.1.2", "unknown type", rawQuery(0, zone, 1000, nil)),
		make(plain, "8.1.3.1", "CD=1", soa(0x0010, nil)),
		make(plain, "8.1.3.2", "AD=1", soa(0x0020, nil)),
		make(plain, "8.1.3.3", "reserved bit", soa(0x0040, nil)),
		make(probe{soa: true, aa: true, rd: true}, "8.1.3.4", "RD=1", soa(0x0100, nil)),
		make(probe{rcode: dns.RcodeNotImplemented, opcode: 15}, "8.1.4", "unknown opcode", opcode15),
		make(plain, "8.1.5", "TCP", soa(0, nil)),
		make(with, "8.2.1", "EDNS", soa(0, edns(0, 0, nil))),
		make(badvers, "8.2.2", "version 1", soa(0, edns(1, 0, nil))),
		make(with, "8.2.3", "unknown option", soa(0, edns(0, 0, option(100)))),
		make(with, "8.2.4", "unknown flag", soa(0, edns(0, 0x40, nil))),
		make(badvers, "8.2.5", "version 1, unknown flag", soa(0, edns(1, 0x40, nil))),
		make(badvers, "8.2.6", "version 1, unknown option", soa(0, edns(1, 0, option(100)))),
		make(probe{aa: true, anySOA: true, opt: true}, "8.2.7", "truncated DNSKEY", rawQuery(0, zone, dns.TypeDNSKEY, rawOPT(512, 0, 0x8000, nil))),
		make(with, "8.2.8", "DO=1", soa(0, edns(0, 0x8000, nil))),
		make(badvers, "8.2.9", "version 1, DO=1", soa(0, edns(1, 0x8000, nil))),
		make(with, "8.2.10", "several options", soa(0, edns(0, 0, many))),
	}
	for i := range out {
		out[i].tcp = out[i].section == "8.1.5"
		if strings.Contains(out[i].name, "unknown option") {
			out[i].absent = 100
		}
	}
	return out
}

// TestRFC8906Probes sends every probe of RFC 8906 section 8, the ones of the
// EDNS compliance tester, to Meridian, which must pass all, and to the peers.
//
// RFC 8906 §8.1.1: a plain query for the SOA of a zone that is served gets it with AA and without OPT.
// RFC 8906 §8.1.2: an unknown type is answered with NOERROR.
// RFC 8906 §8.1.3.1: CD=1 does not change the answer.
// RFC 8906 §8.1.3.2: AD=1 does not change the answer.
// RFC 8906 §8.1.3.3: the reserved header bit is not copied.
// RFC 8906 §8.1.3.4: RD=1 is copied and changes nothing else.
// RFC 8906 §8.1.4: an unknown opcode gets NOTIMP with empty sections.
// RFC 8906 §8.1.5: queries are answered over TCP.
// RFC 8906 §8.2.1: a query with EDNS gets an OPT of version 0.
// RFC 8906 §8.2.2: EDNS version 1 gets BADVERS with version 0 and no answer.
// RFC 8906 §8.2.3: an unknown option is ignored and does not come back.
// RFC 8906 §8.2.4: an unknown EDNS flag does not come back.
// RFC 8906 §8.2.5: BADVERS also where an unknown flag is set.
// RFC 8906 §8.2.6: BADVERS also where an unknown option is there.
// RFC 8906 §8.2.7: a response that may be truncated keeps its OPT.
// RFC 8906 §8.2.8: DO=1 is answered.
// RFC 8906 §8.2.9: BADVERS also with DO=1.
// RFC 8906 §8.2.10: several options in one query are answered.
func TestRFC8906Probes(t *testing.T) {
	w := world{dir: t.TempDir()}
	w.add(t, "edns.test.", "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 60\n@ NS ns1\nns1 A 192.0.2.1\n", families[1].sign)
	ours := ourselves(t, w.dir)
	servers := append(ours, bind(t, w.zones), nsd(t, w.zones), knot(t, w.zones))
	var table strings.Builder
	fmt.Fprintf(&table, "%-8s %-26s", "section", "probe")
	for _, s := range servers {
		fmt.Fprintf(&table, " %-9s", s.name)
	}
	for _, p := range probes("edns.test.") {
		fmt.Fprintf(&table, "\n%-8s %-26s", p.section, p.name)
		for i, s := range servers {
			c := client{addr: s.addr}
			faults := p.faults(c.ask(p.query, p.tcp))
			c.close()
			word := "ok"
			if len(faults) > 0 {
				word = strings.Join(faults, ",")
			}
			fmt.Fprintf(&table, " %-9s", word)
			if i < len(ours) && len(faults) > 0 {
				t.Errorf("%s %s: %v", p.section, p.name, faults)
			}
		}
	}
	t.Log("\n" + table.String())
}

// faults names what is wrong with a response to the probe.
func (p probe) faults(r reply) []string {
	m := new(dns.Msg)
	if r.err != nil || m.Unpack(r.wire) != nil {
		return []string{"reply"}
	}
	var out []string
	check := func(ok bool, name string) {
		if !ok {
			out = append(out, name)
		}
	}
	opt := m.IsEdns0()
	check(m.Response, "qr")
	check(m.Rcode == p.rcode, "rcode")
	check(m.Opcode == p.opcode, "opcode")
	check(m.Authoritative == p.aa, "aa")
	check(m.RecursionDesired == p.rd, "rd")
	check(!m.AuthenticatedData || p.section == "8.1.3.2", "ad")
	check(!m.Zero, "z")
	check((opt != nil) == p.opt, "opt")
	if !p.anySOA {
		has := false
		for _, rr := range m.Answer {
			has = has || rr.Header().Rrtype == dns.TypeSOA
		}
		check(has == p.soa, "soa")
	}
	if opt != nil {
		check(opt.Version() == 0, "version")
		check(opt.Hdr.Ttl&0x3fff == 0, "flags")
		for _, o := range opt.Option {
			check(p.absent == 0 || o.Option() != p.absent, "option")
		}
	}
	if p.section == "8.1.4" {
		check(len(m.Answer)+len(m.Ns)+len(m.Extra) == 0, "sections")
	}
	return out
}

// rawQuery is a query made by hand; opt is appended as additional record
// where it is given.
func rawQuery(flags uint16, name string, qtype uint16, opt []byte) []byte {
	q := []byte{0x12, 0x34, byte(flags >> 8), byte(flags), 0, 1, 0, 0, 0, 0, 0, 0}
	q = append(q, rawName(name)...)
	q = append(q, byte(qtype>>8), byte(qtype), 0, 1)
	if opt != nil {
		q[11] = 1
		q = append(q, opt...)
	}
	return q
}

// rawOPT is an OPT record made by hand.
func rawOPT(size uint16, version byte, flags uint16, options []byte) []byte {
	return append([]byte{0, 0, 41, byte(size >> 8), byte(size), 0, version, byte(flags >> 8), byte(flags), byte(len(options) >> 8), byte(len(options))}, options...)
}

func rawName(name string) []byte {
	var out []byte
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0)
}

func concat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
