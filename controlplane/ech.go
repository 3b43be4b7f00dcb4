package controlplane

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"meridian/fleet"
)

// Encrypted Client Hello (RFC 9849): the leader makes keys, has every gateway
// hold a new one before any record names it, has the zones signed with it
// before any nameserver serves it, and lets go of an old one only when no
// resolver can have a record with it.

const (
	echFirst = time.Second      // between looks before there is a World
	echLook  = 10 * time.Second // at most between looks
	// echWait bounds the wait for acknowledgements. A gateway that lacks a key
	// has clients try again with one that it holds (section 6.1.6), so that one
	// that hangs does not keep all others on one key for ever.
	echWait = time.Minute
)

var (
	echKeysID = fleet.LiveID(fleet.LiveECHKeys, "fleet")
	echListID = fleet.LiveID(fleet.LiveECHList, "fleet")
)

// echConfig gives the ECHConfig of an X25519 key (RFC 9849 section 4), whose
// public name is at most 255 octets long.
func echConfig(id uint8, public []byte, name string) []byte {
	const (
		version          = 0xfe0d
		kemX25519SHA256  = 0x0020 // RFC 9180 section 7
		kdfHKDFSHA256    = 0x0001
		aeadAES128GCM    = 0x0001
		aeadChaCha20     = 0x0003
		suites           = 2 * 4 // octets
		longestNameShown = 0     // clients choose how to pad
	)
	u16 := binary.BigEndian.AppendUint16
	body := u16([]byte{id}, kemX25519SHA256)
	body = append(u16(body, uint16(len(public))), public...)
	body = u16(u16(u16(body, suites), kdfHKDFSHA256), aeadAES128GCM)
	body = u16(u16(body, kdfHKDFSHA256), aeadChaCha20)
	body = append(body, longestNameShown, byte(len(name)))
	body = append(body, name...)
	body = u16(body, 0) // extensions
	return append(u16(u16(nil, version), uint16(len(body))), body...)
}

// echList gives the ECHConfigList of one ECHConfig.
func echList(config []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
}

// newECHKey draws a key pair with an id that none of the present ones has.
func newECHKey(name string, had []fleet.ECHKey, now time.Time) (fleet.ECHKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return fleet.ECHKey{}, fmt.Errorf("key of Encrypted Client Hello: %w", err)
	}
	const idAt = 4 // version and length go before
	id := uint8(0)
	if len(had) > 0 {
		id = had[0].Config[idAt] + 1
	}
	return fleet.ECHKey{Config: echConfig(id, key.PublicKey().Bytes(), name), Private: key.Bytes(), Made: now}, nil
}

// echState is what is stored.
type echState struct {
	keys  []fleet.ECHKey
	lists fleet.ECHLists
	has   bool                  // anything is stored
	at    map[fleet.Name]string // versions of what is
}

func echOf(w *fleet.World) (echState, error) {
	s := echState{at: map[fleet.Name]string{}}
	for _, id := range []fleet.Name{echKeysID, echListID} {
		o, _ := w.Live.Get(id)
		s.at[id] = o.Version
	}
	var keys fleet.ECHKeys
	if o, ok := w.Live.Get(echKeysID); ok {
		s.has = true
		if err := json.Unmarshal(o.Data, &keys); err != nil {
			return s, fmt.Errorf("keys of Encrypted Client Hello: %w", err)
		}
	}
	if o, ok := w.Live.Get(echListID); ok {
		s.has = true
		if err := json.Unmarshal(o.Data, &s.lists); err != nil {
			return s, fmt.Errorf("list of keys of Encrypted Client Hello: %w", err)
		}
	}
	s.keys = keys.Keys
	return s, nil
}

// echTTL is how long resolvers may keep a record that names a key.
func echTTL(spec *fleet.Spec) time.Duration {
	ttl := spec.DNS.TTL.Steered.D()
	for i := range spec.Zones {
		for _, st := range spec.Zones[i].Steered {
			if st.HTTPS != nil {
				ttl = max(ttl, st.TTL.D())
			}
		}
	}
	return ttl
}

// stale says whether the newest key is to be replaced: it is old enough, or has
// another public name, or was not brought into the records.
func (s *echState) stale(e *fleet.ECH, now time.Time) bool {
	if len(s.keys) == 0 || s.lists.Next != nil {
		return true
	}
	newest := s.keys[0]
	return !s.publicly(e) || !now.Before(newest.Made.Add(e.Rotate.D())) || string(s.lists.Now) != string(echList(newest.Config))
}

// withNew gives the keys with a new one before them, which may have been drawn
// by a rotation that did not come to its end.
func (s *echState) withNew(e *fleet.ECH, now time.Time) ([]fleet.ECHKey, error) {
	if len(s.keys) > 0 {
		k := s.keys[0]
		begun := k.Retired.IsZero() && string(s.lists.Now) != string(echList(k.Config)) && now.Before(k.Made.Add(e.Rotate.D()))
		if begun && s.publicly(e) {
			return slices.Clone(s.keys), nil
		}
	}
	key, err := newECHKey(e.PublicName, s.keys, now)
	return append([]fleet.ECHKey{key}, s.keys...), err
}

// publicly says whether the newest key has the Spec's public name.
func (s *echState) publicly(e *fleet.ECH) bool {
	const idAt, publicAt, size = 4, 9, 32
	c := s.keys[0].Config
	return len(c) > publicAt+size && string(c) == string(echConfig(c[idAt], c[publicAt:publicAt+size], e.PublicName))
}

// kept gives the keys that some record may still name.
func (s *echState) kept(now time.Time, keep time.Duration) []fleet.ECHKey {
	return slices.DeleteFunc(slices.Clone(s.keys), func(k fleet.ECHKey) bool {
		return !k.Retired.IsZero() && now.After(k.Retired.Add(keep))
	})
}

// keepECH is the leader's work on keys of Encrypted Client Hello.
func (c *ControlPlane) keepECH(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		next := echFirst
		if w := c.Current(); w != nil {
			var err error
			if next, err = c.turnECH(ctx, w, time.Now()); err != nil && ctx.Err() == nil {
				if !failing {
					c.log.Error("keys of Encrypted Client Hello are not changed; those that there are stay", "error", err)
				}
				next = echFirst
			}
			failing = err != nil
		}
		changed := c.Changed()
		select {
		case <-ctx.Done():
		case <-time.After(next):
		case <-changed: // the Spec, it may be
			sleep(ctx, min(next, echFirst/10))
		}
	}
}

// turnECH does what is due, and says when to look again.
func (c *ControlPlane) turnECH(ctx context.Context, w *fleet.World, now time.Time) (time.Duration, error) {
	s, err := echOf(w)
	if err != nil {
		s = echState{has: true, at: s.at} // made anew
	}
	e := w.Snapshot.Spec.ECH
	if e != nil && c.cfg.RotateECH != 0 {
		sooner := *e
		sooner.Rotate = fleet.Duration(c.cfg.RotateECH)
		e = &sooner
	}
	switch {
	case e == nil && !s.has:
		return echLook, nil
	case e == nil:
		return echLook, c.endECH(ctx, s, now)
	case s.stale(e, now):
		return 0, c.rotateECH(ctx, e, s, now)
	}
	if kept := s.kept(now, echTTL(w.Snapshot.Spec)+e.Keep.D()); len(kept) < len(s.keys) {
		return 0, s.store(ctx, c, echKeysID, fleet.ECHKeys{Keys: kept})
	}
	return min(s.keys[0].Made.Add(e.Rotate.D()).Sub(now), echLook), nil
}

// store puts one of the two objects in place of what is known of it: a replica
// that led before and does not know yet that it no longer does changes nothing.
func (s *echState) store(ctx context.Context, c *ControlPlane, id fleet.Name, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	versions, err := c.putLive(ctx, map[fleet.Name][]byte{id: data}, func(id fleet.Name) string { return s.at[id] })
	if err == nil {
		s.at[id] = versions[id]
	}
	return err
}

// rotateECH brings a new key into use.
func (c *ControlPlane) rotateECH(ctx context.Context, e *fleet.ECH, s echState, now time.Time) error {
	keys, err := s.withNew(e, now)
	if err != nil {
		return err
	}
	list := echList(keys[0].Config)
	// First the gateways hold it,
	if err := s.store(ctx, c, echKeysID, fleet.ECHKeys{Keys: keys}); err != nil {
		return err
	}
	c.awaitECH(ctx, fleet.RoleL7, echKeysID, s.at[echKeysID])
	// then the zones are signed with the records that name it,
	if err := s.store(ctx, c, echListID, fleet.ECHLists{Now: s.lists.Now, Next: list}); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, echWait)
	defer cancel()
	if err := c.AwaitDerived(limited, map[fleet.Name]string{echListID: s.at[echListID]}); err != nil {
		return err
	}
	// then these are served,
	if err := s.store(ctx, c, echListID, fleet.ECHLists{Now: list}); err != nil {
		return err
	}
	c.awaitECH(ctx, fleet.RoleDNS, echListID, s.at[echListID])
	// and from now on the others run out.
	served := time.Now()
	for i := range keys[1:] {
		if keys[i+1].Retired.IsZero() {
			keys[i+1].Retired = served
		}
	}
	return errors.Join(ctx.Err(), s.store(ctx, c, echKeysID, fleet.ECHKeys{Keys: keys}))
}

// awaitECH waits for nodes to acknowledge, for a while.
func (c *ControlPlane) awaitECH(ctx context.Context, role fleet.Role, id fleet.Name, version string) {
	limited, cancel := context.WithTimeout(ctx, echWait)
	defer cancel()
	if err := c.AwaitNodes(limited, role, id, version); err != nil && ctx.Err() == nil {
		c.log.Warn("keys of Encrypted Client Hello go on without a node", "error", err)
	}
}

// endECH takes the keys out of the records, and lets go of them once no
// resolver can have them.
func (c *ControlPlane) endECH(ctx context.Context, s echState, now time.Time) error {
	const keep = 48 * time.Hour // the Spec's own word for it has gone with the rest
	if s.lists.Now != nil || s.lists.Next != nil {
		for i := range s.keys {
			if s.keys[i].Retired.IsZero() {
				s.keys[i].Retired = now
			}
		}
		return errors.Join(s.store(ctx, c, echListID, fleet.ECHLists{}), s.store(ctx, c, echKeysID, fleet.ECHKeys{Keys: s.keys}))
	}
	if len(s.kept(now, keep)) > 0 {
		return nil
	}
	_, err := c.PutLive(ctx, map[fleet.Name][]byte{echKeysID: nil, echListID: nil})
	return err
}
