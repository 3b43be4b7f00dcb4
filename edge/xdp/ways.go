package xdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ways knows the next hop to every endpoint by the kernel's routes and
// neighbours, and has the kernel keep those neighbours resolved. It is not
// safe for concurrent use, but for moved.
type ways struct {
	nl      *netlink.Handle
	device  int // ifindex of layer 4's device
	log     *slog.Logger
	hops    map[netip.Addr]hop
	links   map[int]uplink       // by ifindex, as of the last change of links or routes
	routes  map[netip.Addr]route // likewise
	managed map[neighbour]bool   // neighbours that we had the kernel keep
	refused map[int]bool         // devices that were said to be of no use
	moved   atomic.Bool          // links or routes have changed
}

// neighbour is an address on a link.
type neighbour struct {
	device int // ifindex
	addr   netip.Addr
}

// route is the way to an address, up to the next hop.
type route struct {
	via neighbour
	mtu int
}

// uplink is a device as the program can use it.
type uplink struct {
	mtu   int
	mac   [6]byte
	sends bool // it is up, and takes packets from the program at layer 4's device
}

func newWays(nl *netlink.Handle, device int, log *slog.Logger) *ways {
	return &ways{nl: nl, device: device, log: log, hops: map[netip.Addr]hop{}, links: map[int]uplink{}, routes: map[netip.Addr]route{},
		managed: map[neighbour]bool{}, refused: map[int]bool{}}
}

// hop gives the next hop to an address, as of the last refresh.
func (w *ways) hop(a netip.Addr) hop { return w.hops[a] }

// refresh looks the ways to addrs up anew: the neighbours, and where links or
// routes have moved those too. What cannot be found out is left unknown: such an
// endpoint is reached by the router that the packet came from.
func (w *ways) refresh(addrs []netip.Addr) error {
	if w.moved.Swap(false) {
		clear(w.links)
		clear(w.routes)
	}
	own, err := w.link(w.device)
	if err != nil {
		return err
	}
	macs, fixed, err := w.neighbours()
	if err != nil {
		return err
	}
	hops, wanted := map[netip.Addr]hop{}, map[neighbour]bool{}
	for _, a := range addrs {
		r, ok := w.route(a)
		if !ok {
			continue
		}
		out, err := w.link(r.via.device)
		if err != nil {
			continue // it has just gone
		}
		wanted[r.via] = true
		h := hop{onLink: r.via.addr == a, mtu: uint16(min(r.mtu, out.mtu)), source: out.mac}
		if h.mac, h.known = macs[r.via]; !h.known {
			h = hop{mtu: min(h.mtu, uint16(own.mtu))} // back by the device that packets come by
		} else if r.via.device != w.device {
			h.device = uint32(r.via.device)
		}
		hops[a] = h
	}
	w.hops = hops
	w.manage(wanted, fixed)
	return nil
}

// route gives the way to an address: the kernel's, or where that is by a device
// that packets cannot leave by, the kernel's by layer 4's device; false: there is
// none.
func (w *ways) route(a netip.Addr) (route, bool) {
	if r, ok := w.routes[a]; ok {
		return r, true
	}
	r, ok := w.ask(a, 0)
	if ok && r.via.device != w.device {
		if out, err := w.link(r.via.device); err != nil || !out.sends {
			r, ok = w.ask(a, w.device)
		}
	}
	if ok {
		w.routes[a] = r
	}
	return r, ok
}

// ask asks the kernel for the way to an address, by a device if that is not 0;
// false: there is none, or it ends on this very machine.
func (w *ways) ask(a netip.Addr, device int) (route, bool) {
	routes, err := w.nl.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{OifIndex: device})
	if err != nil || len(routes) == 0 || routes[0].Type == unix.RTN_LOCAL || device != 0 && routes[0].LinkIndex != device {
		return route{}, false
	}
	k := routes[0]
	r := route{via: neighbour{k.LinkIndex, a}, mtu: 65535}
	if k.MTU > 0 {
		r.mtu = k.MTU
	}
	if gw, ok := netip.AddrFromSlice(k.Gw); ok && !gw.IsUnspecified() {
		r.via.addr = gw.Unmap()
	} else if via, ok := k.Via.(*netlink.Via); ok {
		if gw, ok := netip.AddrFromSlice(via.Addr); ok {
			r.via.addr = gw.Unmap()
		}
	}
	return r, true
}

// link gives a device of this machine, and says once of one that is not
// layer 4's own why packets cannot leave by it.
func (w *ways) link(device int) (uplink, error) {
	if l, ok := w.links[device]; ok {
		return l, nil
	}
	link, err := w.nl.LinkByIndex(device)
	if err != nil {
		return uplink{}, fmt.Errorf("device %d: %w", device, err)
	}
	l := uplink{mtu: min(link.Attrs().MTU, 65535), sends: true}
	copy(l.mac[:], link.Attrs().HardwareAddr)
	if device != w.device {
		why := w.unfit(link)
		if l.sends = why == ""; !l.sends && !w.refused[device] {
			w.log.Warn("no packets leave by this device; what is behind it is reached by layer 4's own, if a route leads there",
				"device", link.Attrs().Name, "reason", why)
		}
		w.refused[device] = !l.sends
	}
	w.links[device] = l
	return l, nil
}

// What a driver says that it can do (enum netdev_xdp_act).
const (
	actRedirect = 2 // send what comes in out by another device
	actTransmit = 4 // send what another device's program has redirected
)

// unfit says why packets cannot go out by a device other than layer 4's; "":
// they can. A generic program sends by any; of a native one both drivers have to
// do their part, which the kernel tells since Linux 6.3; before, they are taken to.
func (w *ways) unfit(link netlink.Link) string {
	const up = unix.IFF_UP | unix.IFF_RUNNING
	if link.Attrs().RawFlags&up != up {
		return "it is down"
	}
	if len(link.Attrs().HardwareAddr) != 6 {
		return "it is no Ethernet"
	}
	if modeOf(w.nl, w.device) == Generic {
		return ""
	}
	if can, known := xdpFeatures(w.nl, w.device); known && can&actRedirect == 0 {
		return "the driver of layer 4's device does not redirect in native mode"
	}
	if can, known := xdpFeatures(w.nl, link.Attrs().Index); known && can&actTransmit == 0 {
		return "its driver takes no redirected packets as it is set (some want an XDP program at it; veth wants one, or GRO, at the peer)"
	}
	return ""
}

// xdpFeatures gives what a device's driver can do; false: the kernel does not
// tell. It asks in the caller's network namespace.
func xdpFeatures(h *netlink.Handle, device int) (can uint64, known bool) {
	const devGet, attrIndex, attrFeatures = 1, 1, 3 // linux/netdev.h
	family, err := h.GenlFamilyGet("netdev")
	if err != nil {
		return 0, false
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	// By hand: nl.Genlmsg leaves the reserved octets as they fall, and the kernel wants zeros.
	req.AddRawData(append([]byte{devGet, 1, 0, 0}, nl.NewRtAttr(attrIndex, nl.Uint32Attr(uint32(device))).Serialize()...))
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(msgs) == 0 {
		return 0, false
	}
	attrs, err := nl.ParseRouteAttrAsMap(msgs[0][min(nl.SizeofGenlmsg, len(msgs[0])):])
	if v := attrs[attrFeatures].Value; err == nil && len(v) == 8 {
		return binary.NativeEndian.Uint64(v), true
	}
	return 0, false
}

// neighbours lists the MAC addresses that the kernel holds for usable, and which
// of them the operator has set for good.
func (w *ways) neighbours() (macs map[neighbour][6]byte, fixed map[neighbour]bool, err error) {
	list, err := w.nl.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return nil, nil, fmt.Errorf("list neighbours: %w", err)
	}
	const static = netlink.NUD_PERMANENT | netlink.NUD_NOARP
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | static
	macs, fixed = map[neighbour][6]byte{}, map[neighbour]bool{}
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		if !ok || n.State&usable == 0 || len(n.HardwareAddr) != 6 || bytes.Equal(n.HardwareAddr, make([]byte, 6)) {
			continue
		}
		at := neighbour{n.LinkIndex, a.Unmap()}
		macs[at] = [6]byte(n.HardwareAddr)
		fixed[at] = n.State&static != 0
	}
	return macs, fixed, nil
}

// manage has the kernel keep the wanted neighbours resolved, and no others; those
// that are fixed are left alone. Where it cannot (before Linux 5.16), they are
// resolved as traffic asks for them.
func (w *ways) manage(wanted, fixed map[neighbour]bool) {
	for n := range wanted {
		if w.managed[n] || fixed[n] {
			continue
		}
		w.managed[n] = true
		if err := w.nl.NeighSet(n.managed()); err != nil {
			w.log.Warn("neighbour is not kept resolved", "neighbour", n.addr, "error", err)
		}
	}
	for n := range maps.Clone(w.managed) {
		switch {
		case fixed[n]:
			delete(w.managed, n) // the operator has taken it over
		case !wanted[n]:
			w.release(n)
		}
	}
}

// release lets the kernel forget a neighbour.
func (w *ways) release(n neighbour) {
	delete(w.managed, n)
	err := w.nl.NeighDel(n.managed())
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
		w.log.Warn("neighbour is still kept resolved", "neighbour", n.addr, "error", err)
	}
}

// takeOver has w look after old's neighbours; the next refresh lets go of those
// that are not wanted.
func (w *ways) takeOver(old *ways) {
	maps.Copy(w.managed, old.managed)
	clear(old.managed)
}

// close lets go of every neighbour.
func (w *ways) close() { w.manage(nil, nil) }

// managed is the neighbour as the kernel is asked to keep it.
func (n neighbour) managed() *netlink.Neigh {
	k := &netlink.Neigh{LinkIndex: n.device, Family: netlink.FAMILY_V4, IP: net.IP(n.addr.AsSlice()),
		State: netlink.NUD_NONE, FlagsExt: netlink.NTF_EXT_MANAGED}
	if n.addr.Is6() {
		k.Family = netlink.FAMILY_V6
	}
	return k
}

var errNoAddress = errors.New("no device holds the node's address")

// deviceOf finds the device by name or, without one, by an address that it
// holds; errNoAddress: there is none.
func deviceOf(nl *netlink.Handle, name string, own ...netip.Addr) (netlink.Link, error) {
	if name != "" {
		link, err := nl.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", name, err)
		}
		return link, nil
	}
	addrs, err := nl.AddrList(nil, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		have, _ := netip.AddrFromSlice(a.IP)
		for _, o := range own {
			if o.IsValid() && have.Unmap() == o {
				return nl.LinkByIndex(a.LinkIndex)
			}
		}
	}
	return nil, fmt.Errorf("%w: %v", errNoAddress, valid(own...))
}
