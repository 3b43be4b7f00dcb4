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
	return edgeVipKey{Addr: toAddress(f.addr), Port: swap16(f.port), Proto: f.proto}
}

// vipKey is the key of an address as a whole.
func vipKey(a netip.Addr) edgeVipKey { return edgeVipKey{Addr: toAddress(a)} }
