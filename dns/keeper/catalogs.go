package keeper

import (
	"cmp"
	"slices"
	"time"

	"meridian/dns/catalog"
	"meridian/fleet"
	"meridian/rules"
)

// listing is which catalog zones (RFC 9432) the fleet makes of its zones, and
// what the Spec lists in them. It is immutable.
type listing struct {
	members map[fleet.Name][]catalog.Member // by catalog; without the zones that the Spec does not name
	unnamed fleet.Name                      // catalog of those, or ""
	group   string
}

func newListing(spec *fleet.Spec) *listing {
	set := spec.Settings(spec.Unnamed(""))
	l := &listing{members: map[fleet.Name][]catalog.Member{}, unnamed: set.MemberOf, group: set.Group}
	if l.unnamed != "" {
		l.members[l.unnamed] = nil // it may list nothing yet
	}
	for i := range spec.Zones {
		z := &spec.Zones[i]
		if set := spec.Settings(z); set.MemberOf != "" && set.MemberOf != z.Zone {
			l.members[set.MemberOf] = append(l.members[set.MemberOf], catalog.Member{Zone: z.Zone, Groups: []string{set.Group}})
		}
	}
	return l
}

// catalog gives the content of a zone that lists the fleet's zones; false for
// any other zone.
func (j *job) catalog() (ok bool, err error) {
	j.k.mu.Lock()
	l, named := j.k.listing, j.k.index
	j.k.mu.Unlock()
	members, ok := l.members[j.name]
	if !ok {
		return false, nil
	}
	members = slices.Clone(members)
	if j.name == l.unnamed {
		for o := range j.contents.All() {
			if n := fleet.Name(o.Key.ID); named[n] == nil {
				members = append(members, catalog.Member{Zone: n, Groups: []string{l.group}})
			}
		}
	}
	slices.SortFunc(members, func(a, b catalog.Member) int { return cmp.Compare(a.Zone, b.Zone) })
	z, err := catalog.Make(j.name, members, 1)
	if err != nil {
		return true, err
	}
	j.from = rules.ZoneObject(j.name, z.Encode())
	if j.set.Serial == fleet.SerialKeep {
		j.set.Serial = fleet.SerialUnixtime // nobody writes one
	}
	return true, nil
}

// catalogWait is how long after a zone has come or gone by the API its catalog
// is made anew, for each zone that is listed: whoever makes many zones does not
// have the catalog, which nodes get whole, sent as often.
const (
	catalogWait  = 250 * time.Microsecond // making it takes a fifteenth of that
	catalogLeast = 200 * time.Millisecond
)

// listAgain has the catalog of zones that the Spec does not name made anew
// soon, where some have come or gone. k.mu is held.
func (r *run) listAgain(put []fleet.Object, gone []fleet.Name) {
	k := r.k
	z := k.zones[k.listing.unnamed]
	fresh := func(o fleet.Object) bool {
		_, had := k.contents.Get(fleet.Name(o.Key.ID))
		return !had
	}
	if z == nil || len(gone) == 0 && !slices.ContainsFunc(put, fresh) {
		return
	}
	due := r.now.Add(max(catalogLeast, time.Duration(r.contents.Len())*catalogWait))
	if z.next.IsZero() || due.Before(z.next) {
		z.next = due
		k.timed[k.listing.unnamed] = z
	}
}
