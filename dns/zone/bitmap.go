package zone

import "iter"

// bitmapLen is the length of b where it is a type bitmap: blocks in order, none
// of them empty or with octets of zeros at its end.
func bitmapLen(b []byte) int {
	last := -1
	for at := 0; at < len(b); {
		if len(b)-at < 3 || int(b[at]) <= last || b[at+1] < 1 || b[at+1] > 32 {
			return -1
		}
		last = int(b[at])
		at += 2 + int(b[at+1])
		if at > len(b) || b[at-1] == 0 {
			return -1
		}
	}
	return len(b)
}

// BitmapTypes gives the types of a bitmap (RFC 4034 section 4.1.2), in order.
func BitmapTypes(b []byte) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for len(b) > 2 {
			for i, bits := range b[2 : 2+b[1]] {
				for k := range 8 {
					if bits&(0x80>>k) != 0 && !yield(uint16(b[0])<<8|uint16(8*i+k)) {
						return
					}
				}
			}
			b = b[2+b[1]:]
		}
	}
}

// AppendBitmap appends the type bitmap of types in order (RFC 4034 section
// 4.1.2).
func AppendBitmap(dst []byte, types []uint16) []byte {
	for i := 0; i < len(types); {
		window := types[i] >> 8
		var bits [32]byte
		n := 0
		for ; i < len(types) && types[i]>>8 == window; i++ {
			low := types[i] & 255
			bits[low/8] |= 0x80 >> (low % 8)
			n = int(low/8) + 1
		}
		dst = append(append(dst, byte(window), byte(n)), bits[:n]...)
	}
	return dst
}
