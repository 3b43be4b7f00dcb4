package xdp

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attachTC puts a program where a device's packets come in, behind XDP, beside
// others that are there. It is off again when what it gives is closed.
func attachTC(prog *ebpf.Program, nl *netlink.Handle, device int) (io.Closer, error) {
	l, err := link.AttachTCX(link.TCXOptions{Program: prog, Attach: ebpf.AttachTCXIngress, Interface: device})
	if err == nil {
		return l, nil
	}
	if errors.Is(err, ebpf.ErrNotSupported) {
		return attachFilter(prog, nl, device)
	}
	return nil, fmt.Errorf("attach to device %d at tc: %w", device, err)
}

// What a filter of ours is known by.
const (
	filterName     = "meridian"
	filterPriority = 77
)

// filter is a program's place at a device before tcx (Linux 6.6). It outlives a
// process that is killed, until the next takes its place.
type filter struct {
	nl     *netlink.Handle
	device int
	id     int // the program's
}

// attachFilter is attachTC by the queueing discipline clsact.
func attachFilter(prog *ebpf.Program, nl *netlink.Handle, device int) (io.Closer, error) {
	clsact := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: device, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := nl.QdiscAdd(clsact); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("clsact at device %d: %w", device, err)
	}
	info, err := prog.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.ID()
	f := &filter{nl, device, int(id)}
	if err := nl.FilterAdd(&netlink.BpfFilter{Fd: prog.FD(), Name: filterName, DirectAction: true, FilterAttrs: netlink.FilterAttrs{
		LinkIndex: device, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: filterPriority}}); err != nil {
		return nil, fmt.Errorf("filter at device %d: %w", device, err)
	}
	if err := f.remove(func(id int) bool { return id != f.id }); err != nil { // a killed process's
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// remove takes those of our filters off whose programs have such an id.
func (f *filter) remove(which func(id int) bool) error {
	link, err := f.nl.LinkByIndex(f.device)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil // and with it all at it
	}
	if err != nil {
		return fmt.Errorf("device %d: %w", f.device, err)
	}
	list, err := f.nl.FilterList(link, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return fmt.Errorf("filters at device %d: %w", f.device, err)
	}
	var errs []error
	for _, have := range list {
		if b, ok := have.(*netlink.BpfFilter); ok && b.Priority == filterPriority && b.Name == filterName && which(b.Id) {
			errs = append(errs, f.nl.FilterDel(b))
		}
	}
	return errors.Join(errs...)
}

// Close takes the program off.
func (f *filter) Close() error { return f.remove(func(id int) bool { return id == f.id }) }
