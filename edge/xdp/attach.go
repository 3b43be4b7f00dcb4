package xdp

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// attach puts a program at a device; it is off again when the link closes or
// the process ends, however it ends. It gives the mode in the end.
func attach(prog *ebpf.Program, device int, name string, mode Mode, log *slog.Logger) (link.Link, Mode, error) {
	try := func(flags link.XDPAttachFlags) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: prog, Interface: device, Flags: flags})
	}
	var nativeErr error
	if mode != Generic {
		l, err := try(link.XDPDriverMode)
		if err == nil {
			return l, Native, nil
		}
		nativeErr = fmt.Errorf("attach to %s in native mode: %w", name, err)
		if mode == Native {
			return nil, "", nativeErr
		}
	}
	l, err := try(link.XDPGenericMode)
	if err != nil {
		return nil, "", errors.Join(nativeErr, fmt.Errorf("attach to %s in generic mode: %w", name, err))
	}
	if nativeErr != nil {
		log.Warn("the device does not take the program natively; slower generic mode is in use", "device", name, "error", nativeErr)
	}
	if err := receiveOffloadOff(name); err != nil {
		log.Warn("packets that the device merges will be taken for too long", "error", err)
	}
	return l, Generic, nil
}

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
