package xdp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Arrived says how long ago the last packet with data of a connection came to
// this gateway's device, for the connections that the Spec's layer4.latency_of
// picks; false for others. It is safe for concurrent use, and quick where a
// connection is not one of them.
func (l *Layer4) Arrived(client, vip netip.AddrPort) (ago time.Duration, ok bool) {
	oneIn := l.stamped.Load()
	client, vip = netip.AddrPortFrom(client.Addr().Unmap(), client.Port()), netip.AddrPortFrom(vip.Addr().Unmap(), vip.Port())
	if oneIn == 0 || !stamped(client, vip.Port(), oneIn) {
		return 0, false
	}
	key := edgeArrivalKey{Client: toAddress(client.Addr()), Vip: toAddress(vip.Addr()), Sport: swap16(client.Port()), Dport: swap16(vip.Port())}
	err := l.tables.look(func(k *kernel, _ *desired) error {
		var at uint64
		if err := k.Arrivals.Lookup(&key, &at); err != nil {
			return err
		}
		ago = monotonic() - time.Duration(at)
		return nil
	})
	return ago, err == nil
}

// stamped is is_stamped in bpf/stamp.h.
func stamped(client netip.AddrPort, port uint16, oneIn uint32) bool {
	a := client.Addr().As16()
	h := (binary.LittleEndian.Uint32(a[12:]) ^ uint32(swap16(client.Port()))<<16 ^ uint32(swap16(port))) * 0x9e3779b1
	return uint64(h)*uint64(oneIn)>>32 == 0
}
