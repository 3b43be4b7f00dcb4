package zone

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// TypeName is the mnemonic of a type, or TYPEn (RFC 3597 section 5).
func TypeName(t uint16) string {
	if s := dns.TypeToString[t]; s != "" && s == strings.ToUpper(s) {
		return s
	}
	return fmt.Sprintf("TYPE%d", t)
}

// ParseType reads the mnemonic of a type, in any case, or TYPEn.
func ParseType(s string) (uint16, bool) { return new(parser).typeOf([]byte(s)) }
