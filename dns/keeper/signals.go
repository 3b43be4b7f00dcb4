package keeper

import (
	"maps"
	"slices"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// signals are the records of authenticated bootstrapping (RFC 9615): for each
// zone that is to have some, by the zone that they tell of.
type signals map[fleet.Name]map[fleet.Name][]sign.Record

// signalsFor gives the records that a zone is to have for others.
func (k *Keeper) signalsFor(host fleet.Name) []sign.Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []sign.Record
	for _, of := range slices.Sorted(maps.Keys(k.signals[host])) {
		out = append(out, k.signals[host][of]...)
	}
	return out
}

// resetSignals finds anew which zones have which signals: zones have come or
// gone.
func (r *run) resetSignals() {
	k := r.k
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signals = signals{}
	for name, z := range k.zones {
		r.signal(name, z.signal)
	}
}

// setSignals notes what a zone wants others to have, and which of them are to
// be made again for it. k.mu is held.
func (r *run) setSignals(name fleet.Name, before, now []sign.Record) {
	same := slices.EqualFunc(before, now, func(a, b sign.Record) bool {
		return string(a.Owner) == string(b.Owner) && a.Type == b.Type && a.TTL == b.TTL && string(a.Data) == string(b.Data)
	})
	if same {
		return
	}
	for host, of := range r.k.signals {
		if of[name] != nil {
			delete(of, name)
			r.again[host] = true
		}
	}
	r.signal(name, now)
	for _, rec := range now {
		r.again[r.hostOf(rec.Owner)] = true
	}
}

// signal files records under the zones that they belong to. k.mu is held.
func (r *run) signal(name fleet.Name, records []sign.Record) {
	for _, rec := range records {
		host := r.hostOf(rec.Owner)
		if r.k.signals[host] == nil {
			r.k.signals[host] = map[fleet.Name][]sign.Record{}
		}
		r.k.signals[host][name] = append(r.k.signals[host][name], rec)
	}
}

// hostOf gives the deepest zone of the fleet that a name belongs to, or "".
// k.mu is held.
func (r *run) hostOf(owner []byte) fleet.Name {
	for at := owner; ; at = at[1+int(at[0]):] {
		name := zone.Text(at)
		if r.k.index[name] != nil {
			return name
		}
		if _, ok := r.contents.Get(name); ok {
			return name
		}
		if at[0] == 0 {
			return ""
		}
	}
}
