package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// Addresses puts the VIPs of a gateway's region on its loopback device, so
// that its kernel takes packets for them, and sees to it that the node does
// not claim them on its links.
//
// A network of VIPs is a local route to that device.
//
// The addresses are told from everybody else's by a mark: IPv4 ones carry the
// label lo:meridian, IPv6 ones our number in IFA_PROTO, routes the same number. What a crashed run has
// left is adopted or removed by the next Apply. Linux before 5.18 keeps no
// IFA_PROTO: there only the run that put an IPv6 address on takes it off.
type Addresses struct {
	node   string
	device string
	log    *slog.Logger
	mu     sync.Mutex
	put6   map[netip.Addr]bool // IPv6 addresses that this run put on
}

const addressLabel = "lo:meridian"

// NewAddresses makes the helper for a node. device is the one that faces the
// balancers; empty: the one that holds the node's own address. It opens
// nothing.
func NewAddresses(node, device string, log *slog.Logger) *Addresses {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Addresses{node: node, device: device, log: log, put6: map[netip.Addr]bool{}}
}

// Apply puts the World's VIPs on and takes those that are VIPs no more off. New
// ones come first, so that an error leaves no wanted address off. It works in
// the caller's network namespace.
func (a *Addresses) Apply(w *fleet.World) error {
	n := w.Snapshot.Node(a.node)
	if n == nil {
		return fmt.Errorf("VIP addresses: node %q is not in the Spec", a.node)
	}
	anycast, regional := w.Snapshot.Spec.Anycast, w.Snapshot.Region(n.Region).VIPs
	return a.with(func(nl *netlink.Handle, lo netlink.Link) error {
		if err := a.bring(nl, lo, append(anycast.All(), regional.All()...)); err != nil {
			return err
		}
		if err := bringNetworks(nl, lo, append(slices.Clone(anycast.Prefixes), regional.Prefixes...)); err != nil {
			return err
		}
		a.quiet()
		dev, err := deviceOf(nl, a.device, n.Addresses.V4, n.Addresses.V6)
		if err != nil {
			a.log.Warn("VIP addresses: packets that come by tunnel may be taken for spoofed", "error", err)
			return nil
		}
		a.loose(dev.Attrs().Name)
		return nil
	})
}

// Close takes all VIPs off.
func (a *Addresses) Close() error {
	return a.with(func(nl *netlink.Handle, lo netlink.Link) error {
		return errors.Join(a.bring(nl, lo, nil), bringNetworks(nl, lo, nil))
	})
}

func (a *Addresses) with(f func(*netlink.Handle, netlink.Link) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("VIP addresses: netlink: %w", err)
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err == nil {
		err = f(nl, lo)
	}
	if err != nil {
		return fmt.Errorf("VIP addresses: %w", lacking(err, []right{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}}))
	}
	return nil
}

// bring makes our addresses of lo exactly vips. An address that is there and
// not ours is left to whoever put it there, be it a VIP or not.
func (a *Addresses) bring(nl *netlink.Handle, lo netlink.Link, vips []netip.Addr) error {
	present, ours, err := a.list(nl, lo)
	if err != nil {
		return err
	}
	for _, v := range vips {
		delete(ours, v)
		if present[v] {
			continue
		}
		if err := a.put(nl, lo, v); err != nil {
			return fmt.Errorf("put %s on lo: %w", v, err)
		}
	}
	var errs []error
	for v, h := range ours {
		if err := nl.AddrDel(lo, &netlink.Addr{IPNet: h.IPNet, Label: h.Label}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("take %s off lo: %w", v, err))
			continue
		}
		delete(a.put6, v)
	}
	return errors.Join(errs...)
}

// list gives the addresses of lo, and which of them are ours.
func (a *Addresses) list(nl *netlink.Handle, lo netlink.Link) (present map[netip.Addr]bool, ours map[netip.Addr]netlink.Addr, err error) {
	have, err := nl.AddrList(lo, unix.AF_UNSPEC)
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses of lo: %w", err)
	}
	marked, err := marked6(lo)
	if err != nil {
		return nil, nil, err
	}
	present, ours = map[netip.Addr]bool{}, map[netip.Addr]netlink.Addr{}
	for _, h := range have {
		addr, _ := netip.AddrFromSlice(h.IP)
		addr = addr.Unmap()
		present[addr] = true
		ones, bits := h.Mask.Size()
		if ones == bits && (h.Label == addressLabel || marked[addr] || a.put6[addr]) {
			ours[addr] = h
		}
	}
	return present, ours, nil
}

func (a *Addresses) put(nl *netlink.Handle, lo netlink.Link, v netip.Addr) error {
	if v.Is4() {
		return nl.AddrReplace(lo, &netlink.Addr{IPNet: &net.IPNet{IP: v.AsSlice(), Mask: net.CIDRMask(32, 32)}, Label: addressLabel})
	}
	if err := putMarked6(lo, v); err != nil {
		return err
	}
	a.put6[v] = true
	return nil
}

// quiet has the kernel answer ARP on each link, also on those that come later, for
// the link's own addresses alone, and ask in their name. The greater of a link's
// setting and that of all holds.
func (a *Addresses) quiet() {
	for key, least := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
		if read(setting("all", key)) < least { // they have one digit
			a.set("all", key, least)
		}
	}
}

// loose has the kernel take packets by whichever way they come: what a balancer
// tunnelled enters by a device that need not lead back to the client. The greater
// of the device's setting and that of all holds.
func (a *Addresses) loose(device string) {
	if read(setting(device, "rp_filter")) != "0" || read(setting("all", "rp_filter")) != "0" {
		a.set(device, "rp_filter", "2")
	}
}

// set makes a setting of a link, or of all, unless it is so.
func (a *Addresses) set(device, key, value string) {
	path := setting(device, key)
	if read(path) == value {
		return
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		a.log.Warn("VIP addresses: a link setting could not be made", "setting", path, "value", value, "error", err)
	}
}

func setting(device, key string) string {
	return filepath.Join("/proc/sys/net/ipv4/conf", device, key)
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}
