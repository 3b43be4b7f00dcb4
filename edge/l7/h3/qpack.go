package h3

import (
	"errors"

	"golang.org/x/net/http2/hpack"

	"meridian/edge/l7/wire"
)

// errQPACK says that a field section cannot be read at all (RFC 9204 section 6).
var errQPACK = errors.New("field section: malformed, or of a dynamic table")

// fieldCost is what a field counts besides its octets (RFC 9114 section 4.2.2).
const fieldCost = 32

// decoder reads field sections. We announce no dynamic table, so one section
// says nothing about another.
type decoder struct {
	h    *wire.Head
	text []byte // what was decoded last
}

// Write implements the writer that Huffman-coded text is decoded to.
func (d *decoder) Write(p []byte) (int, error) {
	d.text = d.h.Keep(p)
	return len(p), nil
}

// section adds the fields of b to h and gives the pseudo-fields to pseudo. It
// keeps nothing of b. Errors: errQPACK; a fault where the section is readable
// and against the rules, TooLarge for more than limit octets.
func (d *decoder) section(b []byte, h *wire.Head, limit int, pseudo func(h *wire.Head, name, value []byte) wire.Fault) (wire.Fault, error) {
	d.h = h
	inserts, b, ok := prefixed(b, 8)
	if !ok || inserts != 0 {
		return 0, errQPACK
	}
	if len(b) == 0 || b[0]&0x80 != 0 { // Base before a Required Insert Count of 0
		return 0, errQPACK
	}
	if _, b, ok = prefixed(b, 7); !ok {
		return 0, errQPACK
	}
	size, crumbs, fault := 0, 0, wire.NoFault
	for len(b) > 0 {
		var f wire.Field
		var err error
		if f, b, err = d.field(b); err != nil {
			return 0, err
		}
		size += len(f.Name) + len(f.Value) + fieldCost
		if f.ID == wire.Cookie { // clients make many of one (RFC 9114 section 4.2.1)
			crumbs++
		}
		switch {
		case fault != wire.NoFault: // go on for what is no fault but an error
		case size > limit || len(h.Fields)-crumbs >= wire.MaxFields:
			fault = wire.TooLarge
		case len(f.Name) == 0:
			fault = wire.BadName
		case f.Name[0] == ':':
			fault = pseudo(h, f.Name, f.Value)
		default:
			h.Fields = append(h.Fields, f)
		}
	}
	return fault, nil
}

// field reads a line (RFC 9204 section 4.5).
func (d *decoder) field(b []byte) (f wire.Field, rest []byte, err error) {
	switch first := b[0]; {
	case first&0xc0 == 0xc0: // indexed, static
		return indexed(b, 6)
	case first&0xd0 == 0x50: // literal with a static name
		if f, b, err = indexed(b, 4); err != nil {
			return f, nil, err
		}
	case first&0xe0 == 0x20: // literal
		if f.Name, b, err = d.literal(b, 3); err != nil {
			return f, nil, err
		}
		f.ID = wire.Lookup(f.Name)
	default:
		return f, nil, errQPACK
	}
	f.Value, b, err = d.literal(b, 7)
	return f, b, err
}

// indexed reads a reference to the static table.
func indexed(b []byte, bits uint8) (wire.Field, []byte, error) {
	i, rest, ok := prefixed(b, bits)
	if !ok || i >= uint64(len(static)) {
		return wire.Field{}, nil, errQPACK
	}
	return static[i].Field, rest, nil
}

// literal reads a string whose length has so many bits in the first octet, and
// the mark of Huffman coding before them (RFC 9204 section 4.1.2).
func (d *decoder) literal(b []byte, bits uint8) (text, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errQPACK
	}
	coded := b[0]>>bits&1 == 1
	n, b, ok := prefixed(b, bits)
	if !ok || n > uint64(len(b)) {
		return nil, nil, errQPACK
	}
	if !coded {
		return d.h.Keep(b[:n]), b[n:], nil
	}
	if _, err := hpack.HuffmanDecode(d, b[:n]); err != nil {
		return nil, nil, errQPACK
	}
	return d.text, b[n:], nil
}

// prefixed reads an integer that begins in the last bits of an octet (RFC 9204
// section 4.1.1). false: it is cut short or longer than 62 bits.
func prefixed(b []byte, bits uint8) (n uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	most := byte(1<<bits - 1)
	n = uint64(b[0] & most)
	if n < uint64(most) {
		return n, b[1:], true
	}
	for i, shift := 1, 0; i < len(b) && shift < 56; i, shift = i+1, shift+7 {
		n += uint64(b[i]&0x7f) << shift
		if b[i]&0x80 == 0 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// appendSection writes the field section of an answer; of trailers where status
// is 0. Fields that belong to one connection of HTTP/1.1 are left out (RFC 9114
// section 4.2). Nothing is Huffman-coded: it would cost more than the octets do.
func appendSection(b []byte, status int, fields []wire.Field) []byte {
	b = append(b, 0, 0)
	if status > 0 {
		b = appendStatus(b, status)
	}
	for i := range fields {
		if f := &fields[i]; !f.ID.HopByHop() {
			b = appendField(b, f)
		}
	}
	return b
}

func appendStatus(b []byte, status int) []byte {
	if i := byStatus[status]; i > 0 {
		return wire.AppendInteger(b, 0xc0, 6, int(i))
	}
	b = wire.AppendInteger(b, 0x50, 4, anyStatus)
	return append(b, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// longestKnown bounds the names that are looked up in byName.
const longestKnown = 32

func appendField(b []byte, f *wire.Field) []byte {
	var entries []int
	if f.ID != wire.Other {
		entries = byID[f.ID]
	} else if len(f.Name) <= longestKnown {
		var name [longestKnown]byte
		entries = byName[string(appendLower(name[:0], f.Name))]
	}
	for _, i := range entries {
		if string(static[i].Value) == string(f.Value) {
			return wire.AppendInteger(b, 0xc0, 6, i)
		}
	}
	if len(entries) > 0 {
		b = wire.AppendInteger(b, 0x50, 4, entries[0])
	} else {
		b = wire.AppendInteger(b, 0x20, 3, len(f.Name))
		b = appendLower(b, f.Name)
	}
	b = wire.AppendInteger(b, 0, 7, len(f.Value))
	return append(b, f.Value...)
}

func appendLower(b, s []byte) []byte {
	for _, c := range s {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}
