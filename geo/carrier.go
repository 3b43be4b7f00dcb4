package geo

import "net/netip"

// The classes of IPv6 addresses that carry an IPv4 address, which alone says
// where the client is.
const (
	InSixToFour Class = 0xFFFF01 // 2002::/16 (RFC 3056): bits 16 to 47
	InTeredo    Class = 0xFFFF02 // 2001::/32 (RFC 4380): the last 32 bits, inverted
	InLast32    Class = 0xFFFF03 // ::ffff:0:0/96 and 64:ff9b::/96 (RFC 6052): the last 32 bits

	maxClass = InSixToFour - 1
)

var carriers = [...]struct {
	prefix netip.Prefix
	class  Class
}{
	{netip.MustParsePrefix("::ffff:0:0/96"), InLast32},
	{netip.MustParsePrefix("64:ff9b::/96"), InLast32},
	{netip.MustParsePrefix("2001::/32"), InTeredo},
	{netip.MustParsePrefix("2002::/16"), InSixToFour},
}

// Carried gives the IPv4 address that an IPv6 address carries (mapped, 6to4,
// Teredo, 64:ff9b::/96), which alone says where a client is; any other address
// comes back as it is.
func Carried(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	n := number(a)
	for _, c := range carriers {
		if !c.prefix.Contains(a) {
			continue
		}
		switch c.class {
		case InSixToFour:
			return addr4(uint32(n.hi >> 16))
		case InTeredo:
			return addr4(^uint32(n.lo))
		default:
			return addr4(uint32(n.lo))
		}
	}
	return a
}

// isCarried says whether all of a network carries IPv4 addresses.
func isCarried(p netip.Prefix) bool {
	for _, c := range carriers {
		if c.prefix.Bits() <= p.Bits() && c.prefix.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// carried gives the spaces whose addresses carry IPv4 ones.
func carried() []span {
	var out []span
	for _, c := range carriers {
		out = append(out, span{number(c.prefix.Addr()), lastOf(c.prefix), c.class})
	}
	return out
}

// join gives the blocks of IPv6 where all of IPv4 is of one class: the spaces
// that carry IPv4 addresses are of that class, and may join their neighbours.
func join(blocks []Block, k Class) []Block {
	var at u128
	w := writer{width: 128}
	for _, b := range blocks {
		if class := b.Class(); class <= maxClass {
			w.start(at, class)
		} else {
			w.start(at, k)
		}
		at = at.after(b.Bits())
	}
	w.end(at)
	return w.blocks
}
