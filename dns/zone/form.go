package zone

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
	case TypeMX, 18, 21, 36: // AFSDB, RT, KX
		return "2n"
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
