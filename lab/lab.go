//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"meridian/controlplane/api"
	"meridian/fleet"
	"meridian/internal/testkit/netns"
)

// Ports of the fleet's own traffic, the same on every node.
const (
	gossipPort    = 7946
	xdsPort       = 7443
	peerPort      = 7380
	adminPort     = 8053
	healthPort    = 8054
	dashboardPort = 8080
)

// Programs are the files of the two programs under test.
type Programs struct{ Gslb, Edge string }

// A Lab is a Topology with the real programs running in it.
type Lab struct {
	Topology *Topology
	Dir      string // logs, data, certificates and the Spec of this run

	programs Programs
	token    string // of the admin API of every gslb node
	log      *slog.Logger
	in       *Internet // nil on loopback
	here     *netns.NS // on loopback, where the processes run
	ps       *processes
	cancel   context.CancelFunc
	carried  chan error // the Internet's Run

	acting sync.Mutex // held while an order is carried out, so that they follow one another

	mu   sync.Mutex
	live map[string]bool // regions that are up
}

// Start builds the topology and starts every process, without waiting until
// they serve. dir must exist and be empty; Close removes it.
func Start(top *Topology, dir string, programs Programs, log *slog.Logger) (*Lab, error) {
	l := &Lab{Topology: top, Dir: dir, programs: programs, log: log, ps: newProcesses(dir, log), live: map[string]bool{}}
	if err := l.start(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) start() error {
	if err := writeSecrets(l.Dir); err != nil {
		return err
	}
	var err error
	if l.token, err = api.LoadOrCreateToken(l.Dir); err != nil {
		return err
	}
	doc, err := specYAML(l.Topology.Spec())
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path(specFile), doc, 0o600); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	if l.Topology.Loopback {
		if l.here, err = netns.Here("loopback"); err != nil {
			return err
		}
	} else {
		if l.in, err = Build(l.Topology, l.log); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		l.cancel, l.carried = cancel, make(chan error, 1)
		go func() { l.carried <- l.in.Run(ctx) }()
		for i := range l.Topology.Regions {
			if err := l.startRouter("core", l.Topology.coreConfig(&l.Topology.Regions[i])); err != nil {
				return err
			}
		}
	}
	for i := range l.Topology.Regions {
		if err := l.startRegion(&l.Topology.Regions[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.Dir}, parts...)...)
}

// Close ends every process, frees the namespaces and removes the directory.
func (l *Lab) Close() error {
	l.ps.killAll()
	var errs []error
	if l.in != nil {
		if l.cancel != nil {
			l.cancel()
			errs = append(errs, <-l.carried)
		}
		errs = append(errs, l.in.Close())
	}
	if l.here != nil {
		errs = append(errs, l.here.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(l.Dir))...)
}

func (l *Lab) startRouter(site string, cfg RouterConfig) error {
	doc, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil {
		return fmt.Errorf("router %s: %w", cfg.Name, err)
	}
	file := l.path(cfg.Name + ".json")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		return fmt.Errorf("router %s: %w", cfg.Name, err)
	}
	_, err = l.ps.start(l.in.Machine(cfg.Name), site, cfg.Name, l.programs.Gslb, "lab-router", "--config", file)
	return err
}

// startRegion starts every process of a region.
func (l *Lab) startRegion(r *Region) error {
	if l.in != nil {
		if err := l.startRouter(r.ID, l.Topology.routerConfig(r)); err != nil {
			return err
		}
	}
	for i := range r.Nodes {
		if err := l.startNode(r, &r.Nodes[i]); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.live[r.ID] = true
	l.mu.Unlock()
	return nil
}

func (l *Lab) startNode(r *Region, n *Node) error {
	var argv []string
	switch n.Kind {
	case Backend:
		v4, _ := l.Topology.Addr(r, n)
		argv = []string{l.programs.Gslb, "lab-backend", "--name", n.Name, "--region", r.ID,
			"--listen", netip.AddrPortFrom(v4, l.Topology.BackendPort).String(),
			"--cert", l.path(backendCert), "--key", l.path(backendKey)}
	case Gslb:
		argv = l.gslbArgs(r, n)
	case Edge:
		argv = l.edgeArgs(r, n)
	}
	if n.Kind != Backend {
		if err := os.MkdirAll(l.data(n), 0o700); err != nil {
			return fmt.Errorf("data of %s: %w", n.Name, err)
		}
	}
	where := l.here
	if l.in != nil {
		where = l.in.Machine(n.Name)
	}
	_, err := l.ps.start(where, r.ID, n.Name, argv...)
	return err
}

// data is a node's data directory, which survives its death as a disk does.
func (l *Lab) data(n *Node) string { return l.path("data", n.Name) }

// at gives ADDRESS:PORT of a node in the fleet's network.
func (l *Lab) at(r *Region, n *Node, port uint16) string {
	v4, _ := l.Topology.Addr(r, n)
	return netip.AddrPortFrom(v4, port).String()
}

// own gives ADDRESS:PORT that only the node itself reaches: its loopback, or
// on the shared loopback its own address.
func (l *Lab) own(r *Region, n *Node, port uint16) string {
	if l.Topology.Loopback {
		return l.at(r, n, port)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// everyGslb lists a port of all gslb nodes but one.
func (l *Lab) everyGslb(but *Node, form func(r *Region, n *Node) string) string {
	var out []string
	for i := range l.Topology.Regions {
		r := &l.Topology.Regions[i]
		for _, n := range r.Of(Gslb) {
			if n != but {
				out = append(out, form(r, n))
			}
		}
	}
	return strings.Join(out, ",")
}

func (l *Lab) common(r *Region, n *Node) []string {
	return []string{
		"--node", n.Name, "--data", l.data(n), "--roles", joinRoles(n.Roles),
		"--fleet-key", l.path(fleetKeyFile),
		"--gossip", l.at(r, n, gossipPort),
		"--join", l.everyGslb(n, func(r *Region, n *Node) string { return l.at(r, n, gossipPort) }),
	}
}

func joinRoles(roles []fleet.Role) string {
	var out []string
	for _, r := range roles {
		out = append(out, string(r))
	}
	return strings.Join(out, ",")
}

func (l *Lab) gslbArgs(r *Region, n *Node) []string {
	argv := append([]string{l.programs.Gslb, "serve"}, l.common(r, n)...)
	v4, v6 := l.Topology.Addr(r, n)
	for _, a := range []netip.Addr{v4, v6} {
		if a.IsValid() {
			argv = append(argv, "--listen", netip.AddrPortFrom(a, l.Topology.DNSPort).String())
		}
	}
	return append(argv,
		"--admin", l.own(r, n, adminPort), "--admin-token-file", l.path(api.TokenFile),
		"--dashboard", l.own(r, n, dashboardPort),
		"--xds", l.at(r, n, xdsPort),
		"--store-peers", l.everyGslb(nil, func(r *Region, n *Node) string {
			return n.Name + "=" + l.at(r, n, peerPort)
		}))
}

func (l *Lab) edgeArgs(r *Region, n *Node) []string {
	argv := append([]string{l.programs.Edge, "run"}, l.common(r, n)...)
	argv = append(argv, "--health", l.own(r, n, healthPort),
		"--control", l.everyGslb(nil, func(r *Region, n *Node) string { return l.at(r, n, xdsPort) }))
	if l.in != nil {
		return append(argv, "--device", "eth0", "--pins", "", "--mtu", strconv.Itoa(insideMTU))
	}
	return append(argv, "--device", "none")
}

// region gives the region of that id, or an error that names those there are.
func (l *Lab) region(id string) (*Region, error) {
	if r := l.Topology.Region(id); r != nil {
		return r, nil
	}
	var ids []string
	for _, r := range l.Topology.Regions {
		ids = append(ids, r.ID)
	}
	return nil, fmt.Errorf("there is no region %q; there are %s", id, strings.Join(ids, ", "))
}

// Alive says whether a region is up.
func (l *Lab) Alive(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live[id]
}

// Kill ends a region at once: its links go down and its processes are killed.
func (l *Lab) Kill(id string) error {
	r, err := l.region(id)
	if err != nil {
		return err
	}
	l.mu.Lock()
	was := l.live[id]
	l.live[id] = false
	l.mu.Unlock()
	if !was {
		return fmt.Errorf("region %s is dead already", id)
	}
	if l.in != nil {
		if err := l.in.setLinks(r, false); err != nil {
			return err
		}
	}
	names := []string{"router-" + id}
	for _, n := range r.Nodes {
		names = append(names, n.Name)
	}
	l.ps.kill(id, names)
	return nil
}

// Restore brings a dead region back with what was on its disks.
func (l *Lab) Restore(id string) error {
	r, err := l.region(id)
	if err != nil {
		return err
	}
	if l.Alive(id) {
		return fmt.Errorf("region %s is alive", id)
	}
	if l.in != nil {
		if err := l.in.setLinks(r, true); err != nil {
			return err
		}
	}
	return l.startRegion(r)
}

// Dial opens a connection from a machine: a node, a router, or a city.
func (l *Lab) Dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	if l.in == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	m := l.in.Machine(from)
	if m == nil {
		return nil, fmt.Errorf("there is no machine %q", from)
	}
	return m.Dial(ctx, network, address)
}
