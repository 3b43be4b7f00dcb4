package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"meridian/fleet"
	"meridian/identity"
)

// Ledger is told what nodes are sent and what they answer. Its methods must
// not block.
type Ledger interface {
	Connected(node string, applied uint64)
	Disconnected(node string)
	Sent(node string, revision uint64)
	Answered(node string, revision uint64, nack error)
	HasLive(node string, live *fleet.Zones)
}

// ServerConfig is what a Server works with.
type ServerConfig struct {
	Credentials *identity.Credentials
	Logger      *slog.Logger
}

// Server serves the published World to the nodes.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	cfg    ServerConfig
	log    *slog.Logger
	ledger Ledger
	// updates takes the nodes' dynamic updates; nil: none are taken.
	updates UpdateServer
	// demands has certificates issued on demand; nil: none are.
	demands DemandServer

	mu      sync.Mutex // guards what follows
	current *published
	streams map[*serverStream]bool
	nodes   map[string]int // streams of each node: a new one may overlap the old
}

// SetUpdates says who takes the nodes' dynamic updates; before Run. The control
// plane publishes through the server, and so is made after it.
func (s *Server) SetUpdates(u UpdateServer) { s.updates = u }

// NewServer checks the configuration.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Credentials == nil || cfg.Logger == nil {
		return nil, errors.New("xDS server: expected credentials and a logger")
	}
	return &Server{cfg: cfg, log: cfg.Logger, streams: map[*serverStream]bool{}, nodes: map[string]int{}}, nil
}

// Register adds the server's metrics.
func (s *Server) Register(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "meridian_xds_nodes_connected", Help: "Nodes connected to this replica.",
	}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.nodes))
	}))
}

// Publish replaces the World that nodes are served; it may be called before Run.
func (s *Server) Publish(w *fleet.World) {
	s.mu.Lock()
	old := s.current
	s.mu.Unlock()
	p := prepare(w, old)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = p
	for st := range s.streams {
		select {
		case st.news <- struct{}{}:
		default:
		}
	}
}

// Run serves nodes on the listener, which it closes, until ctx ends.
func (s *Server) Run(ctx context.Context, l net.Listener, ledger Ledger) error {
	s.ledger = ledger
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.cfg.Credentials.Server())),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxRecvMsgSize(maxMessage), // a node that comes back tells the version of every zone it has
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 5 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	g.RegisterService(&updates, s)
	g.RegisterService(&demands, s)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	select {
	case <-ctx.Done():
		g.Stop() // nodes go to another replica at once
		<-done
		return nil
	case err := <-done:
		return fmt.Errorf("xDS server: %w", err)
	}
}

// serverStream is one node's stream; only its own goroutine touches it, but
// for news.
type serverStream struct {
	discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	s      *Server
	node   string
	news   chan struct{} // holds one element when another World was published
	subs   map[string]*subscription
	nonce  uint64
	warned bool
	pushed *published              // what the node was sent last; nil: nothing yet
	zones  *fleet.Zones            // zones that it was sent or has
	live   *fleet.Zones            // live objects, likewise
	told   map[string]*fleet.Zones // live objects that the node has once it has acknowledged a nonce
}

// subscription is what the node wants and has of one type.
type subscription struct {
	known   map[string]string // name to version, as sent or as the node said
	waiting map[string]uint64 // nonce to revision, of Snapshots sent and not answered
}

// DeltaAggregatedResources serves one node until it goes away.
func (s *Server) DeltaAggregatedResources(g discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	node, err := nodeOf(g.Context())
	if err != nil {
		return err
	}
	st := &serverStream{AggregatedDiscoveryService_DeltaAggregatedResourcesServer: g, s: s, node: node,
		news: make(chan struct{}, 1), subs: map[string]*subscription{}, told: map[string]*fleet.Zones{}}
	// Answers must not wait for what is being sent: the node waits with its
	// next one for them to be taken.
	requests := make(chan *discovery.DeltaDiscoveryRequest, 1024)
	go func() { // ends with the stream, whose context ends when this method returns
		defer close(requests)
		for {
			r, err := g.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-g.Context().Done():
				return
			}
		}
	}()
	s.enter(st)
	defer s.leave(st)
	for {
		select {
		case <-st.news:
			err = st.push()
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			err = st.request(r)
		case <-g.Context().Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// nodeOf gives the name in the client's certificate.
func nodeOf(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || identity.Peer(info.State) == "" {
		return "", status.Error(codes.Unauthenticated, "no certificate of the fleet")
	}
	return identity.Peer(info.State), nil
}

func (s *Server) enter(st *serverStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = true
	s.nodes[st.node]++
}

func (s *Server) leave(st *serverStream) {
	s.mu.Lock()
	delete(s.streams, st)
	s.nodes[st.node]--
	last := s.nodes[st.node] == 0
	if last {
		delete(s.nodes, st.node)
	}
	s.mu.Unlock()
	if last {
		s.ledger.Disconnected(st.node)
	}
}

// request takes a subscription, an ACK or a NACK.
func (st *serverStream) request(r *discovery.DeltaDiscoveryRequest) error {
	if n := r.GetNode(); n != nil {
		if n.GetId() != st.node {
			return status.Errorf(codes.PermissionDenied, "node %q has the certificate of %q", n.GetId(), st.node)
		}
		applied, _ := strconv.ParseUint(n.GetMetadata().GetFields()[revisionKey].GetStringValue(), 10, 64)
		st.s.ledger.Connected(st.node, applied)
	}
	url := r.GetTypeUrl()
	sub := st.subs[url]
	if sub == nil {
		if !slices.Contains(types[:], url) {
			return status.Errorf(codes.InvalidArgument, "type %q is not served", url)
		}
		sub = &subscription{known: map[string]string{}, waiting: map[string]uint64{}}
		for name, v := range r.GetInitialResourceVersions() {
			sub.known[name] = v
		}
		st.subs[url] = sub
		if url == types[len(types)-1] {
			return st.push()
		}
		return nil
	}
	if live, ok := st.told[r.GetResponseNonce()]; ok && url == typeLive {
		delete(st.told, r.GetResponseNonce())
		if r.GetErrorDetail() == nil {
			st.s.ledger.HasLive(st.node, live)
		}
	}
	if rev, ok := sub.waiting[r.GetResponseNonce()]; ok {
		delete(sub.waiting, r.GetResponseNonce())
		var nack error
		if d := r.GetErrorDetail(); d != nil {
			nack = errors.New(d.GetMessage())
		}
		st.s.ledger.Answered(st.node, rev, nack)
	} else if d := r.GetErrorDetail(); d != nil {
		st.s.log.Warn("node refused a resource", "node", st.node, "type", short(url), "error", d.GetMessage())
	}
	return nil
}

// push sends what the node lacks of the published World, once it has asked for
// all types.
func (st *serverStream) push() error {
	if st.subs[types[len(types)-1]] == nil {
		return nil
	}
	st.s.mu.Lock()
	p := st.s.current
	st.s.mu.Unlock()
	if p == nil {
		return nil
	}
	if p.world.Snapshot.Node(st.node) == nil && !st.warned {
		st.warned = true
		st.s.log.Warn("a node that the Spec does not name is connected; it is sent the Snapshot alone", "node", st.node)
	}
	old := st.pushed
	st.pushed = p
	fresh := old == nil || old.world.Snapshot != p.world.Snapshot
	zones, gone := st.lacking(typeZone, &st.zones, p.zonesFor(st.node))
	var live []fleet.Object
	var ended []fleet.Name
	if fresh || old.world.Live != p.world.Live {
		live, ended = st.lacking(typeLive, &st.live, p.liveFor(st.node))
	}
	if !fresh && old.shifts.version == p.shifts.version {
		if err := st.pushZones(zones, gone, p.world.Snapshot.Revision); err != nil {
			return err
		}
		return st.pushLive(live, ended, p.world.Snapshot.Revision)
	}
	all := p.forNode(st.node)
	for _, url := range types {
		var err error
		switch url {
		case typeZone:
			err = st.pushZones(zones, nil, p.world.Snapshot.Revision)
		case typeLive:
			err = st.pushLive(live, ended, p.world.Snapshot.Revision)
		default:
			err = st.pushType(url, all[url], p.world.Snapshot.Revision)
		}
		if err != nil {
			return err
		}
	}
	// The Snapshot before may have needed these.
	return st.pushZones(nil, gone, p.world.Snapshot.Revision)
}

// lacking gives what differs from what the node has of a type whose resources
// are kept as a set, and notes that it is sent that.
func (st *serverStream) lacking(url string, has **fleet.Zones, next *fleet.Zones) (put []fleet.Object, gone []fleet.Name) {
	sub := st.subs[url]
	if sub == nil { // a node of before the type
		return nil, nil
	}
	if sub.known == nil {
		put, gone = next.Since(*has)
	} else { // the first time: compared with what the node has said
		for o := range next.All() {
			if sub.known[o.Key.ID] != o.Version {
				put = append(put, o)
			}
		}
		for name := range sub.known {
			if _, ok := next.Get(fleet.Name(name)); !ok {
				gone = append(gone, fleet.Name(name))
			}
		}
		sub.known = nil
		if url == typeLive && len(put)+len(gone) == 0 {
			st.s.ledger.HasLive(st.node, next)
		}
	}
	*has = next
	return put, gone
}

// pushLive sends live objects, and notes by which answer the node has them all.
func (st *serverStream) pushLive(put []fleet.Object, gone []fleet.Name, revision uint64) error {
	if len(put)+len(gone) == 0 {
		return nil
	}
	if err := st.pushSet(typeLive, put, gone, revision); err != nil {
		return err
	}
	st.told[strconv.FormatUint(st.nonce, 10)] = st.live
	return nil
}

// pushZones sends zones, and the names of those that are gone.
func (st *serverStream) pushZones(put []fleet.Object, gone []fleet.Name, revision uint64) error {
	return st.pushSet(typeZone, put, gone, revision)
}

func (st *serverStream) pushSet(url string, put []fleet.Object, gone []fleet.Name, revision uint64) error {
	for len(put) > 0 || len(gone) > 0 {
		st.nonce++
		out := &discovery.DeltaDiscoveryResponse{TypeUrl: url, Nonce: strconv.FormatUint(st.nonce, 10), SystemVersionInfo: strconv.FormatUint(revision, 10)}
		for size := 0; len(put) > 0 && (size == 0 || size+len(put[0].Data) <= batchSize); put = put[1:] {
			o := put[0]
			w, err := resource{o.Key.ID, o.Version, o.Data}.wire(url)
			if err != nil {
				return status.Error(codes.Internal, err.Error())
			}
			out.Resources = append(out.Resources, w)
			size += len(o.Data) + len(o.Key.ID)
		}
		if len(put) == 0 {
			for _, n := range gone {
				out.RemovedResources = append(out.RemovedResources, string(n))
			}
			gone = nil
		}
		if err := st.Send(out); err != nil {
			return err
		}
	}
	return nil
}

func (st *serverStream) pushType(url string, want []resource, revision uint64) error {
	sub := st.subs[url]
	out := &discovery.DeltaDiscoveryResponse{TypeUrl: url}
	size := 0
	flush := func() error {
		st.nonce++
		out.Nonce = strconv.FormatUint(st.nonce, 10)
		if url == typeSnapshot {
			sub.waiting = map[string]uint64{out.Nonce: revision} // an answer to an older one no longer matters
			st.s.ledger.Sent(st.node, revision)
		}
		err := st.Send(out)
		out, size = &discovery.DeltaDiscoveryResponse{TypeUrl: url}, 0
		return err
	}
	wanted := map[string]bool{}
	for _, r := range want {
		wanted[r.name] = true
		if sub.known[r.name] == r.version {
			continue
		}
		if size > 0 && size+len(r.data) > batchSize {
			if err := flush(); err != nil {
				return err
			}
		}
		w, err := r.wire(url)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		sub.known[r.name] = r.version
		out.Resources = append(out.Resources, w)
		out.SystemVersionInfo = strconv.FormatUint(revision, 10)
		size += len(r.data)
	}
	for name := range sub.known {
		if !wanted[name] {
			delete(sub.known, name)
			out.RemovedResources = append(out.RemovedResources, name)
		}
	}
	if len(out.Resources)+len(out.RemovedResources) == 0 {
		return nil
	}
	return flush()
}
