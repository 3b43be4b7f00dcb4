package sign

// move makes one move that is allowed and says whether it did.
func (st *stepper) move() bool {
	for i := range st.s.Keys {
		k := &st.s.Keys[i]
		if k.Retired && st.wanted && (st.stopSigning(k) || st.withdraw(k)) {
			return true
		}
		if !k.Retired && (st.publish(k) || st.startSigning(k)) {
			return true
		}
	}
	return false
}

// covered says whether whoever has any data of the zone has a signature of
// the algorithm with it whose key is in the DNSKEY set, or is about to be: of
// one key, or of one of two that change places.
func (s *State) covered(algorithm uint8) bool {
	in, out := false, false
	for i := range s.Keys {
		k := &s.Keys[i]
		if k.Algorithm != algorithm || k.Retired && !k.DNSKEY.published() {
			continue
		}
		switch k.RRSIG.State {
		case Omnipresent:
			return true
		case Rumoured:
			in = true
		case Unretentive:
			out = true
		}
	}
	return in && out
}

// publish puts a key into the DNSKEY set. A key of a new algorithm waits for
// the algorithm's signatures: a validator may ask for them as soon as it sees
// the key (RFC 6781 section 4.1.4).
func (st *stepper) publish(k *Key) bool {
	if k.DNSKEY.State != Hidden || !st.fresh && st.s.secure() && !st.s.covered(k.Algorithm) {
		return false
	}
	st.enter(&k.DNSKEY, Rumoured, st.keyWait())
	st.note(k, "published")
	return true
}

// startSigning begins to sign the zone with a key. Where another of its
// algorithm signs, the key must be in all caches first, and takes that one's
// place (RFC 7583 section 3.2.1); the first of its algorithm signs at once.
func (st *stepper) startSigning(k *Key) bool {
	if !k.Role.signsZone() || k.RRSIG.State != Hidden {
		return false
	}
	var others []*Key
	for i := range st.s.Keys {
		if o := &st.s.Keys[i]; o != k && o.Algorithm == k.Algorithm && o.RRSIG.published() && o.DNSKEY.published() {
			others = append(others, o)
		}
	}
	if len(others) > 0 {
		if k.DNSKEY.State != Omnipresent {
			return false
		}
		for _, o := range others {
			if o.RRSIG.State != Omnipresent {
				return false
			}
		}
	}
	st.enter(&k.RRSIG, Rumoured, st.sigWait())
	st.note(k, "signs the zone")
	for _, o := range others {
		if o.Retired {
			st.enter(&o.RRSIG, Unretentive, st.sigWait())
			st.note(o, "signs the zone no longer")
		}
	}
	return true
}

// leaving says whether the key's algorithm is on its way out as a whole.
func (st *stepper) leaving(k *Key) bool {
	return !st.s.has(func(o *Key) bool { return !o.Retired && o.Algorithm == k.Algorithm })
}

// stopSigning ends the signatures of a key that is in no cache any more,
// once nothing in a cache asks for a signature of its algorithm: no key of it
// is in any cache, or another signs for those that are.
func (st *stepper) stopSigning(k *Key) bool {
	if !k.RRSIG.published() || k.DNSKEY.State != Hidden {
		return false
	}
	asked := st.s.has(func(o *Key) bool { return o.Algorithm == k.Algorithm && o.DNSKEY.State != Hidden })
	signs := func(o *Key) bool { return o != k && o.RRSIG.State == Omnipresent && o.DNSKEY.State == Omnipresent }
	if !st.s.has(func(o *Key) bool { return signs(o) && (!asked || o.Algorithm == k.Algorithm) }) {
		return false
	}
	st.enter(&k.RRSIG, Unretentive, st.sigWait())
	st.note(k, "signs the zone no longer")
	return true
}

// withdraw takes a key out of the DNSKEY set once nothing in any cache needs
// it, where keys are trust anchors by way of revoking it.
func (st *stepper) withdraw(k *Key) bool {
	if !k.DNSKEY.published() || !st.dispensable(k) {
		return false
	}
	if did, wait := st.revoke(k); wait {
		return did
	}
	st.enter(&k.DNSKEY, Unretentive, st.keyWait())
	st.note(k, "withdrawn")
	return true
}

// dispensable says whether a retired key may leave the DNSKEY set.
func (st *stepper) dispensable(k *Key) bool {
	if k.DS.State != Hidden {
		return false
	}
	// The chain from the parent goes through a key that stays.
	if k.Role.secure() || st.leaving(k) {
		chained := func(o *Key) bool {
			if o.Retired || !o.Role.secure() || !st.succeeds(o, k) {
				return false
			}
			return o.DS.State == Omnipresent || !st.s.secure() && o.DNSKEY.State == Omnipresent
		}
		if !st.s.has(chained) {
			return false
		}
	}
	if st.leaving(k) { // its signatures go after it; all DS of the algorithm before
		if k.RRSIG.published() && st.s.has(func(o *Key) bool { return o != k && o.Algorithm == k.Algorithm && st.lingers(o) }) {
			return false
		}
		return !st.s.has(func(o *Key) bool { return o.Algorithm == k.Algorithm && o.DS.State != Hidden })
	}
	return k.RRSIG.State == Hidden
}

// DSKeys are the keys that the parent's DS set should point to: those of the
// keys to stay that are in all caches, with their algorithm's signatures;
// before there is such a key, whatever the parent points to already.
func (s *State) DSKeys() []*Key {
	var ready, present []*Key
	for i := range s.Keys {
		k := &s.Keys[i]
		if !k.Role.secure() {
			continue
		}
		if !k.Retired && k.DNSKEY.State == Omnipresent && s.covered(k.Algorithm) {
			ready = append(ready, k)
		}
		if k.DS.published() {
			present = append(present, k)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return present
}

// Published are the keys of the DNSKEY set.
func (s *State) Published() []*Key {
	return s.pick(func(k *Key) bool { return k.DNSKEY.published() })
}

// Signing are the keys that sign the zone's data.
func (s *State) Signing() []*Key {
	return s.pick(func(k *Key) bool { return k.RRSIG.published() })
}

func (s *State) pick(f func(*Key) bool) []*Key {
	var out []*Key
	for i := range s.Keys {
		if f(&s.Keys[i]) {
			out = append(out, &s.Keys[i])
		}
	}
	return out
}
