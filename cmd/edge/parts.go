package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/anycast"
	"meridian/anycast/gobgp"
	"meridian/cli"
	"meridian/daemon"
	"meridian/edge/l7"
	"meridian/edge/l7/h2"
	"meridian/edge/l7/h3"
	"meridian/edge/l7/otlp"
	"meridian/edge/quiclb"
	"meridian/edge/xdp"
	"meridian/fleet"
	"meridian/handover"
	"meridian/probe"
)

// flags are what edge run takes besides a daemon's.
type flags struct {
	daemon.Flags
	Device    string
	Mode      string
	Pins      string
	Flows     int
	Geo       cli.List
	SFlow     string
	MTU       int
	Health    string
	AccessLog uint64
	HTTP3     bool
	Opinion   uint64

	admin   *admin
	sockets *handover.Set
	carrier atomic.Pointer[h3.Carrier]                   // nil without HTTP/3
	demand  func(ctx context.Context, name string) error // nil with --spec
}

// noDevice leaves layer 4 out: the gateway alone, on addresses that this
// machine has.
const noDevice = "none"

// build makes the parts of an edge node. They start in this order and stop in
// the opposite one: first the announcements go, so that nothing new arrives,
// then the gateway finishes its requests while layer 4 still forwards to it,
// and the addresses go last.
func (f *flags) build(b *daemon.Base) ([]daemon.Part, error) {
	var parts []daemon.Part
	l4, l7role, bgp := b.Has(fleet.RoleL4), b.Has(fleet.RoleL7), b.Has(fleet.RoleBGP)
	if f.Device == noDevice {
		if bgp {
			return nil, fmt.Errorf("--device %s: role bgp needs a device", noDevice)
		}
		l4 = false
	}
	if !l4 && !l7role || f.Device == noDevice {
		f.leave(b)
	}
	if !l4 && !l7role {
		return nil, fmt.Errorf("node %q has neither role l4 nor role l7 for this program", b.Node)
	}
	if err := f.issued(b.World.Snapshot.Spec); l7role && err != nil {
		return nil, err
	}
	forwarded := f.Device != noDevice
	if l7role && forwarded {
		a := xdp.NewAddresses(b.Node, f.Device, b.Log)
		parts = append(parts, daemon.Part{Name: "addresses", Apply: a.Apply, Run: atEnd(a.Close)})
	}
	ready := func() error { return errors.New("nothing can serve") }
	gateway := f.gateway(b, forwarded)
	if forwarded {
		x, more, err := f.layer4(b, xdp.Roles{L4: l4, L7: l7role})
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
		ready, gateway.TakesCookies, gateway.Arrived = x.Ready, x.TakesCookies, x.Arrived
		gateway.Slot = slotOf(x)
	}
	if l7role {
		g, more, err := f.layer7(b, gateway)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
		if !l4 {
			ready = g.Ready
		}
	}
	if bgp {
		parts = append(parts, daemon.Part{Name: "reconvergence", Run: atEnd(func() error {
			time.Sleep(reconvergence)
			return nil
		})})
		more, err := f.announce(b, ready)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	return parts, nil
}

// atEnd gives the Run of a part that does something when the node ends, and
// nothing where another process goes on.
func atEnd(end func() error) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		if daemon.HandedOver(ctx) {
			return nil
		}
		return end()
	}
}

// gateway says how this node's gateway is to be.
func (f *flags) gateway(b *daemon.Base, forwarded bool) l7.Config {
	segment := f.segment(forwarded)
	return l7.Config{Node: b.Node, Region: b.Region, Health: b.Health, Colleagues: b.Health, Holders: b.Health, Prober: probe.New(probe.Config{}), Logger: b.Log,
		MaxSegment: segment, AccessLog: f.accessLog(b.Log), AccessEvery: f.AccessLog, HTTP2: h2.New(), Mux: h2.NewUpstream,
		AffinityKey: b.Identity.AffinityKey(), WhyKey: b.Identity.WhyKey(), HopKey: b.Identity.HopKey(), TicketKey: b.Identity.TicketKey, Demand: f.demand, SecondOpinion: f.Opinion,
		HandedOver: daemon.HandedOver,
		Listen: func(ctx context.Context, network, address string) (net.Listener, error) {
			return f.sockets.Listen(network, address, func() (net.Listener, error) { return segment.Listen(ctx, network, address) })
		},
		ListenPacket: func(ctx context.Context, network, address string) (net.PacketConn, error) {
			return f.sockets.ListenPacket(network, address, func() (net.PacketConn, error) { return l7.ListenPacket(ctx, network, address) })
		}}
}

// layer7 makes the gateway and what belongs to it.
func (f *flags) layer7(b *daemon.Base, gateway l7.Config) (*l7.Gateway, []daemon.Part, error) {
	before, serve := func(*fleet.World) error { return nil }, func() {}
	var yield func(bool)
	register := func(prometheus.Registerer) {}
	if f.HTTP3 {
		c, err := f.http3(b)
		if err != nil {
			return nil, nil, err
		}
		gateway.HTTP3, before, yield, serve, register = c, c.Apply, c.Yield, c.Unwanted, c.Register
	}
	export := otlp.New(otlp.Config{Node: b.Node, Region: b.Region, Logger: b.Log})
	gateway.Telemetry = export
	g, err := l7.New(gateway)
	if err != nil {
		return nil, nil, err
	}
	apply := func(w *fleet.World) error {
		if err := before(w); err != nil {
			return err
		}
		return g.Apply(w)
	}
	run := func(ctx context.Context) error {
		serve()
		return g.Run(ctx)
	}
	return g, []daemon.Part{
		{Name: "telemetry", Apply: export.Apply, Run: export.Run, Register: export.Register},
		{Name: "gateway", Apply: apply, Run: run, Yield: yield, Ready: g.Ready, Register: func(r prometheus.Registerer) {
			g.Register(r)
			register(r)
		}},
	}, nil
}

// http3 makes what serves HTTP/3. Its connection ids tell this process by its
// number from another that takes over: both run at the same time.
func (f *flags) http3(b *daemon.Base) (*h3.Carrier, error) {
	c, err := h3.New(h3.Config{Node: b.Node, Key: b.Identity.QUICKey(), ResetKey: b.Identity.QUICResetKey(b.Node),
		TokenKey: b.Identity.QUICTokenKey(), Generation: uint32(os.Getpid()), Random: rand.Reader,
		Former: f.sockets.Take(quicWays)})
	f.carrier.Store(c)
	return c, err
}

// issued refuses what needs a control plane where there is none.
func (f *flags) issued(spec *fleet.Spec) error {
	for i := range spec.Certificates {
		if c := &spec.Certificates[i]; f.Spec != "" && c.ACME != nil {
			return fmt.Errorf("certificates[%d].acme: certificate %q is issued by a control plane, and --spec takes none; give it by cert and key", i, c.ID)
		}
	}
	return nil
}

// leave takes off the program that an earlier process left, on a node that has no
// part in layer 4 any more (its roles, or --device none): nobody would look after it.
func (f *flags) leave(b *daemon.Base) {
	folder := pinsOf(f.Pins, b.Node)
	if folder == "" {
		return
	}
	switch device, err := xdp.Detach(folder); {
	case err != nil:
		b.Log.Warn("layer 4 of an earlier process may be at a device still", "error", err)
	case device != 0:
		b.Log.Info("layer 4 taken off: this node has no part in it any more")
	}
}

// layer4 makes layer 4, and what looks after it.
func (f *flags) layer4(b *daemon.Base, roles xdp.Roles) (*xdp.Layer4, []daemon.Part, error) {
	source, watch, err := f.geo(b)
	if err != nil {
		return nil, nil, err
	}
	x, err := xdp.New(xdp.Config{Node: b.Node, Roles: roles, Device: f.Device, Geo: source,
		Mode: xdp.Mode(f.Mode), Pins: pinsOf(f.Pins, b.Node), Flows: f.Flows, Key: xdp.Key(b.Identity.FlowKey(b.Region)),
		QUIC: []quiclb.Config{quiclb.ForFleet(b.Identity.QUICKey())},
		CookieKey: func(generation int, epoch int64) xdp.Key {
			return xdp.Key(b.Identity.SYNCookieKey(b.Region, generation, epoch))
		}, Health: b.Health, Log: b.Log})
	if err != nil {
		return nil, nil, err
	}
	f.admin.take(x)
	parts := []daemon.Part{{Name: "layer 4", Apply: x.Apply, SetView: x.SetView, Run: func(ctx context.Context) error { return without(x.Run(ctx), roles) }, Register: x.Register, Ready: x.Ready}}
	parts = append(parts, watch(x)...)
	parts = append(parts, f.sflow(b, x)...)
	for i := range parts {
		parts[i].Sole = true
	}
	return x, parts, nil
}

// without adds to the error of a machine that cannot run layer 4 what can be done
// without it.
func without(err error, roles xdp.Roles) error {
	switch {
	case !errors.Is(err, xdp.ErrUnable):
		return err
	case roles.L7:
		return fmt.Errorf("%w; --device %s serves as a gateway alone, at VIPs that this machine has", err, noDevice)
	}
	return fmt.Errorf("%w; there is no balancing without", err)
}

// reconvergence is how long a node that stops goes on forwarding after it has
// taken its routes back: what routers send meanwhile still arrives.
const reconvergence = time.Second

// segment is the MSS that leaves room for the tunnel's header; none where
// nothing is tunnelled.
func (f *flags) segment(forwarded bool) l7.MaxSegment {
	if !forwarded {
		return l7.MaxSegment{}
	}
	return l7.MaxSegment{V4: xdp.MSS(f.MTU, false), V6: xdp.MSS(f.MTU, true)}
}

func (f *flags) accessLog(log *slog.Logger) *slog.Logger {
	if f.AccessLog == 0 {
		return nil
	}
	return log
}

// announce makes the BGP speaker and what decides on its announcements. The
// speaker starts first and stops last, so that a node that ends takes its
// routes back before its sessions close.
func (f *flags) announce(b *daemon.Base, ready func() error) ([]daemon.Part, error) {
	speaker, err := gobgp.New(gobgp.Config{Node: b.Node, Secret: resolve, Logger: b.Log,
		Restarting: f.sockets.Former() != nil, HandedOver: daemon.HandedOver})
	if err != nil {
		return nil, err
	}
	stays := &staying{Speaker: speaker}
	a, err := anycast.New(anycast.Config{Node: b.Node, Speaker: stays, Local: ready, Logger: b.Log})
	if err != nil {
		return nil, err
	}
	return []daemon.Part{
		{Name: "bgp", Sole: true, Apply: speaker.Apply, Run: speaker.Run, Register: speaker.Register},
		{Name: "anycast", Sole: true, Apply: a.Apply, SetView: a.SetView, Run: stays.during(a.Run), Register: a.Register},
	}, nil
}

// staying is a speaker whose announcements hold when another process of the node
// takes over: what would be taken back is not.
type staying struct {
	*gobgp.Speaker
	ctx context.Context
}

func (s *staying) during(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		s.ctx = ctx
		return run(ctx)
	}
}

// Announce implements anycast.Speaker; it is called by what runs during.
func (s *staying) Announce(ads []fleet.Advertisement) error {
	if daemon.HandedOver(s.ctx) {
		return nil
	}
	return s.Speaker.Announce(ads)
}

// resolve gives the content that a secret reference stands for on this node.
func resolve(s fleet.Secret) (string, error) {
	if name, ok := strings.CutPrefix(string(s), "env:"); ok {
		v, ok := os.LookupEnv(name)
		if !ok {
			return "", fmt.Errorf("secret %s: the variable is not set", s)
		}
		return v, nil
	}
	b, err := os.ReadFile(strings.TrimPrefix(string(s), "file:"))
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", s, err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// healthAddress reads --health.
func (f *flags) healthAddress() (netip.AddrPort, error) {
	a, err := fleet.ParseListen(f.Health)
	if err != nil {
		return a, fmt.Errorf("--health: %w", err)
	}
	return a, nil
}
