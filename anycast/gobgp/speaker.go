// Package gobgp is the BGP speaker of an edge node: gobgp as a library, that
// connects to the node's neighbors, takes no route from them and announces
// exactly what the room anycast wants.
//
// Adapter: holds github.com/osrg/gobgp/v3; imports fleet. Only cmd and lab
// import it.
package gobgp

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// Config is what a Speaker needs.
type Config struct {
	Node string
	// Secret gives the content that a reference in the Spec stands for.
	Secret func(fleet.Secret) (string, error)
	Logger *slog.Logger

	// Restarting says that this process follows another of the node, whose routes
	// the neighbors may have still: they are told the new ones before these go.
	Restarting bool
	// HandedOver says of Run's context that it ended since another process of the
	// node goes on: sessions end without a word then. nil: it never does.
	HandedOver func(ctx context.Context) bool
}

// Speaker is a BGP speaker. Apply, Announce, Sessions and Register may be
// called from any goroutine; Run does the work.
type Speaker struct {
	cfg  Config
	kick chan struct{}

	mu       sync.Mutex
	want     wanted
	sessions map[netip.Addr]bool // neighbor to established

	established *prometheus.GaugeVec
	resets      *prometheus.CounterVec
}

// wanted is what the speaker is to be like; it is replaced, never changed.
type wanted struct {
	local     local
	neighbors map[netip.Addr]neighbor
	own       map[netip.Prefix]bool // VIPs that may be announced
	ads       []fleet.Advertisement
}

// local is what the speaker is to its neighbors; a change ends all sessions.
type local struct {
	asn      uint32
	routerID netip.Addr
	v4, v6   netip.Addr // next hops
}

// neighbor is the complete configuration of one session.
type neighbor struct {
	address  netip.Addr
	asn      uint32
	port     uint16
	password string
	hold     time.Duration
	restart  time.Duration // RFC 4724; 0: the neighbor is not asked
}

// Session is the state of one session, for people and for /health.
type Session struct {
	Neighbor    netip.Addr
	Established bool
}

// New checks the configuration.
func New(cfg Config) (*Speaker, error) {
	if cfg.Node == "" || cfg.Secret == nil || cfg.Logger == nil {
		return nil, errors.New("gobgp: node, secret and logger are required")
	}
	return &Speaker{
		cfg: cfg, kick: make(chan struct{}, 1), sessions: map[netip.Addr]bool{},
		established: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meridian_bgp_session_state",
			Help: "1 while the session with the neighbor is established."}, []string{"neighbor"}),
		resets: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_bgp_session_losses_total",
			Help: "Times an established session with the neighbor was lost."}, []string{"neighbor"}),
	}, nil
}

// Register adds the metrics.
func (s *Speaker) Register(r prometheus.Registerer) { r.MustRegister(s.established, s.resets) }

// Apply takes the node's neighbors from a new World: sessions that did not
// change stay up. A node that has no part in BGP has none.
func (s *Speaker) Apply(w *fleet.World) error {
	next := wanted{neighbors: map[netip.Addr]neighbor{}, own: map[netip.Prefix]bool{}}
	if n := w.Snapshot.Node(s.cfg.Node); n != nil && n.Has(fleet.RoleBGP) && n.State != fleet.Disabled {
		r := w.Snapshot.Region(n.Region)
		if err := s.fill(&next, w.Snapshot.Spec, r, n); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ad := range s.want.ads {
		if next.own[ad.Prefix] {
			next.ads = append(next.ads, ad)
		}
	}
	s.want = next
	for a := range next.neighbors {
		if !s.sessions[a] { // so that a session that never comes up is seen too
			s.established.WithLabelValues(a.String()).Set(0)
		}
	}
	s.wake()
	return nil
}

func (s *Speaker) fill(next *wanted, spec *fleet.Spec, r *fleet.Region, n *fleet.Node) error {
	next.local = local{asn: r.BGP.ASN, routerID: routerID(n), v4: n.Addresses.V4, v6: n.Addresses.V6}
	for _, vip := range append(r.VIPs.Networks(), spec.Anycast.Networks()...) {
		next.own[vip] = true
	}
	for _, nb := range r.BGP.Neighbors {
		if len(nb.Nodes) > 0 && !slices.Contains(nb.Nodes, n.Name) {
			continue
		}
		one := neighbor{address: nb.Address, asn: nb.ASN, port: nb.Port, hold: r.BGP.HoldTime.D(), restart: r.BGP.GracefulRestart.D()}
		if nb.Password != "" {
			var err error
			if one.password, err = s.cfg.Secret(nb.Password); err != nil {
				return fmt.Errorf("gobgp: password of neighbor %s: %w", nb.Address, err)
			}
		}
		next.neighbors[nb.Address] = one
	}
	return nil
}

// routerID is the node's IPv4 address, or 32 bits made from its name.
func routerID(n *fleet.Node) netip.Addr {
	if n.Addresses.V4.IsValid() {
		return n.Addresses.V4
	}
	h := fnv.New32a()
	h.Write([]byte(n.Name))
	return netip.AddrFrom4([4]byte(h.Sum([]byte{})))
}

// Announce takes the complete set to announce. A prefix that is not a VIP of
// the node's region is refused, and the old set stays.
func (s *Speaker) Announce(ads []fleet.Advertisement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ad := range ads {
		if !s.want.own[ad.Prefix] {
			return fmt.Errorf("gobgp: %s is not a VIP that this node may announce", ad.Prefix)
		}
	}
	s.want.ads = slices.Clone(ads)
	s.wake()
	return nil
}

// Sessions lists the sessions by neighbor.
func (s *Speaker) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Session
	for a, up := range s.sessions {
		out = append(out, Session{a, up})
	}
	slices.SortFunc(out, func(a, b Session) int { return a.Neighbor.Compare(b.Neighbor) })
	return out
}

func (s *Speaker) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// retryAfter is how long a failed change waits for its next try.
const retryAfter = time.Second

// Run keeps the BGP server in line with what is wanted until ctx ends, then
// closes the sessions, which withdraws everything, unless another process goes on. gobgp's own event loop has
// no end: its goroutine stays, idle, until the process ends.
func (s *Speaker) Run(ctx context.Context) error {
	b := &bgpServer{
		have:       wanted{neighbors: map[netip.Addr]neighbor{}},
		paths:      map[netip.Prefix]fleet.Advertisement{},
		restarting: s.cfg.Restarting, began: time.Now(),
		server: server.NewBgpServer(server.LoggerOption(NewLogger(s.cfg.Logger))),
	}
	go b.server.Serve()
	defer b.server.Stop()
	if err := s.watch(ctx, b.server); err != nil {
		return fmt.Errorf("gobgp: watch sessions: %w", err)
	}
	retry := time.NewTimer(retryAfter)
	defer retry.Stop()
	for {
		s.mu.Lock()
		want := s.want
		s.mu.Unlock()
		if b.waits(want) {
			retry.Reset(retryAfter)
		}
		if err := b.reconcile(ctx, want); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("BGP speaker not as wanted", "err", err)
			retry.Reset(retryAfter)
		}
		select {
		case <-ctx.Done():
			if s.cfg.HandedOver != nil && s.cfg.HandedOver(ctx) {
				return cut(want.restartable())
			}
			return nil
		case <-s.kick:
		case <-retry.C:
		}
	}
}

// watch follows the sessions' states for metrics and the log.
func (s *Speaker) watch(ctx context.Context, srv *server.BgpServer) error {
	return srv.WatchEvent(ctx, &api.WatchEventRequest{Peer: &api.WatchEventRequest_Peer{}}, func(ev *api.WatchEventResponse) {
		p := ev.GetPeer()
		if p == nil || p.Type != api.WatchEventResponse_PeerEvent_STATE {
			return
		}
		a, err := netip.ParseAddr(p.Peer.State.NeighborAddress)
		if err != nil {
			return
		}
		s.note(a, p.Peer.State.SessionState == api.PeerState_ESTABLISHED)
	})
}

func (s *Speaker) note(a netip.Addr, up bool) {
	s.mu.Lock()
	was := s.sessions[a]
	if _, still := s.want.neighbors[a]; still {
		s.sessions[a] = up
	} else {
		delete(s.sessions, a)
		s.established.DeleteLabelValues(a.String())
	}
	s.mu.Unlock()
	if was == up {
		return
	}
	if up {
		s.established.WithLabelValues(a.String()).Set(1)
		s.cfg.Logger.Info("BGP session established", "neighbor", a)
		return
	}
	s.established.WithLabelValues(a.String()).Set(0)
	s.resets.WithLabelValues(a.String()).Inc()
	s.cfg.Logger.Warn("BGP session lost", "neighbor", a)
}
