package zone

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// layout tells the fields of a type's RDATA, one letter each: n a name that
// canonical form folds, N one that it keeps; 1, 2, 4 so many octets; S a
// character string or other data behind an octet of length; T such strings up
// to the end, at least one; B a type bitmap (RFC 4034 section 4.1.2); K
// service parameters (RFC 9460 section 2.2); * anything up to the end. Empty:
// nothing is known of the type.
func layout(t uint16) string {
	switch t {
	case TypeA:
		return "4"
	case TypeAAAA, 29: // LOC
		return "4444"
	case TypeNS, 3, 4, TypeCNAME, 7, 8, 9, TypePTR, TypeDNAME: // MD, MF, MB, MG, MR
		return "n"
	case TypeSOA:
		return "nn44444"
	case 14, 17: // MINFO, RP
		return "nn"
	case TypeMX, 18, 21, 36: // AFSDB, RT, KX
		return "2n"
	case 26: // PX
		return "2nn"
	case TypeSRV:
		return "222n"
	case 35: // NAPTR
		return "22SSSn"
	case 24, TypeRRSIG: // SIG
		return "2114442n*"
	case 30: // NXT
		return "n*"
	case 13: // HINFO
		return "SS"
	case 19: // X25
		return "S"
	case 27: // GPOS
		return "SSS"
	case TypeTXT, 99, 258: // SPF, AVC
		return "T"
	case TypeNSEC:
		return "NB"
	case TypeNSEC3:
		return "112SSB"
	case TypeNSEC3PARAM:
		return "112S"
	case TypeDS, TypeCDS, TypeDNSKEY, TypeCDNSKEY, TypeKEY, 32769, 32768: // DLV, TA
		return "211*"
	case TypeSVCB, TypeHTTPS:
		return "2NK"
	case TypeZONEMD:
		return "411*"
	case 257: // CAA
		return "1S*"
	case 52, 53: // TLSA, SMIMEA
		return "111*"
	case 44: // SSHFP
		return "11*"
	case 62: // CSYNC
		return "42B"
	case 107: // LP
		return "2N"
	case 104, 106: // NID, L64
		return "244"
	case 105, 108: // L32, EUI48
		return "24"
	case 109: // EUI64
		return "44"
	}
	return ""
}

// hasNames says whether canonical form may differ from the RDATA.
func hasNames(t uint16) bool { return strings.IndexByte(layout(t), 'n') >= 0 }

// fieldLen is the length of the field of a layout that b begins with; more
// than len(b), or -1, where it is not well formed.
func fieldLen(kind byte, b []byte) int {
	switch kind {
	case 'n', 'N':
		if n := WireLen(b); n > 0 {
			return n
		}
		return -1
	case '1', '2', '4':
		return int(kind - '0')
	case 'S':
		if len(b) == 0 {
			return -1
		}
		return 1 + int(b[0])
	case 'T':
		at := 0
		for at < len(b) {
			at += 1 + int(b[at])
		}
		if at == 0 {
			return -1
		}
		return at
	case 'B':
		return bitmapLen(b)
	case 'K':
		return paramsLen(b)
	}
	return len(b)
}

// paramsLen is the length of b where it is a list of service parameters.
func paramsLen(b []byte) int {
	last := -1
	for at := 0; at < len(b); {
		if len(b)-at < 4 || int(b[at])<<8|int(b[at+1]) <= last {
			return -1
		}
		last = int(b[at])<<8 | int(b[at+1])
		at += 4 + int(b[at+2])<<8 + int(b[at+3])
		if at > len(b) {
			return -1
		}
	}
	return len(b)
}

// checkMandatory holds the mandatory parameter of well-formed SVCB RDATA to
// its rules (RFC 9460 section 8): keys in order, each there, itself not.
func checkMandatory(rdata []byte) error {
	params := rdata[2+WireLen(rdata[2:]):]
	if len(params) < 4 || params[0] != 0 || params[1] != 0 {
		return nil
	}
	n := int(params[2])<<8 | int(params[3])
	keys, others := params[4:4+n], params[4+n:]
	if n == 0 || n%2 != 0 {
		return errors.New("mandatory is no list of keys (RFC 9460 section 8)")
	}
	for last := 0; len(keys) > 0; keys = keys[2:] {
		key := int(keys[0])<<8 | int(keys[1])
		if key <= last {
			return errors.New("mandatory names itself or a key twice (RFC 9460 section 8)")
		}
		for last = key; ; {
			if len(others) == 0 || int(others[0])<<8|int(others[1]) > key {
				return fmt.Errorf("mandatory names key %d, which is not there (RFC 9460 section 8)", key)
			}
			have := int(others[0])<<8 | int(others[1])
			others = others[4+int(others[2])<<8+int(others[3]):]
			if have == key {
				break
			}
		}
	}
	return nil
}

// checkALPN holds the alpn parameter of well-formed SVCB RDATA to its form (RFC
// 9460 section 7.1.1): one protocol or more, each with a name.
func checkALPN(rdata []byte) error {
	for p := rdata[2+WireLen(rdata[2:]):]; len(p) > 0; {
		key, value := int(p[0])<<8|int(p[1]), p[4:4+int(p[2])<<8+int(p[3])]
		p = p[4+len(value):]
		for left, n := value, 0; key == 1 && (len(left) > 0 || n == 0); n++ {
			if len(left) == 0 || left[0] == 0 || 1+int(left[0]) > len(left) {
				return errors.New("alpn names no protocol, or an empty one (RFC 9460 section 7.1.1)")
			}
			left = left[1+int(left[0]):]
		}
	}
	return nil
}

var errRDATA = errors.New("the data is not of the type's form")

// CheckRDATA says whether RDATA has the form of its type, as far as that is
// known here; names in it must not be compressed.
func CheckRDATA(t uint16, rdata []byte) error {
	if t == 0 || t == 41 || 128 <= t && t <= 255 { // RFC 6895 section 3.1: no type of data
		return errors.New("the type is no type of data")
	}
	if len(rdata) > 65535 {
		return errors.New("the data is longer than 65535 octets")
	}
	form := layout(t)
	if form == "" {
		return nil
	}
	at := 0
	for i := 0; i < len(form); i++ {
		n := fieldLen(form[i], rdata[at:])
		if n < 0 || n > len(rdata)-at {
			return errRDATA
		}
		at += n
	}
	if at != len(rdata) {
		return errRDATA
	}
	if t == TypeSVCB || t == TypeHTTPS {
		return cmp.Or(checkMandatory(rdata), checkALPN(rdata))
	}
	return nil
}

// Covered is the type that an RRSIG's RDATA covers.
func Covered(rdata []byte) uint16 { return uint16(rdata[0])<<8 | uint16(rdata[1]) }
