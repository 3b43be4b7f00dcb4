package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ways knows the next hop to every endpoint by the kernel's routes and
// neighbours, and has the kernel keep those neighbours resolved. It is not
// safe for concurrent use.
type ways struct {
	nl      *netlink.Handle
	device  int // ifindex
	log     *slog.Logger
	hops    map[netip.Addr]hop
	managed map[netip.Addr]bool // neighbours that we had the kernel keep
}

func newWays(nl *netlink.Handle, device int, log *slog.Logger) *ways {
	return &ways{nl: nl, device: device, log: log, hops: map[netip.Addr]hop{}, managed: map[netip.Addr]bool{}}
}

// hop gives the next hop to an address, as of the last refresh.
func (w *ways) hop(a netip.Addr) hop { return w.hops[a] }

// refresh looks the ways to addrs up anew. What cannot be found out is left
// unknown: such an endpoint is reached by the router that the packet came
// from.
func (w *ways) refresh(addrs []netip.Addr) error {
	link, err := w.nl.LinkByIndex(w.device)
	if err != nil {
		return fmt.Errorf("device %d: %w", w.device, err)
	}
	neighbours, err := w.neighbours()
	if err != nil {
		return err
	}
	hops, wanted := map[netip.Addr]hop{}, map[netip.Addr]bool{}
	for _, a := range addrs {
		next, h, ok := w.route(a, link)
		if !ok {
			continue
		}
		h.onLink = next == a
		if h.mac, h.known = neighbours[next]; h.known {
			copy(h.source[:], link.Attrs().HardwareAddr)
		}
		hops[a], wanted[next] = h, true
	}
	w.hops = hops
	w.manage(wanted)
	return nil
}

// route gives the next hop's address, and the way's MTU, where the way leads
// out of the device.
func (w *ways) route(a netip.Addr, link netlink.Link) (next netip.Addr, h hop, ok bool) {
	routes, err := w.nl.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].LinkIndex != w.device {
		return netip.Addr{}, hop{}, false
	}
	r := routes[0]
	mtu := link.Attrs().MTU
	if r.MTU > 0 && r.MTU < mtu {
		mtu = r.MTU
	}
	h.mtu = uint16(min(mtu, 65535))
	next = a
	if gw, ok := netip.AddrFromSlice(r.Gw); ok && !gw.IsUnspecified() {
		next = gw.Unmap()
	} else if via, ok := r.Via.(*netlink.Via); ok {
		if gw, ok := netip.AddrFromSlice(via.Addr); ok {
			next = gw.Unmap()
		}
	}
	return next, h, true
}

// neighbours lists the MAC addresses that the kernel holds for usable.
func (w *ways) neighbours() (map[netip.Addr][6]byte, error) {
	list, err := w.nl.NeighList(w.device, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE |
		netlink.NUD_PERMANENT | netlink.NUD_NOARP
	out := map[netip.Addr][6]byte{}
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		if !ok || n.State&usable == 0 || len(n.HardwareAddr) != 6 || bytes.Equal(n.HardwareAddr, make([]byte, 6)) {
			continue
		}
		out[a.Unmap()] = [6]byte(n.HardwareAddr)
	}
	return out, nil
}

// manage has the kernel keep the wanted neighbours resolved, and no others.
// Where it cannot (before Linux 5.16), they are resolved as traffic asks for
// them.
func (w *ways) manage(wanted map[netip.Addr]bool) {
	for a := range wanted {
		if w.managed[a] {
			continue
		}
		w.managed[a] = true
		if err := w.nl.NeighSet(w.neighbour(a)); err != nil {
			w.log.Warn("neighbour is not kept resolved", "neighbour", a, "error", err)
		}
	}
	for a := range maps.Clone(w.managed) {
		if !wanted[a] {
			w.release(a)
		}
	}
}

// release lets the kernel forget a neighbour.
func (w *ways) release(a netip.Addr) {
	delete(w.managed, a)
	if err := w.nl.NeighDel(w.neighbour(a)); err != nil && !errors.Is(err, os.ErrNotExist) {
		w.log.Warn("neighbour is still kept resolved", "neighbour", a, "error", err)
	}
}

// takeOver has w look after old's neighbours on the same device; the next
// refresh lets go of those that are not wanted.
func (w *ways) takeOver(old *ways) {
	maps.Copy(w.managed, old.managed)
	clear(old.managed)
}

// close lets go of every neighbour.
func (w *ways) close() { w.manage(nil) }

func (w *ways) neighbour(a netip.Addr) *netlink.Neigh {
	n := &netlink.Neigh{LinkIndex: w.device, Family: netlink.FAMILY_V4, IP: net.IP(a.AsSlice()),
		State: netlink.NUD_NONE, FlagsExt: netlink.NTF_EXT_MANAGED}
	if a.Is6() {
		n.Family = netlink.FAMILY_V6
	}
	return n
}

// watch calls changed after each change of a route or neighbour until done is
// closed; wait then returns when nothing calls it any more. It subscribes in
// the caller's network namespace.
func watch(done <-chan struct{}, changed func()) (wait func(), err error) {
	var wg sync.WaitGroup
	routes := make(chan netlink.RouteUpdate, 64)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return wg.Wait, fmt.Errorf("watch routes: %w", err)
	}
	wg.Go(func() { forEach(routes, changed) })
	neighbours := make(chan netlink.NeighUpdate, 64)
	if err := netlink.NeighSubscribe(neighbours, done); err != nil {
		return wg.Wait, fmt.Errorf("watch neighbours: %w", err)
	}
	wg.Go(func() { forEach(neighbours, changed) })
	return wg.Wait, nil
}

// forEach ends when the subscription closes the channel.
func forEach[T any](updates <-chan T, changed func()) {
	for range updates {
		changed()
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
