//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	blink "github.com/cilium/ebpf/link"
	"golang.org/x/sync/errgroup"

	"meridian/internal/testkit/netns"
)

// insideMTU leaves room on links inside a region for a full packet of a
// client in a tunnel; outsideMTU is the core's.
const (
	insideMTU  = 1600
	outsideMTU = 1500
)

// An Internet is a Topology built of namespaces: machines, links and
// distance, without any process yet.
type Internet struct {
	Topology *Topology
	log      *slog.Logger
	ns       map[string]*netns.NS // by machine: core-fra, router-fra, fra-edge-1, berlin
	wires    []*wire
	pass     *ebpf.Program // on the router's side of edge links: XDP_TX on veth needs it
	attached []blink.Link
}

// Build makes the namespaces and links of a topology. Needs root.
func Build(t *Topology, log *slog.Logger) (*Internet, error) {
	in := &Internet{Topology: t, log: log, ns: map[string]*netns.NS{}}
	if err := in.build(); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

func (in *Internet) build() error {
	var err error
	in.pass, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "lab_pass", Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	if err != nil {
		return fmt.Errorf("pass program: %w", err)
	}
	for i := range in.Topology.Regions {
		if err := in.buildRegion(&in.Topology.Regions[i]); err != nil {
			return err
		}
	}
	for i := range in.Topology.Regions {
		for j := i + 1; j < len(in.Topology.Regions); j++ {
			a, b := &in.Topology.Regions[i], &in.Topology.Regions[j]
			l := coreLink(a, b)
			err := in.wire(netns.End{NS: in.ns["core-"+a.ID], Dev: "to-" + b.ID, Addrs: l.prefixes(1)},
				netns.End{NS: in.ns["core-"+b.ID], Dev: "to-" + a.ID, Addrs: l.prefixes(2)}, in.Topology.between(a.ID, b.ID))
			if err != nil {
				return err
			}
		}
	}
	for i := range in.Topology.Cities {
		c := &in.Topology.Cities[i]
		city, err := in.machine(c.ID)
		if err != nil {
			return err
		}
		err = in.wire(netns.End{NS: in.ns["core-"+c.Region], Dev: "city-" + c.ID, Addrs: c.link().prefixes(1)},
			netns.End{NS: city, Dev: "eth0", Addrs: c.link().prefixes(2)}, c.Distance)
		if err != nil {
			return err
		}
		if err := defaultRoute(city, c.link()); err != nil {
			return err
		}
	}
	return nil
}

func (in *Internet) machine(name string) (*netns.NS, error) {
	n, err := netns.New(name)
	if err == nil {
		in.ns[name] = n
	}
	return n, err
}

func (in *Internet) wire(a, b netns.End, d time.Duration) error {
	w, err := newWire(a, b, d)
	if err == nil {
		in.wires = append(in.wires, w)
	}
	return err
}

func (in *Internet) buildRegion(r *Region) error {
	core, err := in.machine("core-" + r.ID)
	if err != nil {
		return err
	}
	router, err := in.machine("router-" + r.ID)
	if err != nil {
		return err
	}
	err = netns.Veth(netns.End{NS: core, Dev: "region", Addrs: r.uplink().prefixes(1)},
		netns.End{NS: router, Dev: "core", Addrs: r.uplink().prefixes(2)}, outsideMTU)
	if err != nil {
		return err
	}
	for i := range r.Nodes {
		n := &r.Nodes[i]
		node, err := in.machine(n.Name)
		if err != nil {
			return err
		}
		l := r.nodeLink(n)
		err = netns.Veth(netns.End{NS: router, Dev: deviceOf(n), Addrs: l.prefixes(1)},
			netns.End{NS: node, Dev: "eth0", Addrs: l.prefixes(2)}, insideMTU)
		if err != nil {
			return err
		}
		if err := defaultRoute(node, l); err != nil {
			return err
		}
		if n.Kind == Edge {
			if err := in.attachPass(router, deviceOf(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// defaultRoute sends everything to the host 1 of a node's link.
func defaultRoute(n *netns.NS, l link) error {
	v4, v6 := l.host(1)
	return errors.Join(n.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), v4), n.AddRoute(netip.MustParsePrefix("::/0"), v6))
}

func (in *Internet) attachPass(n *netns.NS, dev string) error {
	l, err := n.Netlink().LinkByName(dev)
	if err != nil {
		return fmt.Errorf("%s: device %s: %w", n.Name, dev, err)
	}
	return n.Do(func() error {
		at, err := blink.AttachXDP(blink.XDPOptions{Program: in.pass, Interface: l.Attrs().Index, Flags: blink.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("%s: pass program on %s: %w", n.Name, dev, err)
		}
		in.attached = append(in.attached, at)
		return nil
	})
}

// Run carries the frames of the long-distance links until ctx ends.
func (in *Internet) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range in.wires {
		g.Go(func() error { return w.run(ctx) })
	}
	return g.Wait()
}

// Machine gives the namespace of that name: core-REGION, router-REGION, a
// node's name or a city's id. Nil where there is none.
func (in *Internet) Machine(name string) *netns.NS { return in.ns[name] }

// setUplink takes a region's link to the core down or up, with all links
// inside the region.
func (in *Internet) setLinks(r *Region, up bool) error {
	router := in.ns["router-"+r.ID]
	set := router.Down
	if up {
		set = router.Up
	}
	errs := []error{set("core")}
	for i := range r.Nodes {
		errs = append(errs, set(deviceOf(&r.Nodes[i])))
	}
	return errors.Join(errs...)
}

// Close ends every process in the namespaces and frees them. Call it after
// Run has returned.
func (in *Internet) Close() error {
	var errs []error
	for _, l := range in.attached {
		errs = append(errs, l.Close())
	}
	if in.pass != nil {
		errs = append(errs, in.pass.Close())
	}
	for _, n := range in.ns {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}
