package transfer

import (
	"hash/maphash"
	"sync"

	"meridian/dns/zone"
	"meridian/fleet"
)

// versions knows the last version of each zone that may be transferred or is
// told to secondaries, and keeps the journals.
type versions struct {
	seed  maphash.Seed
	locks [64]sync.Mutex // by zone: held while its version is brought up to date
	mu    sync.Mutex     // guards zones
	zones map[fleet.Name]*version
}

// version is the last version of one zone. Its zone's lock guards it.
type version struct {
	zone    *zone.Zone
	digest  uint64
	journal *journal // nil where nobody may transfer the zone
	seen    bool     // told is set
	told    uint32   // serial that current gave last
}

func (v *versions) init() {
	v.seed, v.zones = maphash.MakeSeed(), map[fleet.Name]*version{}
}

func (v *versions) lock(name fleet.Name) *sync.Mutex {
	return &v.locks[maphash.String(v.seed, string(name))%uint64(len(v.locks))]
}

func (v *versions) get(name fleet.Name) *version {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.zones[name]
}

func (v *versions) set(name fleet.Name, x *version) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if x == nil {
		delete(v.zones, name)
	} else {
		v.zones[name] = x
	}
}

// current gives the version of a zone that transfers show, with its journal up
// to date; nil where the zone has no content or nobody may know it. fresh says
// that it is another than the last time that current was called.
func (t *Transfer) current(name fleet.Name, p *policy) (z *zone.Zone, fresh bool, err error) {
	lock := t.versions.lock(name)
	lock.Lock()
	defer lock.Unlock()
	z, err = t.currentLocked(name, p)
	if v := t.versions.get(name); z != nil && v != nil {
		fresh = !v.seen || v.told != z.Serial
		v.seen, v.told = true, z.Serial
	}
	return z, fresh, err
}

func (t *Transfer) currentLocked(name fleet.Name, p *policy) (*zone.Zone, error) {
	if p == nil || len(p.access)+len(p.notify)+len(p.primaries) == 0 && p.Catalog == nil {
		t.versions.set(name, nil)
		return nil, nil
	}
	z := t.cfg.Zones.Static(name)
	if z == nil { // expired, or gone: its history stays until it is told that the zone is no more
		return nil, nil
	}
	v := t.versions.get(name)
	if v == nil {
		v = &version{}
		t.versions.set(name, v)
	}
	if len(p.access) == 0 {
		v.zone, v.journal = z, nil
		return z, nil
	}
	if v.zone == z && v.journal != nil {
		return z, nil
	}
	return z, t.advance(v, z)
}

// advance notes a version in the journal.
func (t *Transfer) advance(v *version, z *zone.Zone) error {
	old := v.zone
	v.zone = z
	if v.journal == nil {
		var err error
		if v.journal, err = openJournal(t.disk.journal(z.Name)); err != nil {
			t.log.Warn("the journal begins anew", "zone", z.Name, "err", err)
			v.journal, _ = openJournal("") // memory does not fail
		}
		v.digest = digest(z)
		return v.journal.rewind(z.Serial, v.digest)
	}
	s := between(old, z, v.digest)
	v.digest = s.digest
	switch {
	case len(s.changes) == 0:
		return nil
	case !newer(z.Serial, old.Serial):
		t.log.Warn("the zone has changed and its serial has not grown: its history ends", "zone", z.Name, "serial", z.Serial, "before", old.Serial)
		return v.journal.reset()
	}
	return v.journal.add(s, t.journalLimit(z))
}

// journalLimit bounds a journal: differences that are longer than the zone
// help nobody.
func (t *Transfer) journalLimit(z *zone.Zone) int64 {
	const perRecord, least = 64, 64 << 10
	return min(t.cfg.MaxJournal, max(least, int64(z.Records())*perRecord))
}

// version gives the version of a zone that transfers show, or nil.
func (t *Transfer) version(name fleet.Name, p *policy) *zone.Zone {
	lock := t.versions.lock(name)
	lock.Lock()
	defer lock.Unlock()
	z, err := t.currentLocked(name, p)
	if err != nil {
		t.log.Error("journal", "zone", name, "err", err)
	}
	return z
}

// since gives the zone and the changes that lead to it from a serial; no
// changes where the history does not reach back so far, or where it would take
// more than most octets of it.
func (t *Transfer) since(name fleet.Name, p *policy, serial uint32, most int64) (z *zone.Zone, changes []zone.Change, ok bool) {
	lock := t.versions.lock(name)
	lock.Lock()
	defer lock.Unlock()
	z, err := t.currentLocked(name, p)
	if err != nil {
		t.log.Error("journal", "zone", name, "err", err)
	}
	v := t.versions.get(name)
	if z == nil || v == nil || v.journal == nil {
		return z, nil, false
	}
	if tail := v.journal.tail(); tail == nil || tail.to != z.Serial {
		return z, nil, false
	}
	changes, ok, err = v.journal.since(serial, most)
	if err != nil {
		t.log.Error("journal", "zone", name, "err", err)
		return z, nil, false
	}
	return z, changes, ok
}
