package transfer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/update"
	"meridian/fleet"
)

// localUpdater writes zones right into the nameserver, as the control plane
// does into its store.
type localUpdater struct{ n *node }

func (u localUpdater) Update(_ context.Context, name, key fleet.Name, msg []byte) (int, error) {
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		return dns.RcodeFormatError, nil
	}
	cur := u.n.srv.Zone(name)
	if cur == nil {
		return dns.RcodeServerFailure, nil
	}
	rules := u.n.policy(name).Updates
	changes, rcode := update.Apply(cur, m, update.Rules(name, rules, key))
	if rcode != dns.RcodeSuccess || len(changes) == 0 {
		return rcode, nil
	}
	next, err := cur.With(changes)
	if err != nil {
		return dns.RcodeRefused, nil
	}
	u.n.srv.SetZone(next)
	return dns.RcodeSuccess, nil
}

// updatable is a node whose zone example.test takes updates.
func updatable(t *testing.T, settings string) *node {
	t.Helper()
	doc := fmt.Sprintf(`
dns: {keys: [{name: %[1]s, secret: "env:KEY"}, {name: other.key, secret: "env:OTHER"}]}
zones: [{zone: example.test, dynamic: true, transfer: ["127.0.0.1"], %[2]s, records: %[3]q}]
`, keyName, settings, zoneText(1, 3, ""))
	n := serve(t, "", 0, makeWorld(t, doc, nil))
	n.SetUpdater(localUpdater{n})
	return n
}

// sendUpdate sends an update over TCP, signed, and gives the RCODE.
func sendUpdate(t testing.TB, addr netip.AddrPort, m *dns.Msg, key string) int {
	t.Helper()
	c := dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	m = m.Copy()
	if key != "" {
		c.TsigSecret = map[string]string{key + ".": secretText}
		m.SetTsig(key+".", dns.HmacSHA256, 300, time.Now().Unix())
	}
	r, _, err := c.Exchange(m, addr.String())
	if errors.Is(err, dns.ErrAuth) { // what the client makes of NOTAUTH
		return dns.RcodeNotAuth
	}
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return r.Rcode
}

// RFC 3007 §2: updates without a signature, or by a key without a rule, are refused.
// RFC 2136 §3.3: a key changes only the names and types that its rules tell.
func TestRFC3007OnlySignedUpdates(t *testing.T) {
	n := updatable(t, fmt.Sprintf(`updates: [{key: %s, names: [dyn, "*.dyn"], types: [A, TXT]}]`, keyName))
	ask := func(key, rr string) int {
		m := new(dns.Msg)
		m.SetUpdate("example.test.")
		record, err := dns.NewRR(rr)
		if err != nil {
			t.Fatal(err)
		}
		m.Insert([]dns.RR{record})
		return sendUpdate(t, n.addr, m, key)
	}
	for _, c := range []struct {
		key, rr string
		want    int
	}{
		{"", "dyn.example.test. 60 A 192.0.2.1", dns.RcodeRefused},
		{"other.key", "dyn.example.test. 60 A 192.0.2.1", dns.RcodeRefused},
		{keyName, "dyn.example.test. 60 A 192.0.2.1", dns.RcodeSuccess},
		{keyName, "a.b.dyn.example.test. 60 TXT x", dns.RcodeSuccess},
		{keyName, "dyn.example.test. 60 AAAA 2001:db8::1", dns.RcodeRefused},
		{keyName, "www.example.test. 60 A 192.0.2.1", dns.RcodeRefused},
		{keyName, "www.other.test. 60 A 192.0.2.1", dns.RcodeNotZone},
	} {
		if got := ask(c.key, c.rr); got != c.want {
			t.Errorf("key %q, %s: RCODE %d, want %d", c.key, c.rr, got, c.want)
		}
	}
	if got := n.srv.Zone("example.test.").Serial; got != 3 {
		t.Errorf("serial %d after two updates of serial 1", got)
	}
	m := new(dns.Msg)
	m.SetUpdate("unknown.test.")
	if got := sendUpdate(t, n.addr, m, keyName); got != dns.RcodeNotAuth {
		t.Errorf("an unknown zone: RCODE %d", got)
	}
}

// RFC 2136 §3.3: where update_from says from where updates may come, those from elsewhere are refused, whatever their key.
func TestRFC2136UpdatesFromElsewhere(t *testing.T) {
	for from, want := range map[string]int{
		"[127.0.0.0/8]":                     dns.RcodeSuccess,
		"[192.0.2.0/24]":                    dns.RcodeRefused,
		`["!127.0.0.1", 127.0.0.0/8]`:       dns.RcodeRefused,
		`["127.0.0.1+key:other.key"]`:       dns.RcodeRefused,
		`["127.0.0.1+key:` + keyName + `"]`: dns.RcodeSuccess,
	} {
		n := updatable(t, fmt.Sprintf("updates: [{key: %s}], update_from: %s", keyName, from))
		m := new(dns.Msg)
		m.SetUpdate("example.test.")
		m.RemoveName([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: "gone.example.test."}}})
		if got := sendUpdate(t, n.addr, m, keyName); got != want {
			t.Errorf("%s: RCODE %d, want %d", from, got, want)
		}
	}
}

// RFC 2136 §3: a thousand random updates have the same RCODE and leave the same zone in BIND and here.
func TestRFC2136UpdatesAsBIND(t *testing.T) {
	p := newPeer(t)
	p.write(t, "example.test.zone", zoneText(1, 3, ""))
	bind(t, p, "check-names primary ignore; check-integrity no; check-mx ignore;", fmt.Sprintf(`zone "example.test" { type primary; file "example.test.zone"; allow-transfer { any; }; allow-update { key %s; }; };`, keyName))
	n := updatable(t, fmt.Sprintf("updates: [{key: %s}]", keyName))
	eventually(t, "BIND serves", func() bool { return serialAt(p.addr, "example.test.") == 1 })
	r := rand.New(rand.NewPCG(2136, 1))
	for i := range 1000 {
		m := randomUpdate(r)
		want, got := sendUpdate(t, p.addr, m, keyName), sendUpdate(t, n.addr, m, keyName)
		if got != want {
			t.Fatalf("update %d: RCODE %s, BIND %s\n%s", i, dns.RcodeToString[got], dns.RcodeToString[want], m)
		}
		{
			compare(t, axfr(t, p.addr, "example.test.", ""), axfr(t, n.addr, "example.test.", ""))
			if t.Failed() {
				t.Fatalf("after update %d\n%s", i, m)
			}
		}
	}
}

// randomUpdate makes an update that often meets what is there.
func randomUpdate(r *rand.Rand) *dns.Msg {
	m := new(dns.Msg)
	m.SetUpdate("example.test.")
	for range r.IntN(3) {
		if r.IntN(3) == 0 {
			m.Answer = append(m.Answer, randomPrerequisite(r))
		}
	}
	for range 1 + r.IntN(4) {
		m.Ns = append(m.Ns, randomChange(r))
	}
	return m
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func randomName(r *rand.Rand) string {
	return pick(r, "example.test.", "a.example.test.", "b.example.test.", "a.b.example.test.", "h0.example.test.", "h1.example.test.", "C.example.test.", "*.example.test.", "sub.example.test.", "x.y.example.test.")
}

func randomRR(r *rand.Rand) dns.RR {
	name := randomName(r)
	text := fmt.Sprintf("%s %d IN %s", name, pick(r, 60, 300), pick(r, "A 192.0.2.1", "A 192.0.2.2", "A 192.0.2.3", "AAAA 2001:db8::1", "TXT x", "TXT y",
		"CNAME h0.example.test.", "CNAME H1.example.test.", "MX 10 mail.example.test.", "MX 10 MAIL.example.test.", "NS ns1.example.test.", "NS ns9.other.example.", "PTR h0.example.test.",
		"TYPE65280 \\# 2 abcd", "SRV 1 2 3 mail.example.test."))
	if r.IntN(25) == 0 {
		text = fmt.Sprintf("example.test. %d IN SOA ns1.example.test. admin.example.test. %d 3600 2 86400 60", pick(r, 60, 300), r.IntN(4000))
	}
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

func randomPrerequisite(r *rand.Rand) dns.RR {
	rr := randomRR(r)
	h := rr.Header()
	h.Ttl = 0
	switch r.IntN(6) {
	case 0:
		return &dns.ANY{Hdr: dns.RR_Header{Name: h.Name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}
	case 1:
		return &dns.ANY{Hdr: dns.RR_Header{Name: h.Name, Rrtype: dns.TypeANY, Class: dns.ClassNONE}}
	case 2:
		return &dns.ANY{Hdr: dns.RR_Header{Name: h.Name, Rrtype: h.Rrtype, Class: dns.ClassANY}}
	case 3:
		return &dns.ANY{Hdr: dns.RR_Header{Name: h.Name, Rrtype: h.Rrtype, Class: dns.ClassNONE}}
	case 4:
		h.Ttl = uint32(pick(r, 0, 0, 0, 1))
	}
	return rr
}

func randomChange(r *rand.Rand) dns.RR {
	rr := randomRR(r)
	h := rr.Header()
	switch r.IntN(8) {
	case 0:
		return &dns.ANY{Hdr: dns.RR_Header{Name: h.Name, Rrtype: h.Rrtype, Class: dns.ClassANY}}
	case 1:
		if r.IntN(3) == 0 {
			return &dns.ANY{Hdr: dns.RR_Header{Name: h.Name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}
		}
		h.Class, h.Ttl = dns.ClassNONE, 0
	case 2:
		h.Class, h.Ttl = dns.ClassNONE, 0
	}
	return rr
}
