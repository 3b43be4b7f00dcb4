// Package gossip carries health frames between nodes by memberlist: it finds
// the members, sends each frame straight to all of them in one encrypted
// packet, and lets members that meet exchange what they hold.
//
// It is an adapter room: it imports fleet alone and is a health.Transport. Only the
// programs and lab import it.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// DefaultPort is where nodes gossip, by UDP and TCP.
const DefaultPort = 7946

// Config is what a Gossip needs.
type Config struct {
	Node    string // this node's name, unique in the fleet
	Program string // tells the programs of one node apart; may be empty
	Region  string
	Label   string // separates fleets that share a network; the same on all nodes, may be empty
	Key     []byte // encrypts and authenticates every packet: 32 octets, the same on all nodes

	// Bind is where to listen. All nodes use its port. Where its address is
	// not one of the machine's own (the zero Addr, 0.0.0.0 or ::), the node's address in
	// the Snapshot is told to the others, and Run waits for the first Apply.
	Bind netip.AddrPort

	// HandedOver says of Run's context that it ended since another process of this
	// node goes on: no leave is taken then. nil: it never does.
	HandedOver func(ctx context.Context) bool

	Join   []string // HOST:PORT or HOST of nodes to find the others by, besides those in the Snapshot
	Logger *slog.Logger
}

// Gossip is one member. Its methods are safe for concurrent use.
type Gossip struct {
	cfg  Config
	list atomic.Pointer[memberlist.Memberlist] // nil unless Run has joined the network
	self chan netip.Addr                       // what the first useful Apply says this node's address is

	mu    sync.Mutex
	peers []peer // guarded by mu: the other nodes of the Snapshot; replaced as a whole

	// Set by health before Run and never after.
	receive func([]byte)
	local   func() []byte
	merge   func([]byte)

	sent  *prometheus.CounterVec
	joins *prometheus.CounterVec
}

// peer is a node that the Snapshot knows, and where it should be heard.
type peer struct {
	name string
	at   netip.AddrPort
}

// New makes a Gossip; it opens nothing.
func New(cfg Config) (*Gossip, error) {
	switch {
	case cfg.Node == "":
		return nil, errors.New("gossip: node name is missing")
	case len(cfg.Key) != 32:
		return nil, fmt.Errorf("gossip: key of %d octets, expected 32", len(cfg.Key))
	case len(cfg.Label) > memberlist.LabelMaxSize:
		return nil, fmt.Errorf("gossip: label of %d octets, at most %d", len(cfg.Label), memberlist.LabelMaxSize)
	case cfg.Bind.Port() == 0:
		return nil, errors.New("gossip: bind: port is missing")
	case cfg.Logger == nil:
		return nil, errors.New("gossip: logger is missing")
	}
	return &Gossip{
		cfg: cfg, self: make(chan netip.Addr, 1),
		receive: func([]byte) {}, local: func() []byte { return nil }, merge: func([]byte) {},
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_gossip_frames_sent_total",
			Help: "Frames sent, one for each receiver, by what came of it."}, []string{"result"}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_gossip_joins_total",
			Help: "Attempts to reach nodes that are not members, by what came of it."}, []string{"result"}),
	}, nil
}

// Register offers the metrics; call it once for each registry.
func (g *Gossip) Register(r prometheus.Registerer) {
	r.MustRegister(g.sent, g.joins, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "meridian_gossip_members", Help: "Live members, this node among them."},
		func() float64 { return float64(len(g.Members())) }))
}

// Receive implements health.Transport.
func (g *Gossip) Receive(f func(frame []byte)) { g.receive = f }

// Exchange implements health.Transport.
func (g *Gossip) Exchange(local func() []byte, merge func([]byte)) { g.local, g.merge = local, merge }

// Apply takes the nodes of the Snapshot as those to keep in touch with.
func (g *Gossip) Apply(w *fleet.World) error {
	if w == nil || w.Snapshot == nil {
		return errors.New("gossip: the world has no snapshot")
	}
	self := g.cfg.Bind.Addr()
	if n := w.Snapshot.Node(g.cfg.Node); !specific(self) && n != nil {
		self = n.Addresses.V4
		if !self.IsValid() {
			self = n.Addresses.V6
		}
		select {
		case g.self <- self:
		default:
		}
	}
	var peers []peer
	for _, n := range w.Snapshot.Spec.Nodes {
		a := n.Addresses.V4
		if !a.IsValid() || self.Is6() && n.Addresses.V6.IsValid() {
			a = n.Addresses.V6
		}
		// Nodes may share one machine's address; this one's leads back here.
		if n.Name != g.cfg.Node && a != self && n.State != fleet.Disabled {
			peers = append(peers, peer{n.Name, netip.AddrPortFrom(a, g.cfg.Bind.Port())})
		}
	}
	g.mu.Lock()
	g.peers = peers
	g.mu.Unlock()
	return nil
}

// name is what the members call this one.
func (g *Gossip) name() string {
	if g.cfg.Program == "" {
		return g.cfg.Node
	}
	return g.cfg.Node + "/" + g.cfg.Program
}

func specific(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

// strangers lists the Snapshot's nodes that are not among the members.
func (g *Gossip) strangers(members []*memberlist.Node) []netip.AddrPort {
	met := make(map[string]bool, len(members))
	for _, n := range members {
		name, _, _ := strings.Cut(n.Name, "/")
		met[name] = true
	}
	g.mu.Lock()
	peers := g.peers
	g.mu.Unlock()
	var out []netip.AddrPort
	for _, p := range peers {
		if !met[p.name] && !slices.Contains(out, p.at) {
			out = append(out, p.at)
		}
	}
	return out
}

// Broadcast implements health.Transport. A frame goes to every live member,
// and also to the Snapshot's nodes that are none: a node that has just come back,
// or was taken for dead by mistake, need not wait to be met again.
func (g *Gossip) Broadcast(frame []byte) {
	m := g.list.Load()
	if m == nil {
		return
	}
	members := m.Members()
	for _, n := range members {
		if n.Name != g.name() {
			g.count(g.sent, m.SendBestEffort(n, frame))
		}
	}
	for _, a := range g.strangers(members) {
		g.count(g.sent, m.SendToAddress(memberlist.Address{Addr: a.String()}, frame))
	}
}

func (g *Gossip) count(c *prometheus.CounterVec, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	c.WithLabelValues(result).Inc()
}

// Members lists the names of the live members, as NODE or NODE/PROGRAM, this
// one's among them; none before Run has started.
func (g *Gossip) Members() []string {
	m := g.list.Load()
	if m == nil {
		return nil
	}
	var out []string
	for _, n := range m.Members() {
		out = append(out, n.Name)
	}
	slices.Sort(out)
	return out
}

// Run takes part until ctx ends, and then takes leave of the others. It fails
// where it cannot listen. It may be called again after it returned.
func (g *Gossip) Run(ctx context.Context) error {
	self := g.cfg.Bind.Addr()
	if !specific(self) {
		select {
		case self = <-g.self:
			defer func() { // for another Run, unless Apply has given one
				select {
				case g.self <- self:
				default:
				}
			}()
		case <-ctx.Done():
			return nil
		}
	}
	m, err := memberlist.Create(g.config(self))
	if err != nil {
		return fmt.Errorf("gossip: listen at %s: %w", g.cfg.Bind, err)
	}
	g.list.Store(m)
	var joining sync.WaitGroup
	joining.Go(func() { g.keepJoining(ctx, m, netip.AddrPortFrom(self, g.cfg.Bind.Port())) })
	defer joining.Wait()
	<-ctx.Done()
	g.list.Store(nil)
	if g.cfg.HandedOver != nil && g.cfg.HandedOver(ctx) {
		// The others are not told: the node stays.
	} else if err := m.Leave(farewell); err != nil {
		g.cfg.Logger.Debug("gossip: not everybody heard the farewell", "err", err)
	}
	if err := m.Shutdown(); err != nil {
		return fmt.Errorf("gossip: shut down: %w", err)
	}
	return nil
}

const farewell = 500 * time.Millisecond

// config is memberlist's configuration for members that may be half the earth
// apart: a round trip takes up to 300 ms, and packets get lost. Frames do not
// depend on the pace set here.
func (g *Gossip) config(self netip.Addr) *memberlist.Config {
	c := memberlist.DefaultWANConfig()
	c.Name = g.name()
	c.Label = g.cfg.Label
	c.SecretKey = g.cfg.Key
	c.BindAddr, c.BindPort = g.cfg.Bind.Addr().String(), int(g.cfg.Bind.Port())
	if !g.cfg.Bind.Addr().IsValid() {
		c.BindAddr = netip.IPv6Unspecified().String()
	}
	c.AdvertiseAddr, c.AdvertisePort = self.String(), c.BindPort
	c.ProbeInterval, c.ProbeTimeout = 2*time.Second, time.Second
	c.GossipInterval = 200 * time.Millisecond
	c.PushPullInterval = 10 * time.Second
	c.TCPTimeout = joinTimeout
	c.DeadNodeReclaimTime = 5 * time.Second
	c.EnableCompression = false // frames do not compress
	c.Delegate, c.Events = delegate{g}, delegate{g}
	c.Logger = log.New(newLogWriter(g.cfg.Logger), "", 0)
	return c
}

// Nodes that are not members are tried again and again: memberlist forgets
// whoever was dead for a while, and a region that comes back must be met soon.
const (
	joinEvery   = 2 * time.Second
	joinTimeout = 2 * time.Second
)

// keepJoining tries every node that should be a member and is not, each by
// itself and one attempt at a time, until ctx ends.
func (g *Gossip) keepJoining(ctx context.Context, m *memberlist.Memberlist, self netip.AddrPort) {
	var all sync.WaitGroup
	defer all.Wait()
	done := make(chan string)
	trying := map[string]bool{}
	wait := 100 * time.Millisecond // at first: the others may be starting as well
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-done:
			delete(trying, at)
		case <-timer.C:
			timer.Reset(wait)
			wait = min(2*wait, joinEvery)
			for _, at := range g.missing(m, self) {
				if trying[at] {
					continue
				}
				trying[at] = true
				all.Go(func() {
					_, err := m.Join([]string{at})
					g.count(g.joins, err)
					select {
					case done <- at:
					case <-ctx.Done():
					}
				})
			}
		}
	}
}

// missing lists the addresses to join: the Snapshot's nodes that are not
// members, and the nodes named by hand while there is no other member.
func (g *Gossip) missing(m *memberlist.Memberlist, self netip.AddrPort) []string {
	members := m.Members()
	var out []string
	for _, a := range g.strangers(members) {
		out = append(out, a.String())
	}
	if len(members) > 1 {
		return out
	}
	for _, j := range g.cfg.Join {
		if _, _, err := net.SplitHostPort(j); err != nil {
			j = net.JoinHostPort(j, strconv.Itoa(int(g.cfg.Bind.Port())))
		}
		if j != self.String() {
			out = append(out, j)
		}
	}
	return out
}
