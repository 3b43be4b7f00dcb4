package zone

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"meridian/fleet"
)

// Builder collects the records of one zone. It is not safe for concurrent
// use.
type Builder struct {
	name     fleet.Name
	apex     []byte
	owners   []ownerRef
	names    []byte   // wire forms of the owners
	slots    []uint32 // open addressing: 1 + index into owners
	last     int      // owner of the last record
	recs     []record
	chunks   [][]byte // RDATA of recs, each in one piece
	variants map[variantKey][]Variant
	report   report

	Exports bool // see Zone.Exports
}

type ownerRef struct {
	at  uint32 // into names
	len uint8
}

// record is one record of a Builder.
type record struct {
	owner uint32 // into owners
	at    uint32 // chunk, and offset in it
	ttl   uint32
	line  uint32
	len   uint16
	rtype uint16
	file  uint16 // into report.files
}

// NewBuilder makes a Builder for a zone without records.
func NewBuilder(name fleet.Name) *Builder {
	return &Builder{name: name, apex: Wire(name), last: -1, slots: make([]uint32, 16)}
}

// Errors of Add.
var (
	ErrOutOfZone = errors.New("the name is out of the zone")
	errTooBig    = errors.New("the zone is larger than 4 GiB")
)

// Add adds a record: owner and rdata in wire form without compression. A
// record given twice counts once; TTLs of an RRset that differ become the
// least (RFC 2181 section 5); RRSIGs are kept with what they cover. What is
// passed is copied.
func (b *Builder) Add(owner []byte, rtype uint16, ttl uint32, rdata []byte) error {
	if n := WireLen(owner); n == 0 || n != len(owner) {
		return errors.New("the owner is not a domain name")
	}
	if err := CheckRDATA(rtype, rdata); err != nil {
		return err
	}
	return b.add(owner, rtype, ttl, rdata, 0, 0)
}

// add adds a record that is well formed.
func (b *Builder) add(owner []byte, rtype uint16, ttl uint32, rdata []byte, file uint16, line uint32) error {
	id, err := b.owner(owner)
	if err != nil {
		return err
	}
	at, ok := b.keep(rdata)
	if !ok {
		return errTooBig
	}
	if ttl > 1<<31-1 {
		ttl = 0 // RFC 2181 section 8
	}
	b.recs = append(b.recs, record{uint32(id), at, ttl, line, uint16(len(rdata)), rtype, file})
	return nil
}

// chunkBits is the binary logarithm of the size of a chunk, in octets. Chunks
// do not move as more come, so that no garbage is left behind.
const chunkBits = 18

// keep copies RDATA and tells where; false where no place is left.
func (b *Builder) keep(rdata []byte) (at uint32, ok bool) {
	last := len(b.chunks) - 1
	if last < 0 || len(b.chunks[last])+len(rdata) > 1<<chunkBits {
		if last+1 == 1<<(32-chunkBits) {
			return 0, false
		}
		var chunk []byte
		if last++; last > 0 {
			chunk = make([]byte, 0, 1<<chunkBits)
		}
		b.chunks = append(b.chunks, chunk)
	}
	if len(rdata) == 0 {
		return uint32(last) << chunkBits, true
	}
	at = uint32(last)<<chunkBits | uint32(len(b.chunks[last]))
	b.chunks[last] = append(b.chunks[last], rdata...)
	return at, true
}

// size is how much RDATA there is, in octets, at most.
func (b *Builder) size() int {
	n := 0
	for _, c := range b.chunks {
		n += len(c)
	}
	return n
}

// AddVariant adds what a name may answer with. owner is in wire form; the name
// need not hold anything else. The zone keeps v's octets, which must not be
// changed.
func (b *Builder) AddVariant(owner []byte, v Variant) error {
	if n := WireLen(owner); n == 0 || n != len(owner) {
		return errors.New("the owner is not a domain name")
	}
	low := lowerWire(slices.Clone(owner))
	if !Below(low, string(b.apex)) {
		return ErrOutOfZone
	}
	if err := checkSet(&v.Set); err != nil {
		return err
	}
	if b.variants == nil {
		b.variants = map[variantKey][]Variant{}
	}
	k := variantKey{string(low), v.Set.Type}
	b.variants[k] = append(b.variants[k], v)
	return nil
}

// owner gives the number of an owner name, in any case.
func (b *Builder) owner(name []byte) (int, error) {
	if b.last >= 0 && string(b.ownerName(b.last)) == string(name) {
		return b.last, nil
	}
	var buf [255]byte
	low := lowerWire(buf[:copy(buf[:], name)])
	slot := b.slot(low)
	if *slot != 0 {
		b.last = int(*slot - 1)
		return b.last, nil
	}
	if !Below(low, string(b.apex)) {
		return 0, ErrOutOfZone
	}
	if len(b.names)+len(low) > 1<<32-1 {
		return 0, errTooBig
	}
	b.last = len(b.owners)
	b.owners = append(b.owners, ownerRef{uint32(len(b.names)), uint8(len(low))})
	b.names = append(b.names, low...)
	*slot = uint32(len(b.owners))
	if len(b.owners) > len(b.slots)/2 {
		b.slots = make([]uint32, 4*len(b.slots))
		for id := range b.owners {
			*b.slot(b.ownerName(id)) = uint32(id + 1)
		}
	}
	return b.last, nil
}

// slot is where the number of a name, in lower case, stands or belongs.
func (b *Builder) slot(name []byte) *uint32 {
	at := int(maphash.Bytes(hashSeed, name)) & (len(b.slots) - 1)
	for b.slots[at] != 0 && string(b.ownerName(int(b.slots[at]-1))) != string(name) {
		at = (at + 1) & (len(b.slots) - 1)
	}
	return &b.slots[at]
}

func (b *Builder) ownerName(id int) []byte {
	o := b.owners[id]
	return b.names[o.at : o.at+uint32(o.len)]
}

func (b *Builder) rdata(r *record) []byte {
	at := r.at & (1<<chunkBits - 1)
	return b.chunks[r.at>>chunkBits][at : at+uint32(r.len)]
}

// Build gives the zone. All that breaks the rules of zones is told at once.
// The Builder must not be used afterwards.
func (b *Builder) Build() (*Zone, error) {
	z := &Zone{Name: b.name, variants: b.variants, Exports: b.Exports}
	nodes, nsec3 := b.gather()
	if len(nodes) == 0 || nodes[0].Name != string(b.apex) {
		nodes = slices.Insert(nodes, 0, Node{Name: string(b.apex)})
	}
	z.assemble(nodes)
	z.nsec3 = nsec3
	if err := z.finish(&b.report); err != nil {
		return nil, err
	}
	if !z.checkExports() {
		return nil, errors.New("what is exported is wrong")
	}
	return z, nil
}

// gather sorts the records into nodes, in canonical order, and NSEC3s, in
// order of hash. It sets b.report's means to find lines.
func (b *Builder) gather() ([]Node, []NSEC3) {
	names := b.sortedOwners()
	g := gathered{b: b, order: b.byOwner(), data: make([]byte, 0, b.size()+2*len(b.recs)), text: string(b.names)}
	g.sets = make([]RRset, 0, g.sortRecords(names))
	g.nodes = make([]Node, 0, len(names))
	for _, id := range names {
		g.owner(id)
	}
	sortNSEC3(g.nsec3)
	b.report.lookup = g.line
	return g.nodes, g.nsec3
}

// ordered is the records by owner: those of owner i are recs[from[i]:from[i+1]],
// each an index into Builder.recs.
type ordered struct {
	from []uint32
	recs []uint32
}

func (o *ordered) of(owner int) []uint32 { return o.recs[o.from[owner]:o.from[owner+1]] }

// byOwner orders the records by owner.
func (b *Builder) byOwner() ordered {
	o := ordered{make([]uint32, len(b.owners)+2), make([]uint32, len(b.recs))}
	next := o.from[1:] // while they are filled in, each entry tells where its owner's next goes
	for i := range b.recs {
		o.from[b.recs[i].owner+2]++
	}
	for i := 2; i < len(o.from); i++ {
		o.from[i] += o.from[i-1]
	}
	for i := range b.recs {
		at := &next[b.recs[i].owner]
		o.recs[*at] = uint32(i)
		*at++
	}
	return o
}

// sortedOwners gives the owners in canonical order.
func (b *Builder) sortedOwners() []uint32 {
	type keyed struct {
		first    uint64 // of the key, as a number
		from, to uint32
		id       uint32
	}
	list := make([]keyed, len(b.owners))
	keys := make([]byte, 0, len(b.names))
	for id := range b.owners {
		from := len(keys)
		keys = appendOrderKey(keys, b.ownerName(id), len(b.apex))
		k := keyed{from: uint32(from), to: uint32(len(keys)), id: uint32(id)}
		for i := range 8 {
			k.first <<= 8
			if from+i < len(keys) {
				k.first |= uint64(keys[from+i])
			}
		}
		list[id] = k
	}
	slices.SortFunc(list, func(a, b keyed) int {
		if a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		return bytes.Compare(keys[a.from:a.to], keys[b.from:b.to])
	})
	out := make([]uint32, len(list))
	for i, k := range list {
		out[i] = k.id
	}
	return out
}

// fail tells of a record that cannot be part of the zone.
func (b *Builder) fail(r *record, format string, args ...any) {
	b.report.failAt(r.file, r.line, format, args...)
}

func (b *Builder) warn(r *record, format string, args ...any) {
	b.report.warnAt(r.file, r.line, format, args...)
}

func (b *Builder) textOf(r *record) string {
	return fmt.Sprintf("%s %s", Text(b.ownerName(int(r.owner))), TypeName(r.rtype))
}
