package h2

import (
	"golang.org/x/net/http2/hpack"

	"meridian/edge/l7/wire"
)

// tableSize is the dynamic table that this end's decoder keeps, the default of
// RFC 9113 section 6.5.2.
const tableSize = 4096

// entryCost is what RFC 7541 section 4.1 adds to the octets of a field.
const entryCost = 32

// field is a decoded field. Its slices hold until the next one is decoded.
type field struct {
	id          wire.ID
	name, value []byte
	resized     bool // it is none, but a change of the table's size
}

// entry is a field of the dynamic table: where its name begins in decoder.text,
// with the value right after it.
type entry struct {
	id          wire.ID
	at          int
	name, value int // lengths
}

// decoder is HPACK's (RFC 7541). Its table is one run of octets: to decode what
// it has seen allocates nothing, unlike x/net's, which keeps strings and maps.
// The zero decoder is not ready; see newDecoder. It is not for concurrent use.
type decoder struct {
	entries []entry // oldest first, from first on
	first   int
	text    []byte
	size    int // as RFC 7541 section 4.1 counts
	limit   int // set by the encoder, at most tableSize

	name, value scratch // what Huffman decoding gives
}

// scratch takes what hpack.HuffmanDecode writes.
type scratch []byte

func (s *scratch) Write(p []byte) (int, error) {
	*s = append(*s, p...)
	return len(p), nil
}

func newDecoder() decoder { return decoder{limit: tableSize} }

var errCompression = broken(CompressionError, "hpack")

// next decodes one field of block. A table size update gives a field
// marked so; it must stand first (RFC 7541 section 4.2), which begin says.
func (d *decoder) next(block []byte, begin bool) (f field, rest []byte, err error) {
	b := block[0]
	switch {
	case b&0x80 != 0: // indexed
		i, rest, err := integer(block, 7)
		if err != nil {
			return field{}, nil, err
		}
		f, err := d.at(i)
		return f, rest, err
	case b&0xc0 == 0x40:
		f, rest, err = d.literal(block, 6)
		if err == nil {
			f = d.insert(f)
		}
		return f, rest, err
	case b&0xe0 == 0x20:
		n, rest, err := integer(block, 5)
		if err != nil || !begin || n > tableSize {
			return field{}, nil, errCompression
		}
		d.limit = n
		d.evict(0)
		return field{resized: true}, rest, nil
	}
	return d.literal(block, 4)
}

// literal decodes a field whose value is spelled out, and maybe its name.
func (d *decoder) literal(block []byte, prefix int) (f field, rest []byte, err error) {
	i, rest, err := integer(block, prefix)
	if err != nil {
		return field{}, nil, err
	}
	if i > 0 {
		if f, err = d.at(i); err != nil {
			return field{}, nil, err
		}
	} else {
		if f.name, rest, err = text(rest, &d.name); err != nil {
			return field{}, nil, err
		}
		f.id = wire.Lookup(f.name)
	}
	f.value, rest, err = text(rest, &d.value)
	return f, rest, err
}

// at finds an index (RFC 7541 section 2.3.3).
func (d *decoder) at(i int) (field, error) {
	switch {
	case i == 0:
		return field{}, errCompression
	case i < len(static):
		return static[i].field, nil
	}
	k := len(d.entries) - 1 - (i - len(static))
	if k < d.first {
		return field{}, errCompression
	}
	e := &d.entries[k]
	value := e.at + e.name
	return field{id: e.id, name: d.text[e.at:value:value], value: d.text[value : value+e.value]}, nil
}

// insert adds f to the table and gives it with slices that hold.
func (d *decoder) insert(f field) field {
	cost := len(f.name) + len(f.value) + entryCost
	if cost > d.limit {
		d.evict(d.limit + 1)
		return f
	}
	// The name may lie in the table, in an entry that this one drives out;
	// its octets stay where they are until they have been copied.
	d.evict(cost)
	at := len(d.text)
	d.text = append(append(d.text, f.name...), f.value...)
	d.entries = append(d.entries, entry{f.id, at, len(f.name), len(f.value)})
	d.size += cost
	value := at + len(f.name)
	out := field{id: f.id, name: d.text[at:value:value], value: d.text[value:]}
	if at > 4*tableSize || d.first > tableSize/entryCost { // fields may have no octets at all
		d.compact()
		at = d.entries[len(d.entries)-1].at
		out.name, out.value = d.text[at:at+len(f.name)], d.text[at+len(f.name):]
	}
	return out
}

// evict makes room for cost.
func (d *decoder) evict(cost int) {
	for d.first < len(d.entries) && d.size+cost > d.limit {
		e := &d.entries[d.first]
		d.size -= e.name + e.value + entryCost
		d.first++
	}
	if d.first == len(d.entries) {
		d.entries, d.first, d.size = d.entries[:0], 0, 0
	}
}

// compact moves what lives to the front.
func (d *decoder) compact() {
	d.entries = append(d.entries[:0], d.entries[d.first:]...)
	d.first = 0
	from := d.entries[0].at
	d.text = append(d.text[:0], d.text[from:]...)
	for i := range d.entries {
		d.entries[i].at -= from
	}
}

// integer reads one with a prefix of so many bits (RFC 7541 section 5.1).
func integer(p []byte, prefix int) (n int, rest []byte, err error) {
	if len(p) == 0 {
		return 0, nil, errCompression
	}
	mask := 1<<prefix - 1
	n = int(p[0]) & mask
	p = p[1:]
	if n < mask {
		return n, p, nil
	}
	for shift := 0; shift <= 21; shift += 7 {
		if len(p) == 0 {
			break
		}
		b := p[0]
		p = p[1:]
		n += int(b&0x7f) << shift
		if b&0x80 == 0 {
			return n, p, nil
		}
	}
	return 0, nil, errCompression
}

// text reads a string (RFC 7541 section 5.2), by way of s where it is Huffman
// coded.
func text(p []byte, s *scratch) (out, rest []byte, err error) {
	if len(p) == 0 {
		return nil, nil, errCompression
	}
	coded := p[0]&0x80 != 0
	n, p, err := integer(p, 7)
	if err != nil || n > len(p) {
		return nil, nil, errCompression
	}
	out, rest = p[:n:n], p[n:]
	if coded {
		*s = (*s)[:0]
		if _, err := hpack.HuffmanDecode(s, out); err != nil {
			return nil, nil, errCompression
		}
		out = *s
	}
	return out, rest, nil
}
