package fleet

import (
	"fmt"
	"net/netip"
	"strings"
)

// Access is one line of an access list: whom it speaks of, and whether they
// are let in.
type Access struct {
	Deny bool
	From netip.Prefix // zero: from anywhere
	Key  Name         // of a verified TSIG key; "": with any or none
}

// ParseAccess reads PREFIX or an address, key:NAME, or both joined by "+" where
// both are asked for; with "!" before it who fits is refused.
func ParseAccess(s string) (Access, error) {
	var a Access
	text, deny := strings.CutPrefix(s, "!")
	a.Deny = deny
	for part := range strings.SplitSeq(text, "+") {
		name, isKey := strings.CutPrefix(part, "key:")
		var err error
		switch {
		case isKey:
			a.Key, err = ParseName(name)
		case strings.Contains(part, "/"):
			a.From, err = netip.ParsePrefix(part)
		default:
			var addr netip.Addr
			if addr, err = netip.ParseAddr(part); err == nil {
				a.From = netip.PrefixFrom(addr, addr.BitLen())
			}
		}
		if err != nil {
			return a, fmt.Errorf("%q is not PREFIX, key:NAME or PREFIX+key:NAME, with ! before it to refuse", s)
		}
	}
	return a, nil
}

// Allowed says whether a list lets a client in, with its verified key or "":
// the first line that fits decides, and where none does it is refused.
func Allowed(list []Access, client netip.Addr, key Name) bool {
	for _, a := range list {
		if (!a.From.IsValid() || a.From.Contains(client)) && (a.Key == "" || a.Key == key) {
			return !a.Deny
		}
	}
	return false
}
