//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit/netns"
)

// routes are prefixes and their next hops, sorted.
type routes map[netip.Prefix][]netip.Addr

// table gives the routes that BGP has chosen: for each prefix the best path's
// next hop and those of all paths that are as good.
func (r *router) table(ctx context.Context) (routes, error) {
	out := routes{}
	for _, f := range []*api.Family{familyV4(), familyV6()} {
		err := r.bgp.ListPath(ctx, &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: f}, func(d *api.Destination) {
			if p, err := netip.ParsePrefix(d.Prefix); err == nil {
				if hops := bestHops(d.Paths); len(hops) > 0 {
					out[p.Masked()] = hops
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list paths: %w", err)
		}
	}
	return out, nil
}

// rank is what makes two paths to one prefix equally good (RFC 4271 section
// 9.1.2.2, up to where routers share load).
type rank struct {
	preference uint32
	length     int
	origin     uint8
	med        uint32
}

// bestHops gives the next hops of the first path, which gobgp has sorted to
// be the best, and of those equal to it. Own paths have none.
func bestHops(paths []*api.Path) []netip.Addr {
	var hops []netip.Addr
	var best rank
	for i, p := range paths {
		at, hop := rankOf(p)
		if i == 0 {
			best = at
		}
		if at == best && hop.IsValid() && !hop.IsUnspecified() && !slices.Contains(hops, hop) {
			hops = append(hops, hop)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return hops
}

func rankOf(p *api.Path) (at rank, hop netip.Addr) {
	at.preference = 100
	attrs, err := apiutil.UnmarshalPathAttributes(p.Pattrs)
	if err != nil {
		return rank{}, netip.Addr{}
	}
	for _, a := range attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeLocalPref:
			at.preference = a.Value
		case *bgp.PathAttributeAsPath:
			for _, s := range a.Value {
				at.length += s.ASLen()
			}
		case *bgp.PathAttributeOrigin:
			at.origin = a.Value
		case *bgp.PathAttributeMultiExitDisc:
			at.med = a.Value
		case *bgp.PathAttributeNextHop:
			hop, _ = netip.AddrFromSlice(a.Value)
		case *bgp.PathAttributeMpReachNLRI:
			hop, _ = netip.AddrFromSlice(a.Nexthop)
		}
	}
	return at, hop.Unmap()
}

// fib keeps the kernel's BGP routes in this namespace in line with a table.
type fib struct{ log *slog.Logger }

// reconcile reads what the kernel has (it drops routes by itself when a link
// goes) and changes only what differs.
func (f *fib) reconcile(want routes) error {
	have, err := kernelRoutes()
	if err != nil {
		return err
	}
	var errs []error
	for p, hops := range want {
		if slices.Equal(have[p], hops) {
			continue
		}
		if err := netlink.RouteReplace(kernelRoute(p, hops)); err != nil {
			errs = append(errs, fmt.Errorf("route %s via %v: %w", p, hops, err))
			continue
		}
		f.log.Info("route set", "prefix", p, "via", hops)
	}
	for p, hops := range have {
		if _, ok := want[p]; ok {
			continue
		}
		if err := netlink.RouteDel(kernelRoute(p, hops)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %s: %w", p, err))
			continue
		}
		f.log.Info("route removed", "prefix", p)
	}
	return errors.Join(errs...)
}

func kernelRoute(p netip.Prefix, hops []netip.Addr) *netlink.Route {
	r := &netlink.Route{Dst: netns.IPNet(p), Protocol: unix.RTPROT_BGP}
	if len(hops) == 1 {
		r.Gw = hops[0].AsSlice()
		return r
	}
	for _, h := range hops {
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{Gw: h.AsSlice()})
	}
	return r
}

// kernelRoutes lists the routes with the mark of BGP.
func kernelRoutes() (routes, error) { return routesOf(&netlink.Handle{}) }

// routesOf lists the BGP routes that a handle's namespace has. Next hops that
// the kernel holds dead are left out.
func routesOf(h *netlink.Handle) (routes, error) {
	out := routes{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.RouteListFiltered(family, &netlink.Route{Protocol: unix.RTPROT_BGP}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			if r.Dst == nil {
				continue
			}
			addr, _ := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			p := netip.PrefixFrom(addr.Unmap(), bits)
			out[p] = append(out[p], hopsOf(r)...)
		}
	}
	for _, hops := range out {
		slices.SortFunc(hops, netip.Addr.Compare)
	}
	return out, nil
}

const deadHop = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN

func hopsOf(r netlink.Route) []netip.Addr {
	var hops []netip.Addr
	add := func(ip []byte, flags int) {
		if a, ok := netip.AddrFromSlice(ip); ok && flags&deadHop == 0 {
			hops = append(hops, a.Unmap())
		}
	}
	if len(r.MultiPath) == 0 {
		add(r.Gw, r.Flags)
	}
	for _, m := range r.MultiPath {
		add(m.Gw, m.Flags)
	}
	return hops
}
