package answer

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// signedPolicies is policyWorld with its zone signed, every variant among it, as
// the control plane does.
func signedPolicies(t testing.TB, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	w := policyWorld(t, shifts...)
	w.Zones = signedZones(t, w.Snapshot, "p.test.", fleet.DefaultPolicy)
	return w
}

// RFC 4035 §3.1.1: an RRset in the answer comes with its RRSIG, steered ones by whatever policy, in whatever order, under whatever health.
func TestRFC4035SteeredAnswersAreSigned(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	w := signedPolicies(t)
	source := randomAtlas(r)
	p, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[uint16]*dns.DNSKEY{}
	for _, rr := range ask(t, p, "p.test", dns.TypeDNSKEY).Answer {
		if k, ok := rr.(*dns.DNSKEY); ok {
			keys[k.KeyTag()] = k
		}
	}
	verified, absent := 0, 0
	var worker Worker
	out := make([]byte, MaxStream)
	for range 20 {
		next := *w
		next.Shifts = randomShifts(r)
		if p, err = Compile(id, &next, source, randomView(r, w.Snapshot), now, p); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			q, c := randomQuery(t, r, func(m *dns.Msg) { m.SetEdns0(4096, true) })
			c.Stream = true
			n, _ := p.Answer(&worker, q, c, out)
			var m dns.Msg
			if err := m.Unpack(out[:n]); err != nil {
				t.Fatal(err)
			}
			if len(m.Answer) == 0 {
				absent++
				continue
			}
			verifySets(t, &m, keys)
			verified++
		}
	}
	if verified < 300 || absent == 0 {
		t.Errorf("only %d answers were verified, %d absent", verified, absent)
	}
}

// verifySets asks for a good signature on every RRset of the answer.
func verifySets(t *testing.T, m *dns.Msg, keys map[uint16]*dns.DNSKEY) {
	t.Helper()
	sets := map[uint16][]dns.RR{}
	for _, rr := range m.Answer {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			sets[rr.Header().Rrtype] = append(sets[rr.Header().Rrtype], rr)
		}
	}
	for _, rr := range m.Answer {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			continue
		}
		if err := sig.Verify(keys[sig.KeyTag], sets[sig.TypeCovered]); err != nil || !sig.ValidityPeriod(now.Add(time.Hour)) {
			t.Fatalf("%v in\n%v", err, m)
		}
		delete(sets, sig.TypeCovered)
	}
	if len(sets) > 0 {
		t.Fatalf("not all is signed in\n%v", m)
	}
}
