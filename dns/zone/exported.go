package zone

import "iter"

// Exported gives the zone as transfers show it: in place of what its steered
// names may answer with they hold what is exported, and denial tells of that
// alone. The zone itself where it Exports nothing.
func (z *Zone) Exported() (*Zone, error) {
	if !z.Exports {
		return z, nil
	}
	plain := z
	if len(z.steered) > 0 {
		plain = z.with(nil)
	}
	var changes []Change
	for v, owner := range z.exported() {
		switch v.Set.Type {
		case TypeNSEC:
			changes = appendSet(changes, true, owner, z.Node([]byte(owner)).Get(TypeNSEC))
		case TypeNSEC3:
			changes = appendSet(changes, true, owner, &z.hashed(owner).Set)
		}
		changes = appendSet(changes, false, owner, &v.Set)
	}
	out, err := plain.With(changes)
	if err != nil {
		return nil, err
	}
	out.variants, out.Exports = nil, false
	return out, nil
}

// exported gives the variants that transfers show, with their owners, in order.
func (z *Zone) exported() iter.Seq2[*Variant, string] {
	return func(yield func(*Variant, string) bool) {
		for _, k := range z.variantKeys() {
			list := z.variants[k]
			for i := range list {
				if list[i].Export && !yield(&list[i], k.owner) {
					return
				}
			}
		}
	}
}

// appendSet adds the changes that bring a set with its signatures, or take it
// away.
func appendSet(list []Change, remove bool, owner string, set *RRset) []Change {
	c := Change{Delete: remove, Owner: []byte(owner), Type: set.Type, TTL: set.TTL}
	for c.Data = range each(set.Data) {
		list = append(list, c)
	}
	c.Type = TypeRRSIG
	for c.Data = range each(set.Sigs) {
		list = append(list, c)
	}
	return list
}

// checkExports says whether what is exported can stand in a zone: one set for a
// name and type, and denial only in place of denial.
func (z *Zone) checkExports() bool {
	var last variantKey
	for v, owner := range z.exported() {
		k := variantKey{owner, v.Set.Type}
		n := z.Node([]byte(owner))
		switch {
		case k == last,
			v.Set.Type == TypeNSEC && (n == nil || n.Get(TypeNSEC) == nil),
			v.Set.Type == TypeNSEC3 && z.hashed(owner) == nil:
			return false
		}
		last = k
	}
	return true
}
