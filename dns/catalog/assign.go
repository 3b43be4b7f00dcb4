package catalog

import (
	"cmp"
	"slices"

	"meridian/fleet"
)

// Owner is the catalog that a zone is a member of, with what it says of it.
type Owner struct {
	Catalog fleet.Name
	Member  Member
}

// Assignment is which catalog each member belongs to.
type Assignment struct {
	Owners map[fleet.Name]Owner
	Reset  []fleet.Name // members whose state must be forgotten: their ID is another (RFC 9432 section 5.4)
	Clash  []Owner      // listings that are passed over: another catalog has the zone (RFC 9432 section 5.2)
}

// Assign says which catalog each zone belongs to, from what the catalogs list
// now and to which they belonged before. A zone stays with its catalog as long
// as that lists it, unless it lets the zone move by the coo property to one
// that lists it too (RFC 9432 section 4.4.1). All results are in order.
func Assign(before map[fleet.Name]Owner, lists map[fleet.Name][]Member) Assignment {
	out := Assignment{Owners: map[fleet.Name]Owner{}}
	listed := map[fleet.Name][]Owner{}
	for _, catalog := range sorted(lists) {
		for _, m := range lists[catalog] {
			listed[m.Zone] = append(listed[m.Zone], Owner{catalog, m})
		}
	}
	for _, name := range sorted(listed) {
		candidates := listed[name]
		was, had := before[name]
		at := slices.IndexFunc(candidates, func(o Owner) bool { return had && o.Catalog == was.Catalog })
		stays := at >= 0
		at = max(at, 0)
		if to := candidates[at].Member.Coo; stays && to != "" {
			if i := slices.IndexFunc(candidates, func(o Owner) bool { return o.Catalog == to }); i >= 0 {
				at = i
			}
		}
		own := candidates[at]
		out.Owners[name] = own
		if had && (!stays || own.Member.ID != was.Member.ID) {
			out.Reset = append(out.Reset, name)
		}
		for i, o := range candidates {
			if i != at && o.Catalog != was.Catalog { // the one that it leaves still lists it
				out.Clash = append(out.Clash, o)
			}
		}
	}
	return out
}

func sorted[V any](m map[fleet.Name]V) []fleet.Name {
	out := make([]fleet.Name, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, cmp.Compare[fleet.Name])
	return out
}
