package sign

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// goals decides which keys there are to be: those that the policy asks for,
// new ones in place of what has come to its age or is to be rolled.
func (st *stepper) goals(rand io.Reader) error {
	alg := AlgorithmNumber(st.policy.Algorithm)
	roles := []Role{KSK, ZSK}
	if st.policy.SingleKey {
		roles = []Role{CSK}
	}
	fits := func(k *Key) bool { return !k.Retired && k.Algorithm == alg && slices.Contains(roles, k.Role) }
	for _, role := range roles {
		var current *Key
		for i := range st.s.Keys {
			if k := &st.s.Keys[i]; fits(k) && k.Role == role {
				current = k
			}
		}
		why := ""
		switch {
		case current == nil && len(st.s.Keys) == 0:
			why = "made for a zone that has none"
		case current == nil:
			why = "made as the policy asks"
		default:
			why = st.due(current)
		}
		if why == "" {
			continue
		}
		k, err := NewKey(role, alg, st.now, rand, st.s.Keys)
		if err != nil {
			return err
		}
		st.retire(role)
		st.s.Keys = append(st.s.Keys, k)
		st.s.Roll = slices.DeleteFunc(st.s.Roll, func(r Role) bool { return r == role })
		st.note(&k, "%s", why)
	}
	st.s.Roll = slices.DeleteFunc(st.s.Roll, func(r Role) bool { return !slices.Contains(roles, r) })
	for i := range st.s.Keys {
		if k := &st.s.Keys[i]; !k.Retired && !fits(k) {
			k.Retired = true
			st.note(k, "retired: the policy asks for another kind of key")
		}
	}
	return nil
}

// retire puts all keys of a role on their way out.
func (st *stepper) retire(role Role) {
	for i := range st.s.Keys {
		if k := &st.s.Keys[i]; k.Role == role && !k.Retired {
			k.Retired = true
			st.note(k, "retired: another takes its place")
		}
	}
}

// due says why a key is to be rolled now, or "". One roll-over of a role is
// finished before the next begins, and a key is in full use before it is
// rolled.
func (st *stepper) due(k *Key) string {
	if st.s.has(func(o *Key) bool { return o.Retired && (o.Role == k.Role || o.Algorithm != k.Algorithm) }) {
		return ""
	}
	if k.DNSKEY.State != Omnipresent || k.Role.signsZone() && k.RRSIG.State != Omnipresent {
		return ""
	}
	if slices.Contains(st.s.Roll, k.Role) && (!k.Role.secure() || !st.s.secure() || k.DS.State == Omnipresent) {
		return "made to roll by hand"
	}
	life := st.lifetime(k.Role)
	if life == 0 || st.now.Before(k.Created.Add(life)) || k.Role.secure() && k.DS.State != Omnipresent {
		return ""
	}
	return fmt.Sprintf("made in place of one that is %s old", st.now.Sub(k.Created).Round(time.Second))
}

func (st *stepper) lifetime(r Role) time.Duration {
	p := st.policy.KSKLifetime
	if r == ZSK {
		p = st.policy.ZSKLifetime
	}
	if p == nil {
		return 0
	}
	return p.D()
}

// Ask notes that keys of a role are to be rolled by hand; the roll-over begins
// with the next Step that may begin one.
func (s *State) Ask(r Role) error {
	if !s.has(func(k *Key) bool { return k.Role == r && !k.Retired }) {
		return fmt.Errorf("the zone has no %s", r)
	}
	if !slices.Contains(s.Roll, r) {
		s.Roll = append(slices.Clone(s.Roll), r)
	}
	return nil
}

// Import takes in keys that were made elsewhere. In a zone without keys they
// are taken to be in use already: published, signing, and known to the parent.
// In one that has keys they take the place of those of their roles by a
// roll-over.
func (s *State) Import(keys []Key, now time.Time) error {
	out := slices.Clone(s.Keys)
	fresh := len(out) == 0
	for _, k := range keys {
		if slices.ContainsFunc(out, func(o Key) bool { return o.Algorithm == k.Algorithm && string(o.Public) == string(k.Public) }) {
			return fmt.Errorf("key %s: the zone has it already", k)
		}
		if tagUsed(&k, out) {
			return fmt.Errorf("key %s: another key of the zone has that tag", k)
		}
		k.Retired, k.DNSKEY, k.RRSIG, k.DS = false, Phase{}, Phase{}, Phase{}
		if fresh {
			in := Phase{State: Omnipresent, Since: now.UTC()}
			k.DNSKEY = in
			if k.Role.signsZone() {
				k.RRSIG = in
			}
			if k.Role.secure() {
				k.DS = in
			}
		} else {
			for i := range out {
				if o := &out[i]; o.Role == k.Role && !slices.ContainsFunc(keys, func(n Key) bool { return string(n.Public) == string(o.Public) }) {
					o.Retired = true
				}
			}
		}
		out = append(out, k)
	}
	s.Keys = out
	return nil
}
