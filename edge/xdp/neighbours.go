package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// neighbour is an address on a link.
type neighbour struct {
	device int // ifindex
	addr   netip.Addr
}

func neighbourOf(n *netlink.Neigh) (at neighbour, ok bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	return neighbour{n.LinkIndex, a.Unmap()}, ok
}

// neighbours is what the kernel knows of neighbours.
type neighbours struct {
	macs  map[neighbour][6]byte // of those that are usable
	fixed map[neighbour]bool    // the operator has set them for good
	kept  map[neighbour]bool    // the kernel keeps them resolved; true: since edge asked for it
}

// ndaProtocol is NDA_PROTOCOL of linux/neighbour.h, for which the netlink library
// has no word: who had a neighbour kept. Edge's number is addressProto.
const ndaProtocol = 12

// listNeighbours asks in the caller's network namespace.
func listNeighbours() (neighbours, error) {
	out := neighbours{map[neighbour][6]byte{}, map[neighbour]bool{}, map[neighbour]bool{}}
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	req.AddData(new(netlink.Ndmsg))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	if err != nil {
		return out, fmt.Errorf("list neighbours: %w", err)
	}
	const static = netlink.NUD_PERMANENT | netlink.NUD_NOARP
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | static
	for _, m := range msgs {
		n, err := netlink.NeighDeserialize(m)
		if err != nil {
			return out, fmt.Errorf("list neighbours: %w", err)
		}
		at, ok := neighbourOf(n)
		if !ok {
			continue
		}
		if n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 {
			attrs, _ := nl.ParseRouteAttrAsMap(m[unix.SizeofNdMsg:])
			out.kept[at] = bytes.Equal(attrs[ndaProtocol].Value, []byte{addressProto})
		}
		if n.State&usable != 0 && len(n.HardwareAddr) == 6 && !bytes.Equal(n.HardwareAddr, make([]byte, 6)) {
			out.macs[at] = [6]byte(n.HardwareAddr)
			out.fixed[at] = n.State&static != 0
		}
	}
	return out, nil
}

// ours gives those that edge asked the kernel to keep.
func (h *neighbours) ours() map[neighbour]bool {
	out := maps.Clone(h.kept)
	maps.DeleteFunc(out, func(_ neighbour, ours bool) bool { return !ours })
	return out
}

// keep has the kernel keep a neighbour resolved, and begin to where it has failed.
func (n neighbour) keep() error {
	return n.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		nl.NewRtAttr(netlink.NDA_FLAGS_EXT, nl.Uint32Attr(netlink.NTF_EXT_MANAGED)), nl.NewRtAttr(ndaProtocol, []byte{addressProto}))
}

// release lets the kernel forget a neighbour. That it has gone is no error.
func (n neighbour) release() error {
	err := n.request(unix.RTM_DELNEIGH, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func (n neighbour) request(what, flags int, attrs ...*nl.RtAttr) error {
	req := nl.NewNetlinkRequest(what, flags|unix.NLM_F_ACK)
	msg := &netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(n.device)}
	if n.addr.Is6() {
		msg.Family = unix.AF_INET6
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, n.addr.AsSlice()))
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// releaseNeighbours lets go of all that edge has had kept in the caller's network
// namespace. Who needs some still, at another device, has them kept again.
func releaseNeighbours() error {
	have, err := listNeighbours()
	if err != nil {
		return err
	}
	var errs []error
	for n := range have.ours() {
		errs = append(errs, n.release())
	}
	return errors.Join(errs...)
}
