package keeper

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// txtTTL is the TTL of records that live objects add to zones, in seconds: they
// answer a certificate authority once, and go.
const txtTTL = 5

// txtRecord gives the TXT record that a live object adds to the zone it lies
// in; false where it is none.
func txtRecord(o fleet.Object) (sign.Record, bool) {
	kind, rest := fleet.ParseLiveID(o.Key.ID)
	i := strings.LastIndexByte(rest, '/')
	if kind != fleet.LiveTXT || i < 0 || len(o.Data) > 255 {
		return sign.Record{}, false
	}
	owner, err := fleet.ParseName(rest[:i])
	if err != nil {
		return sign.Record{}, false
	}
	return sign.Record{Owner: zone.Wire(owner), Type: zone.TypeTXT, TTL: txtTTL, Data: append([]byte{byte(len(o.Data))}, o.Data...)}, true
}

// texts gives the TXT records that live objects add to a zone.
func (r *run) texts(name fleet.Name) []sign.Record {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	var out []sign.Record
	for _, rec := range r.live {
		if r.hostOf(rec.Owner) == name {
			out = append(out, rec)
		}
	}
	return out
}

// readLive reads the records that live objects add, once for a run.
func (r *run) readLive() {
	for _, o := range r.w.LiveOf(fleet.LiveTXT) {
		if rec, ok := txtRecord(o); ok {
			r.live = append(r.live, rec)
		}
	}
	slices.SortFunc(r.live, func(a, b sign.Record) int {
		return cmp.Or(bytes.Compare(a.Owner, b.Owner), bytes.Compare(a.Data, b.Data))
	})
}

// relive adds the zones that live objects are about which have come or gone
// since the last run. k.mu is held.
func (r *run) relive(add func(fleet.Name)) {
	put, gone := r.w.Live.Since(r.k.live)
	there := add
	add = func(n fleet.Name) {
		if n != "" { // the name is in a zone of the fleet
			there(n)
		}
	}
	for _, o := range put {
		if rec, ok := txtRecord(o); ok {
			add(r.hostOf(rec.Owner))
		}
		r.reech(fleet.Name(o.Key.ID), add)
	}
	for _, id := range gone {
		if rec, ok := txtRecord(fleet.Object{Key: fleet.ObjectKey{ID: string(id)}}); ok {
			add(r.hostOf(rec.Owner))
		}
		r.reech(id, add)
	}
}

// reech adds the zones whose HTTPS records name keys of Encrypted Client Hello,
// where id is that of the keys' list.
func (r *run) reech(id fleet.Name, add func(fleet.Name)) {
	if id != fleet.LiveID(fleet.LiveECHList, "fleet") {
		return
	}
	for i := range r.w.Snapshot.Spec.Zones {
		z := &r.w.Snapshot.Spec.Zones[i]
		for _, st := range z.Steered {
			if st.HTTPS != nil {
				add(z.Zone)
				break
			}
		}
	}
}
