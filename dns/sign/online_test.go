package sign

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"meridian/dns/zone"
	"meridian/fleet"
)

// RFC 9824 §3.1: the next name is the least one behind the owner in canonical order: nothing fits between.
// RFC 4471 §3.1.2: and so it is where nothing more fits below the owner.
func TestRFC9824NextName(t *testing.T) {
	label := func(n int, of string) string { return string(rune(n)) + strings.Repeat(of, n) }
	const apex = "\x02ex\x00"
	long := label(63, "a") + label(63, "b") + label(63, "c") + apex // 196 octets
	full := strings.Repeat(string([]byte{63})+strings.Repeat("\xff", 63), 3) + apex
	for _, c := range []struct{ owner, next string }{
		{apex, label(1, "\x00") + apex},
		{label(1, "a") + apex, label(1, "\x00") + label(1, "a") + apex},
		{label(56, "x") + long, label(1, "\x00") + label(56, "x") + long},                                 // 253 octets: a label more fits
		{label(57, "x") + long, "\x3a" + strings.Repeat("x", 57) + "\x00" + long},                         // 254: an octet more
		{label(58, "x") + long, "\x3a" + strings.Repeat("x", 57) + "y" + long},                            // 255: nothing more
		{label(58, "@") + long, "\x3a" + strings.Repeat("@", 57) + "[" + long},                            // upper case is passed over
		{"\x3a" + strings.Repeat("x", 57) + "\xff" + long, "\x39" + strings.Repeat("x", 56) + "y" + long}, // a shorter one beside it
		{"\x3a" + strings.Repeat("\xff", 58) + long, "\x3f" + strings.Repeat("a", 62) + "b" + long[64:]},  // the parent's next
		{"\x3a" + strings.Repeat("\xff", 58) + full, apex},                                                // the last name of all
	} {
		got := string(appendNext(nil, []byte(c.owner), apex))
		if got != c.next {
			t.Errorf("behind %q\ncomes %q\nwant  %q", c.owner, got, c.next)
		}
		if len(got) > maxName || got != apex && zone.Compare(c.owner, []byte(got)) >= 0 {
			t.Errorf("%q does not come behind %q", got, c.owner)
		}
	}
}

// Nameservers get the key that signs the zone's data and no other, with the
// zone's binary form alone, and only for compact denial.
func TestOnlyTheZSKIsGivenAway(t *testing.T) {
	for _, denial := range []fleet.Denial{fleet.DenialNSEC, fleet.DenialNSEC3, fleet.DenialCompact} {
		p := policy(t, func(p *fleet.DNSSECPolicy) { p.Denial = denial })
		var state *State
		z, _ := signed(t, everything, p, func(o *Options) { state = o.State })
		data := z.Encode()
		again, err := zone.Load(z.Name, data, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range state.Keys {
			want := denial == fleet.DenialCompact && k.Role == ZSK
			if got := bytes.Contains(data, k.Private); got != want || bytes.Contains(again.Online, k.Private) != want {
				t.Errorf("%s: %s is in the zone: %v", denial, k, got)
			}
			if bytes.Contains(text(t, again), k.Private) {
				t.Errorf("%s: %s is in the text", denial, k)
			}
		}
		if o, err := OpenOnline(again); err != nil || (o != nil) != (denial == fleet.DenialCompact) {
			t.Errorf("%s: %v %v", denial, o, err)
		}
	}
}

// While one ZSK takes the place of another, whoever signs online signs with
// those that sign the zone.
func TestOnlineKeysFollowTheRollOver(t *testing.T) {
	p := policy(t, func(p *fleet.DNSSECPolicy) { p.Denial = fleet.DenialCompact })
	o := Options{State: settled(t, "example.test.", p), Policy: p, Serial: 8, Now: now}
	if err := o.State.Ask(ZSK); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 12 {
		next, _, at, err := Step(*o.State, "example.test.", p, o.Now, Facts{MaxTTL: 3600}, octets("roll"))
		if err != nil {
			t.Fatal(err)
		}
		o.State = &next
		z, _, err := Sign(load(t, everything), &o)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for _, k := range next.Signing() {
			if k.Role == ZSK {
				want = append(append(want, k.Algorithm), k.Private...)
			}
		}
		if !slices.Equal(z.Online, want) || len(want) == 0 {
			t.Fatalf("at %s", o.Now)
		}
		if _, err := OpenOnline(z); err != nil {
			t.Fatal(err)
		}
		seen[string(want)] = true
		if at.IsZero() {
			break
		}
		o.Now = at
	}
	if len(seen) < 2 {
		t.Error("the key was not rolled")
	}
}

// RFC 6781 §4.1.4: while the algorithm is rolled, what is signed online too has signatures by keys that are not in the DNSKEY set yet, or any more.
func TestRFC6781OnlineAlgorithmRollOver(t *testing.T) {
	compact := func(p *fleet.DNSSECPolicy) { p.Denial = fleet.DenialCompact }
	w := newWorld(t, policy(t, compact))
	w.days(10)
	w.policy = policy(t, func(p *fleet.DNSSECPolicy) { compact(p); p.Algorithm = fleet.Ed25519 })
	hidden := 0
	for range 40 {
		w.days(0.25)
		z, _, err := Sign(load(t, everything), &Options{State: &w.state, Policy: w.policy, Serial: 8, Now: w.now})
		if err != nil {
			t.Fatal(err)
		}
		o, err := OpenOnline(z)
		if err != nil {
			t.Fatalf("at %s: %v", w.now, err)
		}
		for _, s := range o.signers {
			if i := slices.IndexFunc(w.state.Keys, func(k Key) bool { return bytes.Equal(k.Private, s.key.Private) }); !w.state.Keys[i].DNSKEY.published() {
				hidden++
			}
		}
	}
	if hidden < 2 || len(w.state.Keys) != 2 {
		t.Errorf("%d moments with a key that is not in the DNSKEY set, and keys %v", hidden, w.state.Keys)
	}
}

// A zone that one key signed is denied by NSEC3 until ZSKs alone sign it, of
// whatever algorithm: nameservers never get the CSK, no answer lacks its
// signature, and no chain of NSEC tells names.
func TestCompactDenialWaitsForTheZSK(t *testing.T) {
	for _, algorithm := range []fleet.DNSSECAlgorithm{fleet.ECDSAP256, fleet.Ed25519} {
		w := newWorld(t, policy(t, func(p *fleet.DNSSECPolicy) { p.Denial, p.SingleKey = fleet.DenialNSEC3, true }))
		w.days(10)
		w.policy = policy(t, func(p *fleet.DNSSECPolicy) { p.Denial, p.Algorithm = fleet.DenialCompact, algorithm })
		waited, done := false, false
		for range 500 {
			if w.days(0.02); done {
				break
			}
			z, _, err := Sign(load(t, everything), &Options{State: &w.state, Policy: w.policy, Serial: 8, Now: w.now})
			if err != nil {
				t.Fatal(err)
			}
			one := slices.ContainsFunc(w.state.Signing(), func(k *Key) bool { return k.Role == CSK })
			o, err := OpenOnline(z)
			if err != nil || (o == nil) != one || (z.Denial == zone.DenyNSEC3) != one {
				t.Fatalf("at %s a CSK signs: %v; signed online: %v, denial %v, %v", w.now, one, o != nil, z.Denial, err)
			}
			waited, done = waited || one, !one
		}
		if !waited || !done {
			t.Errorf("%s: waited %v, done %v", algorithm, waited, done)
		}
	}
}
