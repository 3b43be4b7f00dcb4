package keeper

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// RFC 5011 §4.2: Unbound follows a roll-over of its trust anchor: it comes to trust the new key, sees the old one revoked, and validates all the while.
func TestRFC5011UnboundFollows(t *testing.T) {
	program := testkit.Program(t, "unbound")
	testkit.Program(t, "dig")
	b := newBench(t, "dns: {dnssec: [{policy: default, ttl: 2s, propagation: 1s, parent_ttl: 1s, zsk_lifetime: 0s, revoke: true}]}\n"+signedZone+records(plain))
	s, addr := b.serve(t)
	const name = fleet.Name("example.test.")
	policy := b.world.Snapshot.Spec.DNSSECPolicy("default")
	base, err := zone.Load(name, []byte(plain), "")
	if err != nil {
		t.Fatal(err)
	}
	var state sign.State
	at, serial, random := start, uint32(100), rand.NewChaCha8([32]byte{5})
	play := func(d time.Duration) { // the keys' time; the parent does as CDS says
		t.Helper()
		for end := at.Add(d); at.Before(end); at = at.Add(6 * time.Hour) {
			var ds []sign.DS
			for _, k := range state.DSKeys() {
				ds = append(ds, k.DSFor(name))
			}
			if state, _, _, err = sign.Step(state, name, policy, at, sign.Facts{Parent: &sign.ParentDS{All: ds, Any: ds, TTL: 1}, MaxTTL: 60}, random); err != nil {
				t.Fatal(err)
			}
		}
		serial++
		z, _, err := sign.Sign(base, &sign.Options{State: &state, Policy: policy, Serial: serial, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		s.SetZone(z)
	}
	play(5 * 24 * time.Hour)
	first := state.DSKeys()[0].DSFor(name)
	file := filepath.Join(t.TempDir(), "anchor")
	if err := os.WriteFile(file, fmt.Appendf(nil, "example.test. IN DS %s\n", first), 0o600); err != nil {
		t.Fatal(err)
	}
	resolver := unbound(t, program, addr, fmt.Sprintf("auto-trust-anchor-file: %q\n  permit-small-holddown: yes\n  add-holddown: 2\n  del-holddown: 60", file))
	sees := func(what string, parts ...string) {
		t.Helper()
		var got []byte
		for range 300 {
			dig(t, resolver, question{"www.example.test", "A", "192.0.2.80"})
			got, _ = os.ReadFile(file)
			for line := range strings.Lines(string(got)) {
				ok := true
				for _, p := range parts {
					ok = ok && strings.Contains(line, p)
				}
				if ok {
					return
				}
			}
			<-time.After(100 * time.Millisecond)
		}
		t.Fatalf("%s: the anchors are\n%s", what, got)
	}
	id := func(k *sign.Key) string { return fmt.Sprintf("id = %d ", k.Tag()) }
	sees("at first", fmt.Sprintf("id = %d ", first.KeyTag), "VALID")
	if err := state.Ask(sign.KSK); err != nil {
		t.Fatal(err)
	}
	play(5 * 24 * time.Hour)
	sees("the new key", id(state.DSKeys()[0]), "[  VALID  ]")
	play(30 * 24 * time.Hour)
	for _, k := range state.Published() {
		if !k.Revoked.IsZero() {
			sees("the old key", id(k), "[ REVOKED ]")
			play(40 * 24 * time.Hour)
			sees("at last", id(state.DSKeys()[0]), "[  VALID  ]")
			return
		}
	}
	t.Fatal("no key is revoked")
}
