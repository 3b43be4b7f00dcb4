package acme

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// elsewhere is a resolver that knows aliases in zones that are not the fleet's, and
// asks the fleet's nameserver for all else.
func (r *rig) elsewhere(aliases map[string]string) netip.AddrPort {
	r.t.Helper()
	r.until("the nameserver", func() bool { return len(r.dns.Addrs()) > 0 })
	ask := func(name string, t uint16) []dns.RR {
		q := new(dns.Msg).SetQuestion(name, t)
		if in, err := dns.Exchange(q, r.dns.Addrs()[0].String()); err == nil {
			return in.Answer
		}
		return nil
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m, name, t := new(dns.Msg).SetReply(q), q.Question[0].Name, q.Question[0].Qtype
		for to := aliases[strings.ToLower(name)]; to != ""; to = aliases[name] {
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: to})
			if name = to; t == dns.TypeCNAME {
				break
			}
		}
		if t != dns.TypeCNAME {
			m.Answer = append(m.Answer, ask(name, t)...)
		}
		_ = w.WriteMsg(m)
	})
	pc, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(r.t, "127.0.0.1")))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String()) // Pebble asks by TCP
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { _ = s.ActivateAndServe() }()
		<-ready
		r.t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// A name whose zone is elsewhere gets its certificate by dns-01 where its
// _acme-challenge is an alias in a zone of the fleet, wildcards too; one without such
// an alias is told of.
func TestAChallengeFollowsAnAliasIntoOurZones(t *testing.T) {
	r := newRig(t)
	at := r.elsewhere(map[string]string{
		"_acme-challenge.far.test.": "far.validation.test.",
		"far.validation.test.":      "far.demo.test.",
	})
	r.aliases.Use([]netip.AddrPort{at})
	r.asked = at.String()
	p := newPebble(r, "")
	for i := range addresses {
		r.gateway(i)
	}
	certs := pebbled(p, ", names: [far.test, \"*.far.test\", lost.test], challenge: dns-01") +
		"- {id: rest, acme: {directory: internal, names: [www.demo.test, api.demo.test, \"*.any.demo.test\"]}}\n"
	r.submit(r.spec(certs, ""), object(fleet.ObjectCA, caID, p.ca))
	if c := r.shown("x.far.test", nil); c.DNSNames[0] != "*.far.test" {
		t.Errorf("the wildcard's is of %q", c.DNSNames)
	}
	if c := r.shown("far.test", nil); c.DNSNames[0] != "far.test" {
		t.Errorf("the name's is of %q", c.DNSNames)
	}
	r.until("the name without an alias is told of", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		said := strings.Join(r.said, "\n")
		return strings.Contains(said, "_acme-challenge.lost.test. is in no zone of the Spec that the fleet writes, and no CNAME leads from it to one")
	})
}
