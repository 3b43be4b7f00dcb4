package answer

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// sendAs asks as a client of some transport, and gives the response and its
// length.
func sendAs(t testing.TB, p *Plan, c Client, q *dns.Msg) (*dns.Msg, int) {
	t.Helper()
	if !c.Addr.IsValid() {
		c.Addr = resolver
	}
	var w Worker
	out := make([]byte, MaxStream)
	n, _ := p.Answer(&w, pack(t, q), c, out)
	m := new(dns.Msg)
	if err := m.Unpack(out[:n]); err != nil {
		t.Fatalf("%v\n%x", err, out[:n])
	}
	return m, n
}

func option[T dns.EDNS0](m *dns.Msg) (found T, ok bool) {
	if o := m.IsEdns0(); o != nil {
		for _, opt := range o.Option {
			if found, ok = opt.(T); ok {
				return found, true
			}
		}
	}
	return found, false
}

// asking adds an option without data.
func asking(code uint16) func(*dns.Msg) {
	return func(m *dns.Msg) {
		if m.IsEdns0() == nil {
			edns(m)
		}
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: code})
	}
}

// RFC 7828 §3.3.1: over UDP the option is passed over.
// RFC 7828 §3.3.2: the server's idle timeout, in units of 100 ms, is told over TCP and TLS to clients that ask.
func TestRFC7828Keepalive(t *testing.T) {
	p := newPlan(t, nil)
	stream := Client{Stream: true, Idle: 12300 * time.Millisecond}
	m, _ := sendAs(t, p, stream, query("mx1.demo.test", dns.TypeA, asking(optionKeepalive)))
	if o, ok := option[*dns.EDNS0_TCP_KEEPALIVE](m); !ok || o.Timeout != 123 {
		t.Errorf("%v", m)
	}
	m, _ = sendAs(t, p, stream, query("mx1.demo.test", dns.TypeA, edns))
	if _, ok := option[*dns.EDNS0_TCP_KEEPALIVE](m); ok {
		t.Error("nobody asked for it")
	}
	m, _ = sendAs(t, p, Client{}, query("mx1.demo.test", dns.TypeA, asking(optionKeepalive)))
	if _, ok := option[*dns.EDNS0_TCP_KEEPALIVE](m); ok || m.Rcode != 0 || len(m.Answer) != 1 {
		t.Errorf("over UDP: %v", m)
	}
	m, _ = sendAs(t, p, Client{Stream: true, Idle: 10 * time.Hour}, query("mx1.demo.test", dns.TypeA, asking(optionKeepalive)))
	if o, _ := option[*dns.EDNS0_TCP_KEEPALIVE](m); o == nil || o.Timeout != 0xffff {
		t.Errorf("a time that the field cannot hold: %v", m)
	}
}

// RFC 8467 §4.1: responses are padded to multiples of 468 octets.
// RFC 7830 §4: they are padded where the query was, and only there.
func TestRFC8467Padding(t *testing.T) {
	p := newPlan(t, nil)
	tls := Client{Stream: true, Encrypted: true}
	for _, name := range []string{"mx1.demo.test", "many.demo.test", "nothing.demo.test", "elsewhere.example"} {
		for _, changes := range [][]func(*dns.Msg){{asking(optionPadding)}, {asking(optionPadding), asking(optionNSID), subnetOf("10.1.0.0/24")}} {
			m, n := sendAs(t, p, tls, query(name, dns.TypeA, changes...))
			if _, ok := option[*dns.EDNS0_PADDING](m); !ok || n%paddingBlock != 0 {
				t.Errorf("%s: %d octets, %v", name, n, m.IsEdns0())
			}
		}
	}
	m, _ := sendAs(t, p, tls, query("mx1.demo.test", dns.TypeA, edns))
	if _, ok := option[*dns.EDNS0_PADDING](m); ok {
		t.Error("padding for a query without")
	}
	m, _ = sendAs(t, p, Client{Stream: true}, query("mx1.demo.test", dns.TypeA, asking(optionPadding)))
	if _, ok := option[*dns.EDNS0_PADDING](m); ok {
		t.Error("RFC 7830 §6: padding over a transport that is not encrypted")
	}
}

// RFC 9660 §3.2: the serial of the zone that the name asked for lies in is told to who asks, also where the name does not exist or is delegated.
func TestRFC9660ZoneVersion(t *testing.T) {
	p := newPlan(t, nil)
	for name, labels := range map[string]uint8{"mx1.demo.test": 2, "nothing.demo.test": 2, "x.child.demo.test": 2, "x.sub.demo.test": 3, "cross.demo.test": 2} {
		m := ask(t, p, name, dns.TypeA, asking(optionVersion))
		if o, ok := option[*dns.EDNS0_ZONEVERSION](m); !ok || o.LabelCount != labels || o.Type != 0 || o.Version != "00000007" && o.Version != "\x00\x00\x00\x07" {
			t.Errorf("%s: %v", name, m.IsEdns0())
		}
	}
	if _, ok := option[*dns.EDNS0_ZONEVERSION](ask(t, p, "mx1.demo.test", dns.TypeA, edns)); ok {
		t.Error("nobody asked for it")
	}
	if _, ok := option[*dns.EDNS0_ZONEVERSION](ask(t, p, "elsewhere.example", dns.TypeA, asking(optionVersion))); ok {
		t.Error("a version of no zone")
	}
	m := ask(t, p, "mx1.demo.test", dns.TypeA, edns, func(m *dns.Msg) {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: optionVersion, Data: []byte{2, 0, 0, 0, 0, 1}})
	})
	if m.Rcode != dns.RcodeFormatError {
		t.Errorf("RFC 9660 §3.2: a version in a query: %v", m)
	}
}

// settled compiles the fixture with settings of dns.
func settled(t testing.TB, settings string) *Plan {
	t.Helper()
	p, err := Compile(id, newWorld(t, spec+"dns: "+settings+"\n"), newAtlas(), nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// RFC 9567 §6.2: responses name the agent domain to which validators may report errors, without being asked for it.
// RFC 9567 §8.1: a zone that the agent domain lies in does not name it, nor does one below it.
func TestRFC9567ReportChannel(t *testing.T) {
	for agent, zones := range map[string]struct{ named, silent []string }{
		"errors.example.": {named: []string{"mx1.demo.test", "nothing.demo.test", "x.child.demo.test", "x.sub.demo.test"}, silent: []string{"elsewhere.example"}},
		"er.other.test.":  {named: []string{"mx1.demo.test"}, silent: []string{"x.other.test", "_er.1.www.7._er.er.other.test"}},
		"er.demo.test.":   {named: []string{"x.other.test"}, silent: []string{"mx1.demo.test", "er.demo.test"}},
		"sub.demo.test.":  {silent: []string{"mx1.demo.test", "x.sub.demo.test"}},
		"demo.test.":      {named: []string{"x.other.test"}, silent: []string{"mx1.demo.test", "x.sub.demo.test"}},
	} {
		p := settled(t, "{errors_to: "+agent+"}")
		for _, name := range zones.named {
			if o, ok := option[*dns.EDNS0_REPORTING](ask(t, p, name, dns.TypeA, edns)); !ok || o.AgentDomain != agent {
				t.Errorf("%s: %s: %v", agent, name, o)
			}
		}
		for _, name := range zones.silent {
			if o, ok := option[*dns.EDNS0_REPORTING](ask(t, p, name, dns.TypeTXT, edns)); ok {
				t.Errorf("%s: %s names %v", agent, name, o)
			}
		}
	}
}

// RFC 8482 §4.1: over UDP type ANY gets one RRset where dns.any says so.
// RFC 8482 §4.2: or an HINFO that says so.
// RFC 8482 §4.4: or a truncated response; over TCP it gets all that there is.
func TestRFC8482Modes(t *testing.T) {
	for mode, want := range map[string]func(m *dns.Msg) bool{
		"one":       func(m *dns.Msg) bool { return text(m.Answer) == "web.demo.test. 300 A 192.0.2.70" && !m.Truncated },
		"hinfo":     func(m *dns.Msg) bool { return text(m.Answer) == `web.demo.test. 3600 HINFO "RFC8482" ""` },
		"truncated": func(m *dns.Msg) bool { return m.Truncated && len(m.Answer) == 0 },
	} {
		p := settled(t, "{any: "+mode+"}")
		if m := ask(t, p, "web.demo.test", dns.TypeANY); !want(m) {
			t.Errorf("%s: %v", mode, m)
		}
		if m := askStream(t, p, "web.demo.test", dns.TypeANY); len(m.Answer) != 2 {
			t.Errorf("%s over a stream: %v", mode, m)
		}
		if m := askStream(t, p, "www.demo.test", dns.TypeANY); count(m.Answer, dns.TypeA) != 1 || count(m.Answer, dns.TypeAAAA) != 1 || count(m.Answer, dns.TypeHTTPS) != 1 {
			t.Errorf("%s, a steered name over a stream: %v", mode, m)
		}
		if m := ask(t, p, "ent.demo.test", dns.TypeANY); m.Rcode != 0 || len(m.Answer) != 0 || len(m.Ns) != 1 || m.Truncated {
			t.Errorf("%s of an empty non-terminal: %v", mode, m)
		}
	}
	signed := signedPlan(t, "nsec")
	signed.settings.any = fleet.AnyHINFO
	if m := ask(t, signed, "www.signed.test", dns.TypeANY, do); count(m.Answer, dns.TypeHINFO) != 0 || count(m.Answer, dns.TypeRRSIG) != 1 {
		t.Errorf("an HINFO that nobody signed: %v", m)
	}
}

// The whoami name tells what is seen of a client, whatever zone it lies in.
func TestWhoami(t *testing.T) {
	p := settled(t, "{whoami: whoami.demo.test}").WithView(&fleet.View{Revision: 3}, now)
	m, _ := sendAs(t, p, Client{Addr: resolver, Port: 4711}, query("WhoAmI.demo.test", dns.TypeTXT, subnetOf("10.1.7.0/24")))
	if got := strings.Join(m.Answer[0].(*dns.TXT).Txt, "|"); !strings.HasPrefix(got, "resolver 10.2.0.1:4711|subnet 10.1.7.0/24|class ") || !strings.HasSuffix(got, "|scope 16|epoch "+strconv.FormatUint(p.world.Snapshot.Revision, 10)+".3") || !m.Authoritative {
		t.Errorf("%q", got)
	}
	if m.Answer[0].Header().Ttl != 0 || ecsOf(m).SourceScope != 24 {
		t.Errorf("others may be given it: %v", m)
	}
	m, _ = sendAs(t, p, Client{Addr: netip.MustParseAddr("2001:db8::5"), Port: 1}, query("whoami.demo.test", dns.TypeTXT))
	if got := strings.Join(m.Answer[0].(*dns.TXT).Txt, "|"); !strings.HasPrefix(got, "resolver [2001:db8::5]:1|class ") {
		t.Errorf("%q", got)
	}
	if m := ask(t, p, "whoami.demo.test", dns.TypeA); m.Rcode != 0 || len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("%v", m)
	}
	q, out := pack(t, query("whoami.demo.test", dns.TypeTXT, subnetOf("10.1.7.0/24"))), make([]byte, MaxStream)
	var w Worker
	if n := testing.AllocsPerRun(50, func() { p.Answer(&w, q, Client{Addr: resolver, Port: 4711}, out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// RFC 4892 §3: what the server says of itself is the operator's choice.
func TestRFC4892Settings(t *testing.T) {
	p := settled(t, "{nsid: here, version: mine}")
	ch := func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }
	for name, want := range map[string]string{"id.server": "here", "version.bind": "mine"} {
		if m := ask(t, p, name, dns.TypeTXT, ch); len(m.Answer) != 1 || m.Answer[0].(*dns.TXT).Txt[0] != want {
			t.Errorf("%s: %v", name, m)
		}
	}
	named, err := Compile(id, newWorld(t, spec+"nodes: [{name: fra-1, region: fra, roles: [dns], addresses: {v4: 10.0.0.1}}]\n"), newAtlas(), nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m := ask(t, named, "hostname.bind", dns.TypeTXT, ch); m.Answer[0].(*dns.TXT).Txt[0] != "fra-1@fra" {
		t.Errorf("by itself a server says %v", m.Answer)
	}
	silent := Zones(Identity{}, nil)
	if m := ask(t, silent, "version.bind", dns.TypeTXT, ch); m.Rcode != dns.RcodeRefused {
		t.Errorf("%v", m)
	}
}

// RFC 7871 §7.2.1: where Client Subnet is off, the option is passed over as one that is not known.
func TestRFC7871Off(t *testing.T) {
	p := settled(t, "{ecs: false}")
	m := ask(t, p, "www.demo.test", dns.TypeA, subnetOf("10.1.0.0/24"))
	if ecsOf(m) != nil || ipOf(m) != tyo {
		t.Errorf("%v", m)
	}
	if m := send(t, p, withOption(t, "www.demo.test", 8, []byte{9}), false); m.Rcode != 0 {
		t.Errorf("%v", m)
	}
}

// RFC 8914 §4.25: a zone that the server is to serve and has no content for is SERVFAIL, Invalid Data.
// RFC 1034 §4.3.5: an expired secondary zone is no longer answered from.
func TestRFC8914ZoneWithoutContent(t *testing.T) {
	p := newPlan(t, nil).WithUnavailable("other.test.")
	m := ask(t, p, "x.other.test", dns.TypeA, edns)
	if e, ok := option[*dns.EDNS0_EDE](m); m.Rcode != dns.RcodeServerFailure || !ok || e.InfoCode != dns.ExtendedErrorCodeInvalidData || m.Authoritative {
		t.Errorf("%v", m)
	}
	if m := ask(t, p, "cross.demo.test", dns.TypeA); m.Rcode != 0 || len(m.Answer) != 1 {
		t.Errorf("an alias into it: %v", m)
	}
	if m := ask(t, p.WithoutZone("other.test."), "x.other.test", dns.TypeA); m.Rcode != dns.RcodeRefused {
		t.Errorf("removed: %v", m)
	}
}

// Messages that are not for the plan are told, whatever else is in them.
func TestSpecial(t *testing.T) {
	p := newPlan(t, nil)
	key := func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1700000000) }
	for what, c := range map[string]struct {
		q     *dns.Msg
		want  bool
		rcode int
	}{
		"NOTIFY": {query("demo.test", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), true, dns.RcodeNotImplemented},
		"UPDATE": {query("demo.test", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), true, dns.RcodeNotImplemented},
		"AXFR":   {query("demo.test", dns.TypeAXFR), true, dns.RcodeRefused},
		"IXFR":   {query("demo.test", dns.TypeIXFR), true, dns.RcodeRefused},
		"TSIG":   {query("demo.test", dns.TypeSOA, edns, key), true, dns.RcodeNotAuth},
		"plain":  {query("demo.test", dns.TypeSOA, edns), false, 0},
		"STATUS": {query("demo.test", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }), false, dns.RcodeNotImplemented},
	} {
		var w Worker
		out := make([]byte, MaxStream)
		n, o := p.Answer(&w, pack(t, c.q), Client{Addr: resolver}, out)
		if n == 0 || o.Special != c.want || int(o.Rcode) != c.rcode {
			t.Errorf("%s: %+v", what, o)
		}
	}
}

// RFC 9460 §4.1: aliases among service records are followed within the zone.
// RFC 9460 §2.4.2: a record in AliasMode stands at the apex too.
// RFC 9460 §2.5.1: a target of "." in AliasMode names no host.
func TestRFC9460Aliases(t *testing.T) {
	z := mustZone(t, "svc.test.", `@ 300 SOA ns1 admin 1 2 3 4 60
@ 300 NS ns1
ns1 300 A 192.0.2.1
@ 300 HTTPS 0 one
one 300 HTTPS 0 two
two 300 HTTPS 1 . alpn=h2
two 300 A 192.0.2.2
none 300 HTTPS 0 .
none 300 A 192.0.2.3
round 300 SVCB 0 robin
robin 300 SVCB 0 round
srv 300 SRV 0 0 1 .
*.wild 300 A 192.0.2.4
mx 300 MX 1 a.wild
`)
	check(t, Zones(id, []*zone.Zone{z}), []want{
		{"a chain of aliases", "svc.test", dns.TypeHTTPS, 0, true, "svc.test. 300 HTTPS 0 one.svc.test.", "", `one.svc.test. 300 HTTPS 0 two.svc.test.; two.svc.test. 300 A 192.0.2.2; two.svc.test. 300 HTTPS 1 . alpn="h2"`},
		{"no service", "none.svc.test", dns.TypeHTTPS, 0, true, "none.svc.test. 300 HTTPS 0 .", "", ""},
		{"a loop", "round.svc.test", dns.TypeSVCB, 0, true, "round.svc.test. 300 SVCB 0 robin.svc.test.", "", "robin.svc.test. 300 SVCB 0 round.svc.test."},
		{"no host (RFC 2782)", "srv.svc.test", dns.TypeSRV, 0, true, "srv.svc.test. 300 SRV 0 0 1 .", "", ""},
		{"a host made from a wildcard", "mx.svc.test", dns.TypeMX, 0, true, "mx.svc.test. 300 MX 1 a.wild.svc.test.", "", "a.wild.svc.test. 300 A 192.0.2.4"},
	})
}

// RFC 6891 §6.2.3: a response is never longer than the client takes, whatever options it asks for.
func TestRFC6891OptionsThatDoNotFit(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := label + "." + label + "." + label + "."
	p := settled(t, "{errors_to: "+long+"x, nsid: "+strings.Repeat("n", 128)+"}")
	q := query(long+strings.Repeat("b", 50)+".demo.test", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(512, true) }, asking(optionNSID), asking(optionVersion), subnetOf("2001:db8::/128"))
	m, n := sendAs(t, p, Client{}, q)
	if n > 512 || m.IsEdns0() == nil || ecsOf(m) == nil || !m.Truncated {
		t.Errorf("%d octets: %v", n, m)
	}
}
