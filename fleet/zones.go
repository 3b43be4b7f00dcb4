package fleet

import (
	"hash/maphash"
	"iter"
	"maps"
)

// Zones is a set of zone objects that have versions of their own, apart from
// the Snapshot's: zones that the admin API or dynamic updates write, and
// zones that the control plane has signed. It is immutable and safe for
// concurrent use; a changed set shares all but a small part with the one it
// came from. A nil *Zones is empty.
type Zones struct {
	shards [zoneShards]map[Name]Object
	len    int
}

const zoneShards = 1024

// zoneSeed only spreads names over the shards of this process.
var zoneSeed = maphash.MakeSeed()

func zoneShard(n Name) int { return int(maphash.String(zoneSeed, string(n)) % zoneShards) }

// Get gives the object of a zone.
func (z *Zones) Get(n Name) (Object, bool) {
	if z == nil {
		return Object{}, false
	}
	o, ok := z.shards[zoneShard(n)][n]
	return o, ok
}

// Len is the number of zones.
func (z *Zones) Len() int {
	if z == nil {
		return 0
	}
	return z.len
}

// With gives a set with the objects added or replaced and the names removed.
// An object's ID is the zone's Name.
func (z *Zones) With(put []Object, remove []Name) *Zones {
	out := &Zones{}
	if z != nil {
		*out = *z
	}
	fresh := map[int]bool{}
	own := func(n Name) map[Name]Object {
		i := zoneShard(n)
		if !fresh[i] {
			fresh[i] = true
			if out.shards[i] = maps.Clone(out.shards[i]); out.shards[i] == nil {
				out.shards[i] = map[Name]Object{}
			}
		}
		return out.shards[i]
	}
	for _, o := range put {
		m := own(Name(o.Key.ID))
		if _, had := m[Name(o.Key.ID)]; !had {
			out.len++
		}
		m[Name(o.Key.ID)] = o
	}
	for _, n := range remove {
		m := own(n)
		if _, had := m[n]; had {
			out.len--
			delete(m, n)
		}
	}
	return out
}

// All gives every zone object, in no order.
func (z *Zones) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		if z == nil {
			return
		}
		for _, m := range z.shards {
			for _, o := range m {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// Since gives what differs from an older set: objects that are new or of
// another content, and names that are gone. Its cost is that of the parts
// that differ. Contents are compared by version, or by identity where they
// have none.
func (z *Zones) Since(old *Zones) (put []Object, gone []Name) {
	if z == old {
		return nil, nil
	}
	var empty Zones
	if z == nil {
		z = &empty
	}
	if old == nil {
		old = &empty
	}
	for i := range z.shards {
		a, b := old.shards[i], z.shards[i]
		if len(a) == len(b) && sameMap(a, b) {
			continue
		}
		for n, o := range b {
			if had, ok := a[n]; !ok || !had.Same(o) {
				put = append(put, o)
			}
		}
		for n := range a {
			if _, ok := b[n]; !ok {
				gone = append(gone, n)
			}
		}
	}
	return put, gone
}

// sameMap says whether two shards of equal size hold the same objects. Shards
// are small.
func sameMap(a, b map[Name]Object) bool {
	for n, o := range b {
		if had, ok := a[n]; !ok || !had.Same(o) {
			return false
		}
	}
	return true
}
