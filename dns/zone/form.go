package zone

import (
	"bytes"
	"fmt"
	"strconv"
)

// textForm tells how the RDATA of a type is written, one letter a field, in
// the order of the wire form; "" for types that are left to miekg/dns.
//
//	1 2 4  number of so many octets     n  name
//	i v    IPv4, IPv6 address           s  character string
//	t      32 bits of time, units too   T  character strings to the end
//	d      moment (RFC 4034 3.2)        c  octets to the end as one string
//	y      type                         a  algorithm
//	x      hexadecimal to the end       b  base64 to the end
//	S      hexadecimal salt, - if none  H  base32 hash (RFC 5155 3.3)
//	B      type bitmap                  g  letters and digits as a string
//	h      four groups of 16 bits in hexadecimal, as in IPv6 (RFC 6742)
func textForm(t uint16) string {
	switch t {
	case TypeA:
		return "i"
	case TypeAAAA:
		return "v"
	case TypeNS, 3, 4, TypeCNAME, 7, 8, 9, TypePTR, TypeDNAME:
		return "n"
	case TypeSOA:
		return "nn4tttt"
	case 14, 17: // MINFO, RP
		return "nn"
	case TypeMX, 18, 21, 36, 107: // AFSDB, RT, KX, LP
		return "2n"
	case 19: // X25
		return "s"
	case 26: // PX
		return "2nn"
	case 27: // GPOS
		return "sss"
	case 104, 106: // NID, L64
		return "2h"
	case 105: // L32
		return "2i"
	case TypeSRV:
		return "222n"
	case 35: // NAPTR
		return "22sssn"
	case 13: // HINFO
		return "ss"
	case TypeTXT, 99, 258: // SPF, AVC
		return "T"
	case TypeDS, TypeCDS, 32769, 32768: // DLV, TA
		return "2a1x"
	case TypeDNSKEY, TypeCDNSKEY:
		return "21ab"
	case TypeRRSIG:
		return "ya1tdd2nb"
	case TypeNSEC:
		return "nB"
	case TypeNSEC3:
		return "112SHB"
	case TypeNSEC3PARAM:
		return "112S"
	case TypeZONEMD:
		return "411x"
	case 257: // CAA
		return "1gc"
	case 52, 53: // TLSA, SMIMEA
		return "111x"
	case 44: // SSHFP
		return "11x"
	case 61, 49: // OPENPGPKEY, DHCID
		return "b"
	}
	return ""
}

// appendGroups reads four groups of 16 bits, leading zeros left out or not.
func appendGroups(dst, tok []byte) ([]byte, error) {
	n := 0
	for group := range bytes.SplitSeq(tok, []byte(":")) {
		v, err := strconv.ParseUint(string(group), 16, 16)
		if n++; err != nil || n > 4 || len(group) > 4 {
			n = 0
			break
		}
		dst = appendNumber(dst, 2, v)
	}
	if n != 4 {
		return dst, fmt.Errorf("%q is not four groups of hexadecimal digits", tok)
	}
	return dst, nil
}

// appendGroupText writes them without leading zeros.
func appendGroupText(dst, b []byte) []byte {
	for i := 0; i < 8; i += 2 {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = strconv.AppendUint(dst, uint64(b[i])<<8|uint64(b[i+1]), 16)
	}
	return dst
}
