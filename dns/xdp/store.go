package xdp

import (
	"encoding/binary"
	"slices"
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

// maxBlocks is how many blocks a ref can tell apart.
const maxBlocks = 1 << 20

func blockOf(r ref) int { return int(r >> 12) }

func offsetOf(r ref) int { return int(r&0xfff) * 8 }

// arena is the records, in blocks. A record stays where it is; a block is given
// back when none of its records is in use.
type arena struct {
	blocks [][]byte // nil: given back
	live   []int    // octets of each that are in use
	free   []int    // blocks that were given back
	dead   []int    // blocks that may be, as soon as no query reads them
	at     int      // block that records go to
	dirty  []int    // blocks that the kernel has not, or not all of
	total  int      // octets in use

	known  map[string]ref // records that others may share
	shares map[ref]share
	follow map[ref]bool // answers that follow an alias
}

// share is a record that others may share.
type share struct{ size, users int }

func newArena() arena {
	a := arena{known: map[string]ref{}, shares: map[ref]share{}, follow: map[ref]bool{}, dirty: []int{0}}
	a.open()
	return a
}

// put places a record. It begins at a whole word.
func (a *arena) put(rec []byte) ref {
	if len(a.blocks[a.at]) > lastRecord || len(a.blocks[a.at])+len(rec) > blockSize {
		a.open()
	}
	if n := len(a.dirty); n == 0 || a.dirty[n-1] != a.at {
		a.dirty = append(a.dirty, a.at)
	}
	b := &a.blocks[a.at]
	at := len(*b)
	*b = append(*b, rec...)
	a.live[a.at] += len(rec)
	a.total += len(rec)
	return ref(a.at)<<12 | ref(at/8)
}

// open begins a block.
func (a *arena) open() {
	if a.at < len(a.live) && a.live[a.at] == 0 {
		a.dead = append(a.dead, a.at)
	}
	b := make([]byte, 0, blockSize)
	if n := len(a.free); n > 0 {
		a.at, a.free = a.free[n-1], a.free[:n-1]
		a.blocks[a.at] = b
		return
	}
	if a.at = len(a.blocks); a.at == 0 {
		b = b[:8*dnsSpecialRefFIRST_REF] // refs below stand for no record; and the block is never given back
	}
	a.blocks, a.live = append(a.blocks, b), append(a.live, len(b))
}

// share places a record, or gives the place of an equal one, for one user more.
func (a *arena) share(rec []byte) ref {
	r, ok := a.known[string(rec)]
	if !ok {
		r = a.put(rec)
		a.known[string(rec)] = r
	}
	s := a.shares[r]
	a.shares[r] = share{len(rec), s.users + 1}
	return r
}

// unshare takes a user away.
func (a *arena) unshare(r ref) {
	s := a.shares[r]
	if s.users--; s.users > 0 {
		a.shares[r] = s
		return
	}
	delete(a.shares, r)
	delete(a.known, string(a.record(r)[:s.size]))
	delete(a.follow, r)
	a.drop(blockOf(r), s.size)
}

// drop says that octets of a block are no longer in use.
func (a *arena) drop(block, size int) {
	a.live[block] -= size
	a.total -= size
	if a.live[block] == 0 && block != a.at {
		a.dead = append(a.dead, block)
	}
}

// record gives what stands in a block from a place on.
func (a *arena) record(r ref) []byte { return a.blocks[blockOf(r)][offsetOf(r):] }

// name gives that of a node.
func (a *arena) name(r ref) []byte {
	rec := a.record(r)
	return rec[16 : 16+int(rec[1])]
}

// reclaim gives back the blocks that are dead, when no query reads them any
// more, and gives their numbers.
func (a *arena) reclaim() []int {
	dead := a.dead
	for _, n := range dead {
		a.blocks[n] = nil
	}
	a.free, a.dead = append(a.free, dead...), nil
	return dead
}

// unsaved gives the blocks that the kernel has not as they are, by number.
func (a *arena) unsaved() (numbers []int, blocks [][]byte) {
	slices.Sort(a.dirty)
	for _, n := range slices.Compact(a.dirty) {
		if a.blocks[n] != nil {
			numbers, blocks = append(numbers, n), append(blocks, a.blocks[n])
		}
	}
	return numbers, blocks
}

// used is how many blocks there are.
func (a *arena) used() int { return len(a.blocks) - len(a.free) }

// garbage is how many octets of blocks are of no use.
func (a *arena) garbage() int { return max(0, a.used()-1)*lastRecord - a.total }

// noteAlias notes an answer that follows an alias.
func (a *arena) noteAlias(r ref) { a.follow[r] = true }

func (a *arena) alias(r ref) bool { return a.follow[r] }

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
