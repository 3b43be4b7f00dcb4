package xdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bringNetworks makes our local routes of lo exactly those of the networks of
// VIPs. New ones come first.
func bringNetworks(nl *netlink.Handle, lo netlink.Link, networks []netip.Prefix) error {
	have, err := nl.RouteListFiltered(netlink.FAMILY_ALL,
		&netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: addressProto, LinkIndex: lo.Attrs().Index},
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_OIF)
	if err != nil {
		return fmt.Errorf("list local routes: %w", err)
	}
	present := map[netip.Prefix]bool{}
	for _, r := range have {
		present[networkOf(r)] = true
	}
	wanted := map[netip.Prefix]bool{}
	for _, n := range networks {
		if wanted[n] = true; present[n] {
			continue
		}
		if err := nl.RouteReplace(localRoute(lo, n)); err != nil {
			return fmt.Errorf("local route to %s: %w", n, err)
		}
	}
	var errs []error
	for n := range present {
		if wanted[n] {
			continue
		}
		if err := nl.RouteDel(localRoute(lo, n)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("take the local route to %s away: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

func localRoute(lo netlink.Link, n netip.Prefix) *netlink.Route {
	r := &netlink.Route{LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Protocol: addressProto,
		Dst: &net.IPNet{IP: n.Addr().AsSlice(), Mask: net.CIDRMask(n.Bits(), n.Addr().BitLen())}}
	if n.Addr().Is4() {
		r.Scope = netlink.SCOPE_HOST
	}
	return r
}

func networkOf(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
