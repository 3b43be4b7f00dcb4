// Package daemon is what both programs do alike to be a node: flags, the
// fleet key, the node agent, health and gossip, and the order in which parts
// take a World, start and stop.
//
// Roof: imported by cmd/gslb and cmd/edge only.
package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"meridian/controlplane/xds"
	"meridian/fleet"
	"meridian/handover"
	"meridian/health"
	"meridian/health/gossip"
	"meridian/identity"
	"meridian/node"
)

// Base is what the parts of a node are built on.
type Base struct {
	Node     string
	Region   string
	Roles    []fleet.Role // those that the Spec gives the node and the program may take on
	World    *fleet.World // the first one
	Log      *slog.Logger
	Identity *identity.Identity
	Health   *health.Health
}

// Has says whether the node has the role in this program.
func (b *Base) Has(r fleet.Role) bool {
	for _, have := range b.Roles {
		if have == r {
			return true
		}
	}
	return false
}

// Config is what a Daemon needs besides its flags.
type Config struct {
	Program  string // gslb or edge
	Flags    *Flags
	Log      *slog.Logger
	Identity *identity.Identity
	Registry *prometheus.Registry          // takes every part's metrics
	Source   node.Source                   // brings the configuration with --spec; nil: the file itself
	Build    func(b *Base) ([]Part, error) // makes the parts of a node whose place in the fleet is known

	// Former is the process whose place this one takes; nil: there is none.
	Former *handover.Former
}

// Daemon is one node of the fleet.
type Daemon struct {
	cfg    Config
	static []Part
	// Stopping is called as soon as the node begins to stop; nil for nothing.
	Stopping func()
	agent    *node.Agent
	file     *node.FileSource // nil where the configuration comes from elsewhere
	client   *xds.Client      // nil where the configuration comes from a file
	base     atomic.Pointer[Base]
	world    atomic.Pointer[fleet.World]

	live  atomic.Pointer[[]Part] // nil until the first World; what Ready asks
	moved chan struct{}          // the Spec gives the node another place

	placed    chan struct{} // closed when the parts have started
	succeeded chan struct{} // holds one sign that another process has the place
	failed    chan error    // the place of the former process could not be taken

	upgrading sync.Mutex // one at a time

	mu    sync.Mutex // guards below
	parts []Part     // nil until the first World
	group *group
	ended bool
}

// New checks the configuration and makes the agent; it starts nothing.
func New(cfg Config) (*Daemon, error) {
	d := &Daemon{cfg: cfg, group: newGroup(), moved: make(chan struct{}, 1),
		placed: make(chan struct{}), succeeded: make(chan struct{}, 1), failed: make(chan error, 1)}
	d.cfg.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	source, name, err := d.source()
	if err != nil {
		return nil, err
	}
	d.agent, err = node.New(node.Config{
		Name: cfg.Flags.Node, Source: source, SourceName: name, Logger: cfg.Log,
		Disk:     node.NewDisk(filepath.Join(cfg.Flags.Data, cfg.Program+".world"), cfg.Identity),
		Appliers: []node.Named{{Name: "node", Applier: node.ApplierFunc(d.apply)}},
	})
	if err != nil {
		return nil, err
	}
	d.agent.Register(d.cfg.Registry)
	return d, nil
}

// Static adds parts that run whether or not there is a World yet: what brings
// it, and what tells how the node does. Call it before Run.
func (d *Daemon) Static(parts ...Part) {
	for _, p := range parts {
		if p.Register != nil {
			p.Register(d.cfg.Registry)
		}
	}
	d.static = append(d.static, parts...)
}

// source makes what brings the configuration: a file, or the control planes.
func (d *Daemon) source() (node.Source, string, error) {
	f := d.cfg.Flags
	if f.Spec != "" && d.cfg.Source != nil {
		return d.cfg.Source, "file", nil
	}
	if f.Spec != "" {
		d.file = node.NewFileSource(f.Spec, d.cfg.Log)
		return d.file, "file", nil
	}
	client, err := xds.NewClient(xds.ClientConfig{Node: f.Node, Addresses: f.Control,
		TLS: d.cfg.Identity.Credentials(f.Node, time.Now, rand.Reader).Client(), Logger: d.cfg.Log})
	if err != nil {
		return nil, "", err
	}
	client.Register(d.cfg.Registry)
	d.client = client
	return client, "store", nil
}

// Client gives the connection to the control planes; nil where the
// configuration comes from a file.
func (d *Daemon) Client() *xds.Client { return d.client }

// Reload reads a Spec file anew; with control planes there is nothing to read.
func (d *Daemon) Reload() {
	if d.file != nil {
		d.file.Reload()
	}
}

// errMoved ends Run where the program is to start anew.
var errMoved = errors.New("the node's place in the Spec has changed")

// Again runs the program anew, as the same process with the same arguments,
// where err says that Run ended for that; else it gives err.
func Again(err error) error {
	if !errors.Is(err, errMoved) {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("starting anew: %w", err)
	}
	return fmt.Errorf("starting anew: %w", syscall.Exec(self, os.Args, os.Environ()))
}

// Base gives what the node's parts are built on; nil until the first World.
func (d *Daemon) Base() *Base { return d.base.Load() }

// World gives the World in force; nil until the first.
func (d *Daemon) World() *fleet.World { return d.world.Load() }

// Agent gives the node agent.
func (d *Daemon) Agent() *node.Agent { return d.agent }

// Run runs the node until ctx ends, a part fails, or another process has taken the
// node's place (Upgrade). It stops the agent first, so that no World comes in any
// more, and then the parts in the opposite order of their start.
func (d *Daemon) Run(ctx context.Context) error {
	static, agent := newGroup(), newGroup()
	placed := d.placed
	if d.cfg.Former == nil {
		static.start(d.static, all)
		placed = nil
	}
	agent.start([]Part{{Name: "agent", Run: d.agent.Run}}, all)
	var err, why error
wait:
	for {
		select {
		case <-placed: // what the former process served about the node is this one's now
			static.start(d.static, all)
			placed = nil
			continue
		case <-ctx.Done():
		case <-d.succeeded:
			why = errHandedOver
		case err = <-d.failed:
			why = errHandedOver // the former process has it
		case err = <-d.group.failed:
		case err = <-static.failed:
		case err = <-agent.failed:
		case <-d.moved:
			err = errMoved
		}
		break wait
	}
	stopErr := d.stop(static, agent, why)
	if err != nil {
		return err
	}
	return stopErr
}

func (d *Daemon) stop(static, agent *group, why error) error {
	var errs []error
	if why != nil {
		// The other process tells of the node now.
		errs = append(errs, static.stop(all, why))
	} else if d.Stopping != nil {
		d.Stopping()
	}
	errs = append(errs, agent.stop(all, why))
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	return errors.Join(append(errs, d.group.stop(all, why), static.stop(all, why))...)
}

// apply is the agent's one applier: it builds the parts with the first World,
// and hands every World on to them.
func (d *Daemon) apply(w *fleet.World) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return errors.New("the node is stopping")
	}
	n := w.Snapshot.Node(d.cfg.Flags.Node)
	if d.parts != nil && !d.inPlace(n) {
		// The agent keeps this World; the program starts anew in its new place,
		// or idle where it has none.
		d.cfg.Log.Warn("the Spec gives this node another place; starting anew", "revision", w.Snapshot.Revision)
		select {
		case d.moved <- struct{}{}:
		default:
		}
		return nil
	}
	if n == nil {
		return fmt.Errorf("node %q is not in the Spec", d.cfg.Flags.Node)
	}
	if d.parts != nil {
		if err := node.ApplyAll(appliers(d.parts), d.world.Load(), w); err != nil {
			return err
		}
		d.world.Store(w)
		return nil
	}
	base, parts, err := d.build(n, w)
	if err != nil {
		return d.notTaken(err)
	}
	if err := node.ApplyAll(appliers(parts), nil, w); err != nil {
		return d.notTaken(err)
	}
	for _, p := range parts {
		if p.Register != nil {
			p.Register(d.cfg.Registry)
		}
		if p.SetView != nil {
			base.Health.Subscribe(p.SetView)
		}
	}
	d.world.Store(w)
	d.base.Store(base)
	d.parts = parts
	d.live.Store(&parts)
	if d.cfg.Former != nil {
		if err := d.succeed(parts); err != nil {
			return d.notTaken(err)
		}
	}
	which := all
	if d.cfg.Former != nil {
		which = rest
	}
	d.group.start(parts, which)
	close(d.placed)
	d.cfg.Log.Info("node is in its place", "node", n.Name, "region", n.Region, "roles", base.Roles, "revision", w.Snapshot.Revision)
	return nil
}

// inPlace says whether n, which may be nil, has the region and roles that the
// parts were built for.
func (d *Daemon) inPlace(n *fleet.Node) bool {
	b := d.base.Load()
	return n != nil && n.Region == b.Region && slices.Equal(d.roles(n), b.Roles)
}

// roles gives those of the node's roles that this program takes on, in the
// order of all roles.
func (d *Daemon) roles(n *fleet.Node) []fleet.Role {
	var out []fleet.Role
	for _, r := range fleet.Role("").Values() {
		if r := fleet.Role(r); n.Has(r) && d.cfg.Flags.Role(r) {
			out = append(out, r)
		}
	}
	return out
}

// build makes the base and the parts of the node: health and gossip first,
// since the others lean on them.
func (d *Daemon) build(n *fleet.Node, w *fleet.World) (*Base, []Part, error) {
	f := d.cfg.Flags
	base := &Base{Node: n.Name, Region: n.Region, Roles: d.roles(n), World: w, Log: d.cfg.Log, Identity: d.cfg.Identity}
	cfg := health.Config{Node: n.Name, Region: n.Region, Roles: base.Roles, Logger: d.cfg.Log}
	var parts []Part
	bind, ok, err := f.gossipBind()
	if err != nil {
		return nil, nil, err
	}
	if ok {
		g, err := gossip.New(gossip.Config{Node: n.Name, Program: d.cfg.Program, Region: n.Region, Key: d.cfg.Identity.GossipKey(),
			Bind: bind, Join: f.Join, HandedOver: HandedOver, Logger: d.cfg.Log})
		if err != nil {
			return nil, nil, err
		}
		cfg.Transport = g
		parts = append(parts, Part{Name: "gossip", Sole: true, Apply: g.Apply, Run: g.Run, Register: g.Register})
	}
	base.Health, err = health.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	parts = append(parts, Part{Name: "health", Apply: base.Health.Apply, Run: base.Health.Run, Register: base.Health.Register})
	more, err := d.cfg.Build(base)
	if err != nil {
		return nil, nil, err
	}
	return base, append(parts, more...), nil
}

// Ready says why the node cannot do its work; nil when it can.
func (d *Daemon) Ready() error {
	parts := d.live.Load()
	if parts == nil {
		if why := d.agent.Status().Error; why != "" {
			return fmt.Errorf("no configuration yet: %s", why)
		}
		return errors.New("no configuration yet")
	}
	var errs []error
	for _, p := range *parts {
		if p.Ready == nil {
			continue
		}
		if err := p.Ready(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return errors.Join(errs...)
}
