package sign

import (
	"encoding/binary"
	"iter"

	"meridian/dns/zone"
)

// each gives every RDATA of a set's Data or Sigs.
func each(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			var rdata []byte
			if rdata, data = zone.Next(data); !yield(rdata) {
				return
			}
		}
	}
}

// signedData is what a signature over a set covers (RFC 4034 section 3.1.8.1):
// head is the RRSIG RDATA without the signature, owner is in wire form and
// lower case, the set's records are in canonical order.
func signedData(head []byte, owner string, set *zone.RRset) []byte {
	out := append(make([]byte, 0, len(head)+len(set.Data)+set.Count*(len(owner)+8)), head...)
	for rdata := range each(set.Data) {
		out = appendRecord(out, owner, set.Type, set.TTL, zone.Canonical(set.Type, rdata))
	}
	return out
}

// appendRecord appends a record of class IN in wire form.
func appendRecord(out []byte, owner string, t uint16, ttl uint32, rdata []byte) []byte {
	out = append(out, owner...)
	out = binary.BigEndian.AppendUint16(out, t)
	out = binary.BigEndian.AppendUint16(out, 1)
	out = binary.BigEndian.AppendUint32(out, ttl)
	return appendRData(out, rdata)
}

// appendRData appends RDATA with its length, the form of zone.RRset.Data.
func appendRData(out, rdata []byte) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(rdata))), rdata...)
}

// labels counts the labels of an owner as RRSIG does: without the root and
// without a leading "*" (RFC 4034 section 3.1.3).
func labels[T string | []byte](owner T) uint8 {
	n := uint8(0)
	for at := owner; at[0] != 0; at = at[1+int(at[0]):] {
		n++
	}
	if owner[0] == 1 && owner[1] == '*' {
		n--
	}
	return n
}

// parent drops the first label of a name in wire form.
func parent(name string) string { return name[1+int(name[0]):] }

// bitmap writes a type bitmap (RFC 4034 section 4.1.2). types are sorted.
func bitmap(types []uint16) []byte {
	var out []byte
	for i := 0; i < len(types); {
		window := types[i] >> 8
		var bits [32]byte
		last := 0
		for ; i < len(types) && types[i]>>8 == window; i++ {
			low := types[i] & 0xff
			bits[low>>3] |= 0x80 >> (low & 7)
			last = int(low >> 3)
		}
		out = append(append(out, byte(window), byte(last+1)), bits[:last+1]...)
	}
	return out
}
