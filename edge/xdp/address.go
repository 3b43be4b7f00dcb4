package xdp

import "net/netip"

// toAddress gives the tables' form of an address: IPv4 as ::ffff:a.b.c.d, the
// zero Addr as zeros.
func toAddress(a netip.Addr) edgeAddress {
	if !a.IsValid() {
		return edgeAddress{}
	}
	return edgeAddress{Octet: a.As16()}
}

func fromAddress(a edgeAddress) netip.Addr { return netip.AddrFrom16(a.Octet).Unmap() }

// swap16 turns a number of 16 bits into network order on a little-endian host
// or back.
func swap16(v uint16) uint16 { return v<<8 | v>>8 }

func (f frontend) key() edgeVipKey {
	k := edgeVipKey{Addr: toAddress(f.addr), Port: swap16(f.port), Proto: f.proto}
	if f.bits > 0 {
		k.Net = 1
	}
	return k
}

// toNetwork gives the tables' form of a network.
func toNetwork(p netip.Prefix) edgeNetwork {
	n := edgeNetwork{Bits: uint32(p.Bits()), Addr: p.Addr().As16()}
	if p.Addr().Is4() {
		n.Bits += 96
	}
	return n
}

func fromNetwork(n edgeNetwork) netip.Prefix {
	a := netip.AddrFrom16(n.Addr).Unmap()
	if a.Is4() {
		n.Bits -= 96
	}
	return netip.PrefixFrom(a, int(n.Bits))
}

// vipKey is the key of an address as a whole.
func vipKey(a netip.Addr) edgeVipKey { return edgeVipKey{Addr: toAddress(a)} }
