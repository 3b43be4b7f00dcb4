package xdp

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// An IPv6 address has no label. Who put it there stands in IFA_PROTO (Linux
// 5.18; older kernels ignore it), for which the netlink library has no word.
const (
	ifaProto     = 11  // IFA_PROTO, linux/if_addr.h
	addressProto = 'M' // ours; the kernel's own are below 4
)

// putMarked6 puts an IPv6 VIP on lo, deprecated so that the kernel does not
// use it as the source of its own connections, and marked as ours.
func putMarked6(lo netlink.Link, v netip.Addr) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	msg := nl.NewIfAddrmsg(unix.AF_INET6)
	msg.Index, msg.Prefixlen, msg.IfAddrmsg.Flags = uint32(lo.Attrs().Index), 128, unix.IFA_F_NODAD
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, v.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, v.AsSlice()))
	life := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: math.MaxUint32}} // for ever, but preferred for 0 s: deprecated
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()))
	req.AddData(nl.NewRtAttr(ifaProto, []byte{addressProto}))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// marked6 gives the IPv6 addresses of lo that carry our mark.
func marked6(lo netlink.Link) (map[netip.Addr]bool, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_INET6))
	list, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list addresses of lo: %w", err)
	}
	out := map[netip.Addr]bool{}
	for _, m := range list {
		msg := nl.DeserializeIfAddrmsg(m)
		attrs, err := nl.ParseRouteAttr(m[msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("list addresses of lo: %w", err)
		}
		var addr netip.Addr
		ours := false
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.IFA_ADDRESS:
				addr, _ = netip.AddrFromSlice(a.Value)
			case ifaProto:
				ours = len(a.Value) == 1 && a.Value[0] == addressProto
			}
		}
		if ours && int(msg.Index) == lo.Attrs().Index {
			out[addr] = true
		}
	}
	return out, nil
}
