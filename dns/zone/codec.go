package zone

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"meridian/fleet"
)

// magic begins an encoded zone: a mark that no master file has, and the version
// of the form.
const (
	mark  = "\x00gslb zone "
	magic = mark + "2\n"
)

// Encoded says whether data is what Encode gave, of this version or another,
// and no master file.
func Encoded(data []byte) bool { return bytes.HasPrefix(data, []byte(mark)) }

// Encode gives the zone in binary form: all records, signatures and variants,
// and what it is signed with online, without marks of steered names and
// warnings. Equal zones give equal octets.
func (z *Zone) Encode() []byte {
	e := encoder{out: []byte(magic), tail: len(z.Apex().Name)}
	e.bytes([]byte(z.Apex().Name))
	e.bytes(z.Online)
	full, sets := 0, 0
	for n := range z.Nodes() {
		if len(n.Sets) > 0 {
			full++
			sets += len(n.Sets)
		}
	}
	e.numbers(full, sets, len(z.nsec3), len(z.variants))
	for n := range z.Nodes() {
		if len(n.Sets) == 0 {
			continue
		}
		e.name(n.Name)
		e.numbers(len(n.Sets))
		for i := range n.Sets {
			e.set(&n.Sets[i])
		}
	}
	for n := range z.NSEC3s() {
		e.name(n.Name)
		e.set(&n.Set)
	}
	for _, k := range z.variantKeys() {
		e.name(k.owner)
		e.numbers(len(z.variants[k]))
		for i := range z.variants[k] {
			v := &z.variants[k][i]
			e.set(&v.Set)
			e.numbers(len(v.Lacks))
			for _, t := range v.Lacks {
				e.numbers(int(t))
			}
			e.flag(v.Export)
		}
	}
	e.flag(z.Exports)
	return e.out
}

func (z *Zone) variantKeys() []variantKey {
	keys := make([]variantKey, 0, len(z.variants))
	for k := range z.variants {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b variantKey) int {
		return cmp.Or(Compare(a.owner, b.owner), cmp.Compare(a.rtype, b.rtype))
	})
	return keys
}

type encoder struct {
	out  []byte
	tail int // length of the apex, which every name ends in
}

func (e *encoder) numbers(list ...int) {
	for _, n := range list {
		e.out = binary.AppendUvarint(e.out, uint64(n))
	}
}

func (e *encoder) flag(b bool) {
	n := 0
	if b {
		n = 1
	}
	e.numbers(n)
}

func (e *encoder) bytes(b []byte) {
	e.numbers(len(b))
	e.out = append(e.out, b...)
}

func (e *encoder) name(n string) { e.bytes([]byte(n[:len(n)-e.tail])) }

func (e *encoder) set(s *RRset) {
	e.numbers(int(s.Type), int(s.TTL), s.Count)
	e.bytes(s.Data)
	e.bytes(s.Sigs)
}

// Decode reads what Encode gave. The zone keeps data, which must not be
// changed. What cannot be a zone is refused.
func Decode(name fleet.Name, data []byte) (*Zone, error) {
	z, err := decode(name, data)
	if err != nil {
		return nil, fmt.Errorf("encoded zone %s: %w", name, err)
	}
	z.source = sourceOf(data)
	return z, nil
}

func decode(name fleet.Name, data []byte) (*Zone, error) {
	d := decoder{in: data, apex: string(Wire(name))}
	if !Encoded(data) {
		return nil, errors.New("is none")
	}
	if !bytes.HasPrefix(data, []byte(magic)) {
		return nil, errors.New("is of another version of this program")
	}
	d.in = d.in[len(magic):]
	if apex := d.bytes(); string(apex) != d.apex {
		return nil, errors.New("is another zone")
	}
	z := &Zone{Name: name}
	if online := d.bytes(); len(online) > 0 {
		z.Online = online
	}
	full, sets, hashes, variants := d.count(4), d.count(4), d.count(4), d.count(4)
	nodes := d.nodes(full, sets)
	z.nsec3 = d.nsec3s(hashes)
	z.variants = d.variants(variants)
	z.Exports = d.flag()
	if d.err == nil && len(d.in) > 0 {
		d.err = errors.New("octets are left over")
	}
	if d.err != nil {
		return nil, d.err
	}
	z.assemble(nodes)
	if err := z.finish(&report{}); err != nil {
		return nil, err
	}
	if !z.checkExports() {
		return nil, errors.New("what is exported is wrong")
	}
	return z, nil
}

// decoder reads from octets that may be wrong; after the first error it gives
// zeros.
type decoder struct {
	in   []byte
	apex string
	err  error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = errors.New(what)
	}
	d.in = nil
}

func (d *decoder) number(limit uint64) int {
	v, n := binary.Uvarint(d.in)
	if n <= 0 || v > limit {
		d.fail("a number is wrong")
		return 0
	}
	d.in = d.in[n:]
	return int(v)
}

func (d *decoder) flag() bool { return d.number(1) == 1 }

// count reads how many things of at least size octets each follow.
func (d *decoder) count(size int) int { return d.number(uint64(len(d.in) / size)) }

func (d *decoder) take(n int) []byte {
	if n > len(d.in) {
		d.fail("it is cut short")
		return nil
	}
	out := d.in[:n:n]
	d.in = d.in[n:]
	return out
}

func (d *decoder) bytes() []byte { return d.take(d.number(uint64(len(d.in)))) }

// name appends a name in wire form.
func (d *decoder) name(dst []byte) []byte {
	from := len(dst)
	dst = append(append(dst, d.bytes()...), d.apex...)
	name := dst[from:]
	if d.err != nil {
		return dst
	}
	for _, c := range name {
		if c != Lower(c) {
			d.fail("a name is not in lower case")
			return dst
		}
	}
	if WireLen(name) != len(name) || !Below(name, d.apex) {
		d.fail("a name is wrong")
	}
	return dst
}

func (d *decoder) set() RRset {
	s := RRset{Type: uint16(d.number(1<<16 - 1)), TTL: uint32(d.number(1<<31 - 1)), Count: d.count(2)}
	s.Data, s.Sigs = d.bytes(), d.bytes()
	if len(s.Sigs) == 0 {
		s.Sigs = nil
	}
	if d.err != nil {
		return s
	}
	if err := checkSet(&s); err != nil {
		d.fail(fmt.Sprintf("%s: %v", TypeName(s.Type), err))
		return s
	}
	for rdata := range each(s.Sigs) {
		if Covered(rdata) != s.Type {
			d.fail("a signature covers another type")
			break
		}
	}
	return s
}

func (d *decoder) nodes(full, total int) []Node {
	nodes, sets := make([]Node, 0, full+1), make([]RRset, 0, total)
	names, ends := make([]byte, 0, full*(len(d.apex)+8)), make([]int, 0, full)
	for range full {
		names = d.name(names)
		ends = append(ends, len(names))
		from := len(sets)
		for range d.count(4) {
			s := d.set()
			if s.Type == TypeRRSIG || s.Type == TypeNSEC3 || len(sets) > from && sets[len(sets)-1].Type >= s.Type {
				d.fail("types are out of order")
			}
			if d.err != nil {
				return nil
			}
			sets = append(sets, s)
		}
		if len(sets) == from {
			d.fail("a name has no data")
			return nil
		}
		nodes = append(nodes, Node{Sets: sets[from:len(sets):len(sets)]})
	}
	text, from := string(names), 0
	for i, end := range ends {
		nodes[i].Name, from = text[from:end], end
		if i > 0 && Compare(nodes[i-1].Name, nodes[i].Name) >= 0 {
			d.fail("names are out of order")
			return nil
		}
	}
	if len(nodes) == 0 || nodes[0].Name != d.apex {
		d.fail("it has no apex")
	}
	return nodes
}

func (d *decoder) nsec3s(count int) []NSEC3 {
	var out []NSEC3
	for range count {
		n := NSEC3{Name: string(d.name(nil)), Set: d.set()}
		if d.err != nil {
			return nil
		}
		var ok bool
		if n.Hash, ok = nsec3Hash(n.Name, len(d.apex)); !ok || n.Set.Type != TypeNSEC3 {
			d.fail("an NSEC3 is wrong")
		}
		if len(out) > 0 && out[len(out)-1].Hash >= n.Hash {
			d.fail("hashes are out of order")
		}
		out = append(out, n)
	}
	return out
}

func (d *decoder) variants(count int) map[variantKey][]Variant {
	if count == 0 {
		return nil
	}
	out := make(map[variantKey][]Variant, count)
	for range count {
		owner := string(d.name(nil))
		for i := range d.count(6) {
			v := Variant{Set: d.set()}
			for range d.count(1) {
				v.Lacks = append(v.Lacks, uint16(d.number(1<<16-1)))
			}
			v.Export = d.flag()
			k := variantKey{owner, v.Set.Type}
			if i == 0 && len(out[k]) > 0 || i > 0 && len(out[k]) == 0 {
				d.fail("variants are out of order")
			}
			if d.err != nil {
				return nil
			}
			out[k] = append(out[k], v)
		}
	}
	return out
}
