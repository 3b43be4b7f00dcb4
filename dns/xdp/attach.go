package xdp

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"meridian/dns/answer"
)

// attach puts the program at the device, where it is not; it is off again when
// the process ends, however it ends.
func (p *Path) attach() error {
	dev, err := net.InterfaceByName(p.cfg.Device)
	if err != nil {
		p.detach()
		return fmt.Errorf("dns xdp: device %s: %w", p.cfg.Device, err)
	}
	if dev.MTU < leastMTU {
		p.detach()
		return fmt.Errorf("dns xdp: device %s: its MTU is %d: answers may have %d octets", p.cfg.Device, dev.MTU, leastMTU)
	}
	if p.attached(dev.Index) {
		return nil
	}
	p.detach()
	l, mode, err := attach(p.kernel.Dns, dev, p.cfg.Mode)
	if err != nil {
		return fmt.Errorf("dns xdp: %w", err)
	}
	p.link = l
	p.setMode(mode)
	p.cfg.Log.Info("answering DNS in the kernel", "device", p.cfg.Device, "mode", string(mode), "names", len(p.image.nodes))
	return nil
}

// leastMTU is that of a device which sends the longest answer over IPv6 in one
// packet; what is sent ahead of the sockets nobody cuts in pieces.
const leastMTU = 40 + 8 + answer.PayloadUDP

// attached says whether the program is at a device; it goes with the device, and
// another may come by the same name and number.
func (p *Path) attached(index int) bool {
	if p.link == nil {
		return false
	}
	info, err := p.link.Info()
	return err == nil && info.XDP() != nil && int(info.XDP().Ifindex) == index
}

// attach gives the mode in the end.
func attach(prog *ebpf.Program, dev *net.Interface, mode Mode) (link.Link, Mode, error) {
	if mode == Auto && isVeth(dev.Name) {
		mode = Generic
	}
	var errs []error
	for _, try := range []struct {
		mode  Mode
		flags link.XDPAttachFlags
	}{{Native, link.XDPDriverMode}, {Generic, link.XDPGenericMode}} {
		if mode != Auto && mode != try.mode {
			continue
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: try.flags})
		if err == nil {
			return l, try.mode, nil
		}
		errs = append(errs, fmt.Errorf("attach to %s in %s mode: %w", dev.Name, try.mode, err))
	}
	return nil, "", errors.Join(errs...)
}

// isVeth says whether a device is an end of a veth pair, as containers have. The
// other end throws away what a program here sends natively, and nobody is told,
// unless it has a program as well; which cannot be seen from here.
func isVeth(name string) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	return err == nil && unix.ByteSliceToString(info.Driver[:]) == "veth"
}

func (p *Path) detach() {
	if p.link == nil {
		return
	}
	if err := p.link.Close(); err != nil {
		p.cfg.Log.Warn("taking the program off the device", "device", p.cfg.Device, "error", err)
	}
	p.link = nil
	p.setMode("")
}

func (p *Path) setMode(m Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
}
