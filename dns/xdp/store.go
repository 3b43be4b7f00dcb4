package xdp

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Sizes of the program's tables (bpf/consts.h); a test compares them.
const (
	blockSize  = 32256
	lastRecord = blockSize - 1600
	nameWords  = 16
	maxName    = 8 * nameWords // octets of a name, the root's label among them
	maxKinds   = 20
	ways       = 8
	probes     = 4
)

// ref is a place in the blocks, as the program has it.
type ref = uint32

const refPass = ref(dnsSpecialRefREF_PASS)

// arena is the records, in blocks.
type arena struct {
	blocks [][]byte
	known  map[string]ref // records that others may share
	follow map[ref]bool   // answers that follow an alias
}

// put places a record. It begins at a whole word.
func (a *arena) put(rec []byte) ref {
	n := len(a.blocks)
	if n == 0 || len(a.blocks[n-1]) > lastRecord || len(a.blocks[n-1])+len(rec) > blockSize {
		a.blocks = append(a.blocks, make([]byte, 0, blockSize))
		if n++; n == 1 {
			a.blocks[0] = a.blocks[0][:8*dnsSpecialRefFIRST_REF] // refs below stand for no record
		}
	}
	b := &a.blocks[n-1]
	at := len(*b)
	*b = append(*b, rec...)
	return ref(n-1)<<12 | ref(at/8)
}

// share places a record, or gives the place of an equal one.
func (a *arena) share(rec []byte) ref {
	r, ok := a.known[string(rec)]
	if !ok {
		r = a.put(rec)
		a.known[string(rec)] = r
	}
	return r
}

// noteAlias notes an answer that follows an alias.
func (a *arena) noteAlias(r ref) {
	if a.follow == nil {
		a.follow = map[ref]bool{}
	}
	a.follow[r] = true
}

func (a *arena) alias(r ref) bool { return a.follow[r] }

// used is where the next record goes.
func (a *arena) used() int { return len(a.blocks)*blockSize + len(a.blocks[len(a.blocks)-1]) }

// hashOf is mix() and hash_from() of the program: the hash of a name in wire
// form and lower case.
func hashOf(key uint64, name []byte) uint64 {
	h := key
	for len(name) > 0 {
		var w [8]byte
		name = name[copy(w[:], name):]
		h = (h ^ binary.LittleEndian.Uint64(w[:])) * 0x9fb21c651e98df25
		h ^= h >> 32
	}
	return h
}

// directory is the buckets by which nodes are found.
type directory struct {
	key     uint64
	buckets [][ways]uint64
}

var errClash = errors.New("two names have one hash")

// newDirectory lays nodes, by hash, into as few buckets as hold them near to
// where they are looked for. Two names whose hashes the program cannot tell
// apart ask for another key.
func newDirectory(key uint64, nodes map[uint64]ref) (*directory, error) {
	count := 1 << bits.Len(uint(len(nodes)/4))
	for ; ; count *= 2 {
		d := &directory{key: key, buckets: make([][ways]uint64, count)}
		full, err := d.fill(nodes)
		if err != nil {
			return nil, err
		}
		if !full {
			return d, nil
		}
	}
}

func (d *directory) fill(nodes map[uint64]ref) (full bool, err error) {
	for h, r := range nodes {
		ok, err := d.add(h, r)
		if err != nil || !ok {
			return !ok, err
		}
	}
	return false, nil
}

func (d *directory) add(hash uint64, r ref) (ok bool, err error) {
	tag := uint64(uint32(hash>>32) | 1)
	at := uint32(hash)
	for range probes {
		b := &d.buckets[at&uint32(len(d.buckets)-1)]
		for i, e := range b {
			switch {
			case e == 0:
				b[i] = tag<<32 | uint64(r)
				return true, nil
			case e>>32 == tag:
				return false, errClash
			}
		}
		at++
	}
	return false, nil
}
