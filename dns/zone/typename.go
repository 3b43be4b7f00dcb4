package zone

import "github.com/miekg/dns"

// TypeName is the mnemonic of a type, or TYPEn (RFC 3597 section 5).
func TypeName(t uint16) string { return dns.Type(t).String() }
