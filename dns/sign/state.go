package sign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Phase is how far something has come in the world: caches included, which is
// why the states between take time.
type Phase struct {
	State PhaseState `json:"state,omitempty"`
	Since time.Time  `json:"since,omitzero"` // when the state began
	Until time.Time  `json:"until,omitzero"` // rumoured, unretentive: when it ends
}

// PhaseState is one of four states, as in RFC 7583's event diagrams.
type PhaseState string

// The states.
const (
	Hidden      PhaseState = ""            // no cache has it
	Rumoured    PhaseState = "rumoured"    // published; some caches have what was before
	Omnipresent PhaseState = "omnipresent" // whoever has anything has this
	Unretentive PhaseState = "unretentive" // withdrawn; some caches still have it
)

// published says whether what the phase is of is being published now.
func (p Phase) published() bool { return p.State == Rumoured || p.State == Omnipresent }

// State is all that is remembered of a zone's keys. The zero State is that of
// a zone that has never been signed.
type State struct {
	Keys   []Key                `json:"keys,omitempty"`
	Roll   []Role               `json:"roll,omitempty"`   // roll-overs asked for by hand and not yet begun
	KeyTTL Peak                 `json:"key_ttl"`          // of the DNSKEY set
	MaxTTL Peak                 `json:"max_ttl"`          // greatest in the zone
	Policy *fleet.DNSSECPolicy  `json:"policy,omitempty"` // that the zone was last signed by
	Leave  bool                 `json:"leave,omitempty"`  // being unsigned: waits for the parent's DS to go
	New    bool                 `json:"new,omitempty"`    // without keys: new ones are wanted, whatever the parent has
	Checks time.Time            `json:"checked,omitzero"` // when the parent was last asked
	Parent []DS                 `json:"parent,omitempty"` // what it said
	Hand   map[uint16]HandCheck `json:"hand,omitempty"`   // what the operator says of the parent's DS, by key tag
}

// Peak is the greatest TTL, in seconds, that something in a cache may have: a
// TTL that was lowered counts until what was cached with it has expired.
type Peak struct {
	TTL   uint32    `json:"ttl"` // as last published
	Held  uint32    `json:"held,omitempty"`
	Until time.Time `json:"until,omitzero"` // of Held
}

// greatest gives the greatest TTL in any cache when next is about to be
// published.
func (p Peak) greatest(next uint32, now time.Time) uint32 {
	if now.Before(p.Until) {
		next = max(next, p.Held)
	}
	return max(next, p.TTL)
}

// after is the Peak once next is published.
func (p Peak) after(next uint32, propagation time.Duration, now time.Time) Peak {
	out := Peak{TTL: next}
	if now.Before(p.Until) {
		out.Held, out.Until = p.Held, p.Until
	}
	if until := now.Add(propagation + time.Duration(p.TTL)*time.Second); p.TTL > next {
		out.Held = max(out.Held, p.TTL)
		if until.After(out.Until) {
			out.Until = until
		}
	}
	return out
}

// HandCheck is what an operator says of a DS at a parent that cannot be asked.
type HandCheck string

// The two things to say.
const (
	SeenAtParent HandCheck = "seen"
	GoneAtParent HandCheck = "gone"
)

// stateVersion is the form of an encoded State.
const stateVersion = 1

type encodedState struct {
	Version int `json:"version"`
	State
}

// Encode writes the state, private keys in the clear: whoever stores it seals
// it.
func (s *State) Encode() ([]byte, error) {
	b, err := json.Marshal(encodedState{stateVersion, *s})
	if err != nil {
		return nil, fmt.Errorf("key state: %w", err)
	}
	return b, nil
}

// DecodeState reads what Encode wrote and checks that each private key is its
// public key's.
func DecodeState(b []byte) (*State, error) {
	var e encodedState
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("key state: %w", err)
	}
	if e.Version != stateVersion {
		return nil, fmt.Errorf("key state: is of version %d, and this program reads version %d", e.Version, stateVersion)
	}
	s := &e.State
	for i := range s.Keys {
		if err := s.Keys[i].check(); err != nil {
			return nil, fmt.Errorf("key state: key %d: %w", i, err)
		}
		if tagUsed(&s.Keys[i], s.Keys[:i]) {
			return nil, fmt.Errorf("key state: key tag %d occurs twice", s.Keys[i].Tag())
		}
	}
	for _, r := range s.Roll {
		if _, err := ParseRole(string(r)); err != nil {
			return nil, fmt.Errorf("key state: roll: %w", err)
		}
	}
	return s, nil
}

func (k *Key) check() error {
	if _, err := ParseRole(string(k.Role)); err != nil {
		return err
	}
	made, err := KeyFrom(k.Role, k.Algorithm, k.Private, k.Created)
	if err != nil {
		return err
	}
	if !bytes.Equal(made.Public, k.Public) {
		return errors.New("the private key is not the public key's")
	}
	for _, p := range []Phase{k.DNSKEY, k.RRSIG, k.DS} {
		if !slices.Contains([]PhaseState{Hidden, Rumoured, Omnipresent, Unretentive}, p.State) {
			return fmt.Errorf("unknown state %q", p.State)
		}
	}
	return nil
}

// Signed says whether the zone is to be published signed.
func (s *State) Signed() bool {
	return slices.ContainsFunc(s.Keys, func(k Key) bool { return k.DNSKEY.published() || k.RRSIG.published() })
}

// secure says whether a validator may know the zone as a signed one: any DS
// of it may be in a cache, or the parent has never been asked.
func (s *State) secure() bool {
	return s.Checks.IsZero() && len(s.Hand) == 0 || s.has(func(k *Key) bool { return k.DS.State != Hidden })
}

// has says whether a key fulfils f.
func (s *State) has(f func(k *Key) bool) bool {
	for i := range s.Keys {
		if f(&s.Keys[i]) {
			return true
		}
	}
	return false
}

// Unpublished begins anew what old, the zone as it is published, does not show
// yet: time counts from when a change is published, not from when it was
// decided. old is nil where nothing is published.
func (s *State) Unpublished(old *zone.Zone, now time.Time) {
	now = now.UTC()
	s.Keys = slices.Clone(s.Keys)
	var soa, keys *zone.RRset
	if old != nil {
		soa, keys = old.Apex().Get(zone.TypeSOA), old.Apex().Get(zone.TypeDNSKEY)
	}
	for i := range s.Keys {
		k := &s.Keys[i]
		inSet, signs := false, false
		if keys != nil {
			for rdata := range each(keys.Data) {
				inSet = inSet || bytes.Equal(rdata, k.RData())
			}
		}
		if soa != nil {
			for sig := range each(soa.Sigs) {
				signs = signs || sig[2] == k.Algorithm && int(sig[16])<<8|int(sig[17]) == int(k.Tag())
			}
		}
		k.DNSKEY.restart(inSet, now)
		if !k.Revoked.IsZero() && k.DNSKEY.published() && !inSet {
			k.Revoked = now
		}
		k.RRSIG.restart(signs, now)
	}
}

// restart begins a phase anew where what it is of is not as it says.
func (p *Phase) restart(there bool, now time.Time) {
	if p.State == Rumoured && !there || p.State == Unretentive && there {
		p.Since, p.Until = now, now.Add(p.Until.Sub(p.Since))
	}
}
