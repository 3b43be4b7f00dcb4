//go:build linux

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End is one end of a link: a device in a namespace and its addresses.
type End struct {
	NS    *NS
	Dev   string
	Addrs []netip.Prefix
}

// Veth joins two namespaces by a veth pair, puts the addresses on, turns the
// offloads off (a frame must look as it would on a wire, since XDP sees it)
// and takes both ends up. It returns when the kernel knows of their carrier,
// which it takes note of later: until then it passes routes over them by.
func Veth(a, b End, mtu int) error {
	link := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Dev, MTU: mtu, TxQLen: 1000},
		PeerName:      b.Dev,
		PeerNamespace: netlink.NsFd(b.NS.fd),
	}
	if err := a.NS.nl.LinkAdd(link); err != nil {
		return fmt.Errorf("veth %s/%s to %s/%s: %w", a.NS.Name, a.Dev, b.NS.Name, b.Dev, err)
	}
	for _, e := range []End{a, b} {
		if err := e.configure(); err != nil {
			return err
		}
		if err := e.NS.OffloadsOff(e.Dev); err != nil {
			return err
		}
	}
	return errors.Join(a.awaitCarrier(), b.awaitCarrier())
}

func (e End) awaitCarrier() error {
	for end := time.Now().Add(10 * time.Second); ; {
		link, err := e.NS.nl.LinkByName(e.Dev)
		if err != nil {
			return fmt.Errorf("%s: device %s: %w", e.NS.Name, e.Dev, err)
		}
		switch {
		case link.Attrs().OperState == netlink.OperUp:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%s: device %s has no carrier", e.NS.Name, e.Dev)
		}
		<-time.After(time.Millisecond)
	}
}

// Configure puts the addresses on the end's device and takes it up.
func (e End) configure() error {
	for _, p := range e.Addrs {
		if err := e.NS.AddAddr(e.Dev, p); err != nil {
			return err
		}
	}
	return e.NS.Up(e.Dev)
}

// AddAddr puts an address with its prefix length on a device.
func (n *NS) AddAddr(dev string, p netip.Prefix) error {
	link, err := n.nl.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("%s: device %s: %w", n.Name, dev, err)
	}
	addr := &netlink.Addr{IPNet: IPNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := n.nl.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("%s: address %s on %s: %w", n.Name, p, dev, err)
	}
	return nil
}

// Up takes a device up.
func (n *NS) Up(dev string) error { return n.set(dev, n.nl.LinkSetUp, "up") }

// Down takes a device down; its peer loses carrier.
func (n *NS) Down(dev string) error { return n.set(dev, n.nl.LinkSetDown, "down") }

func (n *NS) set(dev string, f func(netlink.Link) error, what string) error {
	link, err := n.nl.LinkByName(dev)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("%s: take %s %s: %w", n.Name, dev, what, err)
	}
	return nil
}

// AddRoute sends a prefix to a gateway.
func (n *NS) AddRoute(dst netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{Dst: IPNet(dst), Gw: via.AsSlice()}
	if err := n.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", n.Name, dst, via, err)
	}
	return nil
}

// IPNet gives the standard library's older form of p.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// OffloadsOff turns checksum and segmentation offloads of a device off, so
// that every frame on it is complete and of wire size.
func (n *NS) OffloadsOff(dev string) error {
	return n.offload(dev, 0, unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO)
}

// KeepQueue has a veth keep its receive queue while no program is at it, by
// turning GRO on. Without, the queue goes with the program, and with it what
// comes in at that very moment.
func (n *NS) KeepQueue(dev string) error { return n.offload(dev, 1, unix.ETHTOOL_SGRO) }

// offload sets features of a device to 0 or 1.
func (n *NS) offload(dev string, to uint32, commands ...uint32) error {
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: socket: %w", n.Name, err)
		}
		defer unix.Close(fd)
		for _, cmd := range commands {
			if err := ethtool(fd, dev, cmd, to); err != nil {
				return fmt.Errorf("%s: offload %#x of %s to %d: %w", n.Name, cmd, dev, to, err)
			}
		}
		return nil
	})
}

// ethtool sets one boolean feature of a device.
func ethtool(fd int, dev string, cmd, to uint32) error {
	value := struct{ cmd, data uint32 }{cmd, to}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // struct ifreq holds a union larger than a pointer
	}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	req.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
