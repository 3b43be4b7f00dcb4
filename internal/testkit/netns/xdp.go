//go:build linux

package netns

import (
	"fmt"
	"io"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// PassXDP puts a program at a device that passes everything on, until it is
// closed: without one, a veth loses what a program at its other end transmits.
func (n *NS) PassXDP(dev string) (io.Closer, error) {
	const xdpPass = 2
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}})
	if err != nil {
		return nil, fmt.Errorf("%s: program for %s: %w", n.Name, dev, err)
	}
	defer p.Close() // the link holds it
	var l link.Link
	err = n.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err == nil {
			l, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: i.Index})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: program at %s: %w", n.Name, dev, err)
	}
	return l, nil
}
