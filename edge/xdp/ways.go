package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ways knows the next hop to every endpoint by the kernel's routes and
// neighbours, and has the kernel keep those neighbours resolved. It works in the
// caller's network namespace, which is nl's, and is not safe for concurrent use, but
// for moved and awaits.
type ways struct {
	nl      *netlink.Handle
	device  int // ifindex of layer 4's device
	log     *slog.Logger
	hops    map[netip.Addr]hop
	links   map[int]uplink       // by ifindex, as of the last change of links or routes
	routes  map[netip.Addr]route // likewise
	managed map[neighbour]bool   // neighbours that edge had the kernel keep; nil: not known yet
	refused map[int]bool         // devices that were said to be of no use
	moved   atomic.Bool          // links or routes have changed
	wanted  atomic.Pointer[map[neighbour]bool]
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
	w := &ways{nl: nl, device: device, log: log, hops: map[netip.Addr]hop{}, links: map[int]uplink{}, routes: map[netip.Addr]route{},
		refused: map[int]bool{}}
	w.wanted.Store(new(map[neighbour]bool))
	return w
}

// hop gives the next hop to an address, as of the last refresh.
func (w *ways) hop(a netip.Addr) hop { return w.hops[a] }

// awaits says whether it matters what becomes of a neighbour.
func (w *ways) awaits(n neighbour) bool { return (*w.wanted.Load())[n] }

// refresh looks the ways to addrs up anew: the neighbours, and where links or
// routes have moved those too. What cannot be found out is left unknown: such an
// endpoint is reached by the router that the packet came from. On an error the ways
// stay as they were.
func (w *ways) refresh(addrs []netip.Addr) error {
	moved := w.moved.Swap(false)
	if moved {
		clear(w.links)
		clear(w.routes)
	}
	own, err := w.link(w.device)
	if err != nil {
		return err
	}
	routes, wanted := map[netip.Addr]route{}, map[neighbour]bool{}
	for _, a := range addrs {
		r, ok := w.route(a)
		if !ok {
			continue
		}
		if _, err := w.link(r.via.device); err != nil {
			continue // it has just gone
		}
		routes[a], wanted[r.via] = r, true
	}
	w.wanted.Store(&wanted) // before they are listed: no change is missed
	have, err := listNeighbours()
	if err != nil {
		return err
	}
	hops := map[netip.Addr]hop{}
	for a, r := range routes {
		out := w.links[r.via.device]
		h := hop{onLink: r.via.addr == a, mtu: uint16(min(r.mtu, out.mtu)), source: out.mac}
		if h.mac, h.known = have.macs[r.via]; !h.known {
			h = hop{mtu: min(h.mtu, uint16(own.mtu))} // back by the device that packets come by
		} else if r.via.device != w.device {
			h.device = uint32(r.via.device)
		}
		hops[a] = h
	}
	w.hops = hops
	w.manage(wanted, have, moved)
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
	if device != 0 {
		// Asked for a device, IPv4 takes what no route leads to for on link there.
		if _, err := w.nl.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{OifIndex: device, FIBMatch: true}); err != nil {
			return route{}, false
		}
	}
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

// manage has the kernel keep the wanted neighbours resolved, and no others; those
// that are fixed, or that the operator has it keep, are left alone. Where links have
// moved, those that failed to answer are asked anew.
func (w *ways) manage(wanted map[neighbour]bool, have neighbours, moved bool) {
	if w.managed == nil {
		w.managed = have.ours() // an earlier process's
	}
	for n := range wanted {
		_, kept := have.kept[n]
		if _, known := have.macs[n]; have.fixed[n] || kept && (known || !moved) {
			continue
		}
		if err := n.keep(); err != nil && !w.managed[n] {
			w.log.Warn("neighbour is not kept resolved", "neighbour", n.addr, "error", err)
		}
		w.managed[n] = true
	}
	for n := range maps.Clone(w.managed) {
		switch {
		case have.fixed[n]:
			delete(w.managed, n) // the operator has taken it over
		case !wanted[n]:
			w.release(n)
		}
	}
}

// release lets the kernel forget a neighbour.
func (w *ways) release(n neighbour) {
	delete(w.managed, n)
	if err := n.release(); err != nil {
		w.log.Warn("neighbour is still kept resolved", "neighbour", n.addr, "error", err)
	}
}

// takeOver has w look after old's neighbours; the next refresh lets go of those
// that are not wanted.
func (w *ways) takeOver(old *ways) { w.managed, old.managed = old.managed, nil }

// close lets go of every neighbour.
func (w *ways) close() {
	for n := range maps.Clone(w.managed) {
		w.release(n)
	}
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
