package sign

import (
	"crypto/sha1" //nolint:gosec // parents may have DS of digest type 1
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Facts are what a step of the keys depends on besides policy and time.
type Facts struct {
	Parent *ParentDS // nil: not asked, or no answer
	MaxTTL uint32    // greatest TTL of the zone's content, its negative TTL among them
}

// ParentDS is what the parent's nameservers say of a zone's DS.
type ParentDS struct {
	All []DS   `json:"all"` // that every server has
	Any []DS   `json:"any"` // that some server has
	TTL uint32 `json:"ttl"` // the greatest seen
}

// Event is something that happened to a key, for the log.
type Event struct {
	Key  string // role, tag and algorithm; empty for the zone itself
	What string
}

// Step moves the keys of a zone as far as policy, time and facts allow, and
// says when to step again at the latest; and whenever the parent was asked,
// which is due after CheckEvery. The caller publishes what the new
// state says before it steps again. policy nil means that the zone is not to
// be signed.
//
// Each key has up to three parts that others cache: the key in the DNSKEY set
// (and its signature there, which travels with the set), its signatures over
// the zone, and the DS at the parent. A part that is published becomes
// omnipresent, and one that is withdrawn hidden, when the caches that hold
// what was before have expired (RFC 7583 section 3). Every roll-over is made
// of these moves, each allowed only where a validator that holds any mix of
// old and new still finds a path, by each algorithm that it may expect (RFC
// 4035 section 2.2):
//
//   - ZSK: pre-publication (RFC 7583 section 3.2.1).
//   - KSK: double signature, the DS exchanged once the new key is in all
//     caches (RFC 7583 section 3.3.1), and the old key withdrawn once the
//     parent's servers have had the new DS for its TTL.
//   - CSK: both at once.
//   - Where keys are trust anchors, a KSK or CSK that is not needed any more is
//     shown as revoked before it goes (RFC 5011 section 6.3).
//   - Algorithm: conservative (RFC 6781 section 4.1.4): signatures, then keys,
//     then DS; and out again in reverse.
func Step(s State, name fleet.Name, policy *fleet.DNSSECPolicy, now time.Time, f Facts, rand io.Reader) (State, []Event, time.Time, error) {
	now = now.UTC()
	st := &stepper{s: s, name: name, now: now, wanted: policy != nil}
	st.s.Keys = slices.Clone(s.Keys)
	st.s.Roll = slices.Clone(s.Roll)
	if st.policy = policy; policy == nil {
		if st.policy = s.Policy; st.policy == nil || len(s.Keys) == 0 {
			return State{}, nil, time.Time{}, nil
		}
	}
	st.fresh = !s.Signed()
	st.keyTTL = s.KeyTTL.greatest(seconds(st.policy.TTL), now)
	st.maxTTL = s.MaxTTL.greatest(f.MaxTTL, now)
	st.settle()
	st.facts(f.Parent)
	if st.wanted {
		if err := st.goals(rand); err != nil {
			return s, nil, now, err
		}
	} else if st.leave(f.Parent) {
		return State{}, st.events, time.Time{}, nil
	}
	for st.move() {
	}
	st.remove()
	out := &st.s
	propagation := st.policy.Propagation.D()
	out.KeyTTL = s.KeyTTL.after(seconds(st.policy.TTL), propagation, now)
	out.MaxTTL = s.MaxTTL.after(f.MaxTTL, propagation, now)
	out.Leave, out.New = !st.wanted, false
	if st.wanted {
		kept := *policy
		out.Policy = &kept
	}
	return *out, st.events, st.next(), nil
}

func seconds(d fleet.Duration) uint32 { return uint32(d.D() / time.Second) }

// stepper is one step in the making.
type stepper struct {
	s      State
	name   fleet.Name
	policy *fleet.DNSSECPolicy
	wanted bool // the zone is to be signed
	fresh  bool // it was not signed until now
	now    time.Time
	keyTTL uint32 // greatest that a DNSKEY set in a cache may have
	maxTTL uint32
	events []Event
}

func (st *stepper) note(k *Key, format string, args ...any) {
	e := Event{What: fmt.Sprintf(format, args...)}
	if k != nil {
		e.Key = k.String()
	}
	st.events = append(st.events, e)
}

// settle ends the states that only time ends.
func (st *stepper) settle() {
	for i := range st.s.Keys {
		k := &st.s.Keys[i]
		for _, p := range []*Phase{&k.DNSKEY, &k.RRSIG, &k.DS} {
			if st.now.Before(p.Until) {
				continue
			}
			switch p.State {
			case Rumoured:
				*p = Phase{State: Omnipresent, Since: st.now}
			case Unretentive:
				*p = Phase{State: Hidden, Since: st.now}
			}
		}
	}
}

// enter begins a state that lasts until caches have expired: what is a change
// of ours takes propagation and ttl.
func (st *stepper) enter(p *Phase, to PhaseState, wait time.Duration) {
	*p = Phase{State: to, Since: st.now, Until: st.now.Add(wait)}
}

func (st *stepper) keyWait() time.Duration {
	wait := st.keyTTL
	if st.fresh {
		wait = max(wait, st.maxTTL) // the absence of a DNSKEY set may be cached
	}
	return st.policy.Propagation.D() + time.Duration(wait)*time.Second
}

func (st *stepper) sigWait() time.Duration {
	return st.policy.Propagation.D() + time.Duration(st.maxTTL)*time.Second
}

// facts takes in what the parent's servers have, or the operator's word.
func (st *stepper) facts(parent *ParentDS) {
	var ttl uint32
	if parent != nil {
		st.s.Checks, st.s.Parent, ttl = st.now, parent.Any, parent.TTL
	}
	wait := max(st.policy.ParentTTL.D(), time.Duration(ttl)*time.Second)
	for i := range st.s.Keys {
		k := &st.s.Keys[i]
		if !k.Role.secure() || !k.Revoked.IsZero() {
			continue // a DS of a revoked key is worth nothing
		}
		word := st.s.Hand[k.Tag()]
		at := func(list []DS) bool {
			return slices.ContainsFunc(list, func(d DS) bool { return k.Matches(st.name, d) })
		}
		switch {
		case (parent != nil && at(parent.All) || word == SeenAtParent) && !k.DS.published():
			st.enter(&k.DS, Rumoured, wait)
			st.note(k, "the parent has its DS")
		case (parent != nil && !at(parent.Any) && word != SeenAtParent || word == GoneAtParent) && k.DS.published():
			st.enter(&k.DS, Unretentive, wait)
			st.note(k, "the parent no longer has its DS")
		}
	}
	if parent != nil {
		st.s.Hand = nil // the parent's own word counts
	}
}

// Matches says whether a DS at the parent is this key's, by any digest type
// that is in use.
func (k *Key) Matches(name fleet.Name, d DS) bool {
	if d.KeyTag != k.Tag() || d.Algorithm != k.Algorithm {
		return false
	}
	data := append(zone.Wire(name), k.RData()...)
	var sum []byte
	switch d.DigestType {
	case 1:
		h := sha1.Sum(data)
		sum = h[:]
	case 2:
		h := sha256.Sum256(data)
		sum = h[:]
	case 4:
		h := sha512.Sum384(data)
		sum = h[:]
	}
	return sum != nil && strings.EqualFold(hex.EncodeToString(sum), d.Digest)
}

// leave says whether the zone may be unsigned now: when no cache has a DS of
// it and the parent says that it has none (RFC 8078 section 4).
func (st *stepper) leave(parent *ParentDS) bool {
	if !st.s.Leave {
		st.note(nil, "to be unsigned: waiting for the parent's DS to go")
	}
	known := parent != nil && len(parent.Any) == 0
	for i := range st.s.Keys { // or the operator says so
		known = known || st.s.Hand[st.s.Keys[i].Tag()] == GoneAtParent
	}
	if !known || st.s.secure() {
		return false
	}
	st.note(nil, "unsigned: the parent has no DS, and no cache has one")
	return true
}

// next is when something may happen at the latest.
func (st *stepper) next() time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if t.After(st.now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for i := range st.s.Keys {
		k := &st.s.Keys[i]
		sooner(k.DNSKEY.Until)
		sooner(k.RRSIG.Until)
		sooner(k.DS.Until)
		if !k.Retired {
			if life := st.lifetime(k.Role); life > 0 {
				sooner(k.Created.Add(life))
			}
		}
		if !k.Revoked.IsZero() {
			sooner(st.shown(k))
		} else if st.policy.Revoke && k.Role.secure() && k.DNSKEY.State == Omnipresent {
			sooner(st.trusted(k))
		}
	}
	return next
}

// CheckEvery is how often to ask the parent for its DS: often while something
// waits for it, else daily.
func (s *State) CheckEvery() time.Duration {
	const daily = 24 * time.Hour
	if s.Policy == nil {
		return daily
	}
	if !s.Leave && !s.waits() {
		return daily
	}
	return min(max(s.Policy.ParentTTL.D()/24, time.Minute), time.Hour)
}

// waits says whether the parent's DS set is not the one that it is to be.
func (s *State) waits() bool {
	ready := s.DSKeys()
	return s.has(func(k *Key) bool {
		return k.Role.secure() && slices.Contains(ready, k) != k.DS.published()
	})
}

// remove forgets keys of which nothing is left.
func (st *stepper) remove() {
	st.s.Keys = slices.DeleteFunc(st.s.Keys, func(k Key) bool {
		gone := k.Retired && k.DNSKEY.State == Hidden && k.RRSIG.State == Hidden && k.DS.State == Hidden
		if gone {
			st.note(&k, "removed: no cache has anything of it")
		}
		return gone
	})
}
