package geo

import "math"

// memo remembers the class of each place met. Databases name the same few
// places over and over in one neighbourhood: those are found in a small table
// by a quick hash, before the map of all.
type memo struct {
	classify func(Place) Class
	seen     map[Place]Class
	over     bool // there was a class that a Block cannot hold
	near     [1 << memoBits]struct {
		place Place
		class Class
		used  bool
	}
}

const memoBits = 12

func newMemo(classify func(Place) Class) *memo {
	return &memo{classify: classify, seen: map[Place]Class{}}
}

func (m *memo) class(p *Place) Class {
	h := math.Float64bits(p.Latitude)*0x9e3779b97f4a7c15 ^ math.Float64bits(p.Longitude)
	h = (h ^ uint64(p.ASN)<<32 ^ uint64(p.Mark)) * 0xbf58476d1ce4e5b9
	e := &m.near[h>>(64-memoBits)]
	if e.used && e.place == *p {
		return e.class
	}
	k, ok := m.seen[*p]
	if !ok {
		k = m.classify(*p)
		m.seen[*p] = k
		m.over = m.over || k > maxClass
	}
	e.place, e.class, e.used = *p, k, true
	return k
}
