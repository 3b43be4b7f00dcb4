package fleet

import (
	"hash/maphash"
	"iter"
	"maps"
)

// Zones is a set of zone objects that have versions of their own, apart from
// the Snapshot's: zones that the admin API or dynamic updates write, and
// zones that the control plane has signed; or a set of live objects, which
// stand under their ids in place of names. It is immutable and safe for
// concurrent use; a changed set shares all but a small part with the one it
// came from. A nil *Zones is empty.
type Zones struct {
	shards [zoneShards]*zoneMap // nil: empty; never written to once in a set
	len    int
}

type zoneMap map[Name]Object

const zoneShards = 1024

// zoneSeed only spreads names over the shards of this process.
var zoneSeed = maphash.MakeSeed()

func zoneShard(n Name) int { return int(maphash.String(zoneSeed, string(n)) % zoneShards) }

// Get gives the object of a zone.
func (z *Zones) Get(n Name) (Object, bool) {
	if z == nil {
		return Object{}, false
	}
	o, ok := z.shards[zoneShard(n)].all()[n]
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
	own := func(n Name) zoneMap {
		i := zoneShard(n)
		if !fresh[i] {
			fresh[i] = true
			m := zoneMap(maps.Clone(out.shards[i].all()))
			if m == nil {
				m = zoneMap{}
			}
			out.shards[i] = &m
		}
		return *out.shards[i]
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

func (m *zoneMap) all() zoneMap {
	if m == nil {
		return nil
	}
	return *m
}

// All gives every zone object, in no order.
func (z *Zones) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		if z == nil {
			return
		}
		for _, m := range z.shards {
			for _, o := range m.all() {
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
		if old.shards[i] == z.shards[i] {
			continue
		}
		a, b := old.shards[i].all(), z.shards[i].all()
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
