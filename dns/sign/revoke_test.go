package sign

import (
	"slices"
	"testing"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// follower is a validator that follows a zone's keys (RFC 5011 section 4), by
// public key.
type follower struct {
	valid   map[string]bool
	pending map[string]time.Time // seen first
	revoked map[string]time.Time // seen first as revoked
	gone    map[string]time.Time // seen last as revoked
}

// look takes in a DNSKEY set, of which every KSK signs it, and says whether it
// is validated.
func (f *follower) look(set []*Key, now time.Time) bool {
	trusted := slices.ContainsFunc(set, func(k *Key) bool { return k.Role.secure() && k.Revoked.IsZero() && f.valid[string(k.Public)] })
	if !trusted {
		return false
	}
	seen := map[string]bool{}
	for _, k := range set {
		id := string(k.Public)
		if !k.Role.secure() {
			continue
		}
		seen[id] = true
		switch {
		case !k.Revoked.IsZero():
			if f.revoked[id].IsZero() {
				f.revoked[id] = now
			}
			f.gone[id] = now
			delete(f.valid, id)
			delete(f.pending, id)
		case f.valid[id]:
		case f.pending[id].IsZero():
			f.pending[id] = now
		case !now.Before(f.pending[id].Add(30 * day)):
			f.valid[id] = true
			delete(f.pending, id)
		}
	}
	for id := range f.pending { // not in every set: the time begins anew
		if !seen[id] {
			delete(f.pending, id)
		}
	}
	return true
}

// RFC 5011 §2.1: a key that is rolled is shown with the REVOKE bit, and signs the DNSKEY set as such.
// RFC 5011 §2.4.1: the old key stays until validators have seen the new one for the add hold-down time.
// RFC 5011 §6.3: the revoked key is in the set for the remove hold-down time, and goes then.
func TestRFC5011FollowersNeverFail(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		w := newWorld(t, policy(t, func(p *fleet.DNSSECPolicy) {
			lifetimes(60*day, 100*day)(p)
			p.Revoke, p.SingleKey, p.TTL = true, single, fleet.Duration(day)
		}))
		w.days(10)
		f := &follower{valid: map[string]bool{string(w.state.DSKeys()[0].Public): true},
			pending: map[string]time.Time{}, revoked: map[string]time.Time{}, gone: map[string]time.Time{}}
		for end := w.now.Add(270 * day); w.now.Before(end); {
			w.days(0.5)
			if !f.look(w.state.Published(), w.now) {
				w.fail("single key %v: none of a follower's anchors signs the DNSKEY set", single)
			}
		}
		if len(f.revoked) < 2 {
			t.Errorf("single key %v: only %d keys were revoked", single, len(f.revoked))
		}
		for id, first := range f.revoked {
			if shown := f.gone[id].Sub(first); shown < 29*day+12*time.Hour && f.gone[id].Before(w.now) {
				t.Errorf("a key was shown as revoked for %s", shown)
			}
		}
	}
}

// RFC 5011 §2.1: the REVOKE bit changes the key's tag, and the self-signature is by that tag.
// RFC 5011 §2.1: a revoked key is used for nothing else: no CDS points to it.
func TestRFC5011RevokedKeyIsSigned(t *testing.T) {
	t.Parallel()
	for _, alg := range []fleet.DNSSECAlgorithm{fleet.ECDSAP256, fleet.Ed25519} {
		p := policy(t, func(p *fleet.DNSSECPolicy) { p.Revoke, p.Algorithm = true, alg; lifetimes(0, 0)(p) })
		w := newWorld(t, p)
		w.days(10)
		if err := w.state.Ask(KSK); err != nil {
			t.Fatal(err)
		}
		w.days(35)
		at := slices.IndexFunc(w.state.Keys, func(k Key) bool { return !k.Revoked.IsZero() })
		if at < 0 {
			t.Fatalf("no key is revoked: %v", w.log)
		}
		k := &w.state.Keys[at]
		if plain, revoked := k.tags(); k.Tag() != revoked || plain == revoked || k.flags() != 385 {
			t.Errorf("tag %d of %d and %d, flags %d", k.Tag(), plain, revoked, k.flags())
		}
		enc, err := w.state.Encode()
		if err != nil {
			t.Fatal(err)
		}
		state, err := DecodeState(enc)
		if err != nil {
			t.Fatal(err)
		}
		z, _ := signed(t, everything, p, func(o *Options) { o.State, o.Now = state, time.Now() })
		set := z.Apex().Get(zone.TypeDNSKEY)
		self := false
		for sig := range each(set.Sigs) {
			self = self || int(sig[16])<<8|int(sig[17]) == int(k.Tag())
		}
		if !self || set.Count != 3 {
			t.Errorf("%d keys, self-signed: %v", set.Count, self)
		}
		if cds := z.Apex().Get(zone.TypeCDS); cds == nil || cds.Count != 1 {
			t.Errorf("CDS: %v", cds)
		}
		verifyByPeers(t, z, p)
		files := Export("example.test.", k, 3600)
		if _, err := Import("example.test.", files, "", now); err == nil {
			t.Error("a revoked key was imported as one to use")
		}
		state.Unpublished(nil, w.now)
		if got := state.Keys[at].Revoked; !got.Equal(w.now) {
			t.Errorf("not published yet, and its time counts from %s", got)
		}
	}
}
