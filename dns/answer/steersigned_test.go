package answer

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// signedPolicies is policyWorld with its zone signed, every variant among it, as
// the control plane does.
func signedPolicies(t testing.TB, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	w := policyWorld(t, shifts...)
	spec := w.Snapshot.Spec.Zone("p.test.")
	base, err := zone.Load(spec.Zone, []byte(spec.Records), "")
	if err != nil {
		t.Fatal(err)
	}
	policy := w.Snapshot.Spec.DNSSECPolicy(fleet.DefaultPolicy)
	state, _, _, err := sign.Step(sign.State{}, spec.Zone, policy, now, sign.Facts{}, rand.NewChaCha8(sha256.Sum256([]byte("keys"))))
	if err != nil {
		t.Fatal(err)
	}
	o := sign.Options{State: &state, Policy: policy, Serial: 2, Now: now}
	list, err := Variants(w.Snapshot, spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		o.Variants = append(o.Variants, sign.Variants{Owner: zone.Wire(v.Name), Type: v.Type, Empty: v.Empty, Sets: v.Sets})
	}
	signed, _, err := sign.Sign(base, &o)
	if err != nil {
		t.Fatal(err)
	}
	key := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(spec.Zone)}
	w.Zones = w.Zones.With([]fleet.Object{{Key: key, Data: signed.Encode(), Version: "signed"}}, nil)
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
