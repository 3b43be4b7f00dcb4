package main

import (
	"net/netip"

	"meridian/edge/l7/why"
	"meridian/edge/xdp"
)

// slotOf has this node's layer 4 say where a client's flow is.
func slotOf(x *xdp.Layer4) func(udp bool, client, vip netip.AddrPort) *why.Slot {
	return func(udp bool, client, vip netip.AddrPort) *why.Slot {
		proto := "tcp"
		if udp {
			proto = "udp"
		}
		f, err := xdp.ParseFlow(proto, client.String(), vip.String())
		if err != nil {
			return nil
		}
		e, err := x.Explain(f)
		if err != nil || e.VIP == "" {
			return nil
		}
		s := &why.Slot{Service: e.Service, Ring: e.Ring, Slot: e.Slot, Slots: e.Slots, Reason: e.Reason}
		if e.Owner != nil {
			s.Owner = e.Owner.Name
		}
		if e.GoesTo != nil {
			s.GoesTo = e.GoesTo.Name
		}
		return s
	}
}
