package xdp

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attach puts a program at a device; it is off again when the link closes or
// the process ends, however it ends. It gives the mode in the end. Errors name
// the program that is in the way, if there is one.
func attach(nl *netlink.Handle, prog *ebpf.Program, device int, name string, mode Mode, log *slog.Logger) (link.Link, Mode, error) {
	try := func(mode Mode, flags link.XDPAttachFlags) (link.Link, error) {
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: device, Flags: flags})
		if err != nil {
			err = fmt.Errorf("attach to %s in %s mode: %w", name, mode, lacking(err, loading))
		}
		return l, err
	}
	var nativeErr error
	if mode != Generic {
		l, err := try(Native, link.XDPDriverMode)
		if err == nil {
			return l, Native, nil
		}
		if mode == Native || inTheWay(err) {
			return nil, "", occupied(nl, device, name, err)
		}
		nativeErr = err
	}
	l, err := try(Generic, link.XDPGenericMode)
	if err != nil {
		return nil, "", occupied(nl, device, name, errors.Join(nativeErr, err))
	}
	if nativeErr != nil {
		log.Warn("the device does not take the program natively; slower generic mode is in use", "device", name, "error", nativeErr)
	}
	if err := receiveOffloadOff(name); err != nil {
		log.Warn("packets that the device merges will be taken for too long", "error", err)
	}
	return l, Generic, nil
}

// inTheWay says whether the kernel would not attach a program because another is
// at the device: in the same mode, or in another.
func inTheWay(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) }

// occupied adds to such an error which program that is, and what to do.
func occupied(nl *netlink.Handle, device int, name string, err error) error {
	if !inTheWay(err) {
		return err
	}
	dev, lerr := nl.LinkByIndex(device)
	if lerr != nil || dev.Attrs().Xdp == nil || dev.Attrs().Xdp.ProgId == 0 {
		return err
	}
	id, what := dev.Attrs().Xdp.ProgId, "an XDP program"
	if there, perr := ebpf.NewProgramFromID(ebpf.ProgramID(id)); perr == nil {
		if info, ierr := there.Info(); ierr == nil && info.Name != "" {
			what = "the XDP program " + info.Name
		}
		there.Close()
	}
	if what == "the XDP program "+deviceProgram {
		return fmt.Errorf("%w: the program of another edge is there (id %d): end that, or take off what it left (edge detach, with its --node and --pins)", err, id)
	}
	return fmt.Errorf("%w: %s is there (id %d), and layer 4 shares a device with none: take that off first (ip link set dev %s xdp off, or end what put it there), or name another --device",
		err, what, id, name)
}

// deviceProgram is the name of the program in bpf/edge.bpf.c.
const deviceProgram = "edge"

// attachedGeneric is XDP_ATTACHED_SKB of the kernel's if_link.h.
const attachedGeneric = 2

// modeOf gives the mode in which a program is at a device.
func modeOf(nl *netlink.Handle, device int) Mode {
	dev, err := nl.LinkByIndex(device)
	if err == nil && dev.Attrs().Xdp != nil && dev.Attrs().Xdp.AttachMode == attachedGeneric {
		return Generic
	}
	return Native
}
