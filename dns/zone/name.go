package zone

import (
	"encoding/binary"

	"meridian/fleet"
)

// Wire gives a name in wire form (RFC 1035 section 3.1), lower case as Names
// are.
func Wire(n fleet.Name) []byte {
	s := string(n)
	if s == "." {
		return []byte{0}
	}
	out := make([]byte, 0, len(s)+1)
	at := 0
	out = append(out, 0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			out[at] = byte(len(out) - at - 1)
			at = len(out)
			out = append(out, 0)
			continue
		case c == '\\' && '0' <= s[i+1] && s[i+1] <= '9':
			c = (s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0'
			i += 3
		case c == '\\':
			i++
			c = s[i]
		}
		out = append(out, c)
	}
	return out
}

// Text gives the Name of a name in wire form.
func Text(wire []byte) fleet.Name {
	out := AppendText(make([]byte, 0, len(wire)+8), wire)
	for i, c := range out {
		out[i] = Lower(c)
	}
	return fleet.Name(out)
}

// AppendText appends a name in wire form as text, its case as it is.
func AppendText(dst, wire []byte) []byte {
	if len(wire) == 1 {
		return append(dst, '.')
	}
	for wire[0] != 0 {
		for _, c := range wire[1 : 1+wire[0]] {
			switch {
			case c <= ' ' || c >= 0x7f:
				dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			case c == '.' || c == '\\' || c == '"' || c == '(' || c == ')' || c == ';' || c == '@' || c == '$':
				dst = append(dst, '\\', c)
			default:
				dst = append(dst, c)
			}
		}
		dst = append(dst, '.')
		wire = wire[1+wire[0]:]
	}
	return dst
}

// Lower folds one octet of a name (RFC 4343).
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// CopyLower copies a name in wire form to dst, which may be the name itself,
// folds it, and gives its length. Lengths of labels are below 'A'.
func CopyLower(dst, name []byte) int {
	n := len(name)
	dst = dst[:n]
	if n < 8 {
		for i, c := range name {
			dst[i] = Lower(c)
		}
		return n
	}
	for i := 0; i <= n-8; i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], lower8(binary.LittleEndian.Uint64(name[i:])))
	}
	binary.LittleEndian.PutUint64(dst[n-8:], lower8(binary.LittleEndian.Uint64(name[n-8:])))
	return n
}

// lower8 folds eight octets at a time: the highest bit of each tells whether
// its octet is a letter to fold.
func lower8(x uint64) uint64 {
	const each = 0x0101010101010101
	low := x & (0x7f * each)
	from, over := low+(0x80-'A')*each, low+(0x80-'Z'-1)*each
	return x | from&^over&^x&(0x80*each)>>2
}

// lowerWire folds a name in wire form, in place.
func lowerWire(name []byte) []byte {
	CopyLower(name, name)
	return name
}

// WireLen is the length of the name in wire form that b begins with, or 0
// where b holds no whole name of at most 255 octets without compression.
func WireLen(b []byte) int {
	for i := 0; i < len(b) && i < 255; {
		switch n := int(b[i]); {
		case n == 0:
			return i + 1
		case n > 63:
			return 0
		default:
			i += 1 + n
		}
	}
	return 0
}

// Below says whether a name is parent or lies below it, both in wire form and
// lower case.
func Below[N string | []byte](name N, parent string) bool {
	for len(name) > len(parent) {
		name = name[1+int(name[0]):]
	}
	return string(name) == parent
}

// Target gives the name in a record's RDATA that additional data may be
// wanted for (RFC 1035 section 3.3, RFC 2782, RFC 9460), or nil.
func Target(t uint16, rdata []byte) []byte {
	at := 0
	switch t {
	case TypeNS, TypeCNAME, TypeDNAME, TypePTR:
	case TypeMX, TypeSVCB, TypeHTTPS:
		at = 2
	case TypeSRV:
		at = 6
	default:
		return nil
	}
	if len(rdata) <= at {
		return nil
	}
	n := WireLen(rdata[at:])
	if n == 0 {
		return nil
	}
	return rdata[at : at+n]
}
