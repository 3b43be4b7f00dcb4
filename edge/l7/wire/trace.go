package wire

import "encoding/hex"

// Trace is what the field Traceparent says (W3C Trace Context).
type Trace struct {
	ID      [16]byte // of the trace; never all zero
	Parent  [8]byte  // of the span that sent the request; never all zero
	Sampled bool
}

const traceLength = 55 // octets of version 00

// ParseTrace reads the field's value; false: it is to be ignored, with all
// Tracestate. A version above 00 is read as far as 00 goes.
func ParseTrace(v []byte) (t Trace, ok bool) {
	if len(v) < traceLength || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return t, false
	}
	var version, flags [1]byte
	if !octetsOf(version[:], v[:2]) || !octetsOf(t.ID[:], v[3:35]) || !octetsOf(t.Parent[:], v[36:52]) || !octetsOf(flags[:], v[53:55]) {
		return t, false
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(v) > traceLength, len(v) > traceLength && v[traceLength] != '-':
		return t, false
	case t.ID == [16]byte{}, t.Parent == [8]byte{}:
		return t, false
	}
	t.Sampled = flags[0]&1 != 0
	return t, true
}

// octetsOf reads lower-case digits, the only ones that are allowed.
func octetsOf(to, from []byte) bool {
	for i := range to {
		hi, lo := lowerDigit(from[2*i]), lowerDigit(from[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		to[i] = hi<<4 | lo
	}
	return true
}

func lowerDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// AppendTrace writes the field's value, in version 00.
func AppendTrace(b []byte, t *Trace) []byte {
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.ID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.Parent[:])
	if t.Sampled {
		return append(b, "-01"...)
	}
	return append(b, "-00"...)
}
