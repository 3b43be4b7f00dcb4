package xdp

import (
	"errors"
	"math/bits"
)

// directory is the buckets by which nodes are found.
type directory struct {
	key     uint64
	buckets [][ways]uint64
	filled  int // entries that are not free, those of names that are gone among them
}

// entryGone stands where a name was: the search goes on behind it. No name has
// such a tag.
const entryGone = uint64(2) << 32

var (
	errClash = errors.New("two names have one hash")
	errFull  = errors.New("no room for more names")
)

// leastNames is how many names a directory has room for at least, in half of
// its entries.
const leastNames = 1024

// newDirectory lays nodes, by hash, into as few buckets as hold them near to
// where they are looked for. Two names whose hashes the program cannot tell
// apart ask for another key.
func newDirectory(key uint64, nodes map[uint64]ref) (*directory, error) {
	count := 1 << bits.Len(uint(max(leastNames, len(nodes))/4))
	for ; ; count *= 2 {
		d := &directory{key: key, buckets: make([][ways]uint64, count)}
		err := d.fill(nodes)
		if err == nil {
			return d, nil
		}
		if err != errFull {
			return nil, err
		}
	}
}

func (d *directory) fill(nodes map[uint64]ref) error {
	for h, r := range nodes {
		if _, err := d.add(h, r); err != nil {
			return err
		}
	}
	return nil
}

func entryOf(hash uint64, r ref) uint64 { return (hash>>32|1)<<32 | uint64(r) }

// entry gives the one of a number; those of a bucket follow one another.
func (d *directory) entry(at int) *uint64 { return &d.buckets[at/ways][at%ways] }

// add enters a node, and gives the number of its entry.
func (d *directory) add(hash uint64, r ref) (at int, err error) {
	if d.filled >= len(d.buckets)*ways*3/4 {
		return 0, errFull
	}
	e, at := entryOf(hash, r), -1
search:
	for probe := range probes {
		bucket := int(uint32(hash)+uint32(probe)) & (len(d.buckets) - 1)
		for i, had := range d.buckets[bucket] {
			if (had == 0 || had == entryGone) && at < 0 {
				at = bucket*ways + i
			}
			if had == 0 {
				break search
			}
			if had>>32 == e>>32 {
				return 0, errClash
			}
		}
	}
	if at < 0 {
		return 0, errFull
	}
	if *d.entry(at) == 0 {
		d.filled++
	}
	*d.entry(at) = e
	return at, nil
}

// find gives the number of a node's entry, or -1.
func (d *directory) find(hash uint64, r ref) int {
	e := entryOf(hash, r)
	for probe := range probes {
		bucket := int(uint32(hash)+uint32(probe)) & (len(d.buckets) - 1)
		for i, had := range d.buckets[bucket] {
			if had == e {
				return bucket*ways + i
			}
		}
	}
	return -1
}

// move enters another node in place of one of the same name.
func (d *directory) move(hash uint64, from, to ref) (at int) {
	at = d.find(hash, from)
	*d.entry(at) = entryOf(hash, to)
	return at
}

// remove takes a node out.
func (d *directory) remove(hash uint64, r ref) (at int) {
	at = d.find(hash, r)
	*d.entry(at) = entryGone
	return at
}
