package l7

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meridian/edge/l7/hop"
	"meridian/edge/l7/limit"
	"meridian/edge/l7/overload"
	"meridian/fleet"
)

// observer turns what the checks see into verdicts; health.Health is one.
type observer interface {
	Observe(fleet.Observation) fleet.Verdict
}

// prober runs one check; probe.Prober is one.
type prober interface {
	Probe(ctx context.Context, p fleet.Probe) fleet.ProbeResult
}

// Config is what a Gateway needs. Zero values stand for the defaults named.
type Config struct {
	Node   string // this node's name
	Region string // the region whose VIPs it serves

	Health observer
	Prober prober
	// Colleagues are the region's other gateways, with which checks of endpoints are
	// shared out; nil: this one makes all.
	Colleagues colleagues
	// Holders are the gateways with which limits of requests are held together; nil: each
	// has an equal part.
	Holders holders
	Logger  *slog.Logger

	// Addresses are bound in place of the region's and the anycast VIPs.
	Addresses []netip.Addr
	// Listen opens a listening TCP socket; default: plain TCP (no MPTCP), bound
	// although the address may not be there yet.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	// ListenPacket opens a UDP socket, a *net.UDPConn; default: bound although the
	// address may not be there yet.
	ListenPacket func(ctx context.Context, network, address string) (net.PacketConn, error)
	// MaxSegment clamps the TCP segments that clients send, so that a full one
	// still fits the path after layer 4 has encapsulated it; 0 leaves it.
	MaxSegment MaxSegment

	// TakesCookies says whether this node makes connections of the SYN cookies of
	// the region's balancers, which layer 4 wants to know; nil: it does not.
	TakesCookies func() bool

	// Arrived says how long ago the last packet with data of a client's connection
	// came to the node's device, for those that are picked; nil: for none.
	Arrived func(client, vip netip.AddrPort) (ago time.Duration, ok bool)

	// WhyKey is the key of the tokens by which callers ask for reports on their
	// requests (edge/l7/why), the same on all gateways; nil: nobody gets any.
	WhyKey []byte
	// Slot says where layer 4 has a client's flow, for reports; nil: nobody knows.
	Slot slotter

	// AffinityKey is the secret of the cookies that hold clients to endpoints, the
	// same on all gateways.
	AffinityKey []byte

	// TicketKey gives the key of session tickets of an epoch since 1970, the same
	// on all gateways of the fleet; nil: sessions resume at this gateway alone.
	TicketKey    func(scope string, epoch int64) [32]byte
	TicketPeriod time.Duration // how long an epoch is; default 12h

	// Demand has the control plane issue a certificate for a name that a client
	// asks for, and returns once it is issued; nil: none are issued on demand.
	Demand func(ctx context.Context, name string) error

	MaxHeader int           // octets of a request's header; default 64 KiB
	MaxBody   int64         // octets of a request's body; default 1 GiB
	MaxFlows  int           // clients by address and port of udp services; default 16384
	Grace     time.Duration // from not ready to the first connection closed; default 1s

	// HandedOver says of Run's context that it ended since another process of this
	// node has the sockets too: no connection is accepted any more then. nil: it never does.
	HandedOver func(ctx context.Context) bool

	AccessLog   *slog.Logger // one record a request; nil for none
	AccessEvery uint64       // log each n-th request only; default 1, all

	Telemetry Telemetry // takes spans and records for export, as the Spec's gateway.tracing says; nil: nobody does
	// SecondOpinion has the head of each n-th HTTP/1.1 request read by net/http too;
	// where the two disagree the connection ends. 0: of none.
	SecondOpinion uint64

	HopKey hop.Key // signs what is passed on to other regions' gateways; nil: nothing is

	HTTP2 Carrier       // of HTTP/2 over TLS; nil: clients get HTTP/1.1
	Mux   MuxMaker      // of HTTP/2 to endpoints; nil: pools with that protocol are refused
	HTTP3 PacketCarrier // of HTTP/3; nil: no UDP socket is opened

	slow   bool          // no short cuts: for tests, which compare both ways
	header time.Duration // in the place of headerTimeout: for tests

	reach   func(vip netip.AddrPort) string     // where another region's VIP is: for tests
	theirs  func(octets []byte) (opinion, bool) // in the place of net/http's: for tests
	measure func() overload.Measures            // in the place of this process's: for tests
}

// headerTimeout is how long a handshake or a head may take.
const headerTimeout = 10 * time.Second

// MaxSegment is the largest TCP segment by family, in octets of payload.
type MaxSegment struct{ V4, V6 int }

// ErrStopped is returned by Apply once Run has begun to end.
var ErrStopped = errors.New("gateway is stopped")

// Gateway is one node's layer 7. Apply may be called before and during Run.
type Gateway struct {
	cfg        Config
	metrics    *metrics
	gen        atomic.Pointer[generation]
	draining   atomic.Bool
	logTurn    atomic.Uint64
	pathTurn   atomic.Uint64
	recordTurn atomic.Uint64
	sessions   atomic.Uint32 // so many there were
	flows      atomic.Int64  // of udp services
	clients    atomic.Int64  // connections of clients
	level      atomic.Uint32 // overload.Level
	shared     atomic.Pointer[shared]
	heads      atomic.Uint64 // of requests by HTTP/1.1
	doubts     chan doubt
	epoch      time.Time // from which moments count
	tasks      tasks
	conns      sync.WaitGroup // clients' connections; tunnels among them

	rates    *limit.Table
	suspects chan struct{}                    // holds one sign that pools are to be judged
	wall     func() time.Time                 // for ticket keys and demands
	own      func() (*tls.Certificate, error) // see ownCertificate
	demands  demands
	salt     [32]byte                // of what is remembered of passwords
	hashing  chan struct{}           // passwords that are being verified
	mirrors  chan struct{}           // copies under way
	coders   [len(codings)]sync.Pool // encoders that serve again

	base context.Context // of every request and tunnel
	cut  context.CancelFunc

	mu        sync.Mutex // guards below, and makes Apply and Drain take turns
	listeners map[netip.AddrPort]*listener
	packets   map[netip.AddrPort]*packets
	outlived  map[*server]bool // replaced, with connections left
	datagrams map[netip.AddrPort]*datagrams
	checks    map[fleet.Target]*check
	vitals    map[fleet.Target]*vital
	upstreams map[upstreamKey]*upstream
	rateIDs   map[string]uint32
	quotas    map[uint64]*quota
	parting   []*upstream // used no more, but by requests under way
	stopped   bool
}

// New checks cfg and makes a Gateway. It opens nothing.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.Region == "":
		return nil, errors.New("gateway: region is missing")
	case cfg.Health == nil || cfg.Prober == nil || cfg.Logger == nil:
		return nil, errors.New("gateway: health, prober and logger are needed")
	case cfg.MaxSegment.V4 < 0 || cfg.MaxSegment.V6 < 0 || cfg.MaxHeader < 0 || cfg.MaxBody < 0 || cfg.MaxFlows < 0 || cfg.Grace < 0:
		return nil, errors.New("gateway: a limit is negative")
	}
	if cfg.Listen == nil {
		cfg.Listen = cfg.MaxSegment.Listen
	}
	if cfg.ListenPacket == nil {
		cfg.ListenPacket = ListenPacket
	}
	if cfg.MaxFlows == 0 {
		cfg.MaxFlows = 16384
	}
	if cfg.MaxHeader == 0 {
		cfg.MaxHeader = 64 << 10
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 30
	}
	if cfg.header == 0 {
		cfg.header = headerTimeout
	}
	if cfg.TicketPeriod == 0 {
		cfg.TicketPeriod = ticketPeriod
	}
	if cfg.Grace == 0 {
		cfg.Grace = time.Second
	}
	if cfg.AccessEvery == 0 {
		cfg.AccessEvery = 1
	}
	g := &Gateway{
		cfg:       cfg,
		listeners: map[netip.AddrPort]*listener{},
		packets:   map[netip.AddrPort]*packets{},
		outlived:  map[*server]bool{},
		datagrams: map[netip.AddrPort]*datagrams{},
		checks:    map[fleet.Target]*check{},
		vitals:    map[fleet.Target]*vital{},
		upstreams: map[upstreamKey]*upstream{},
		epoch:     time.Now(),
		rates:     limit.NewTable(0),
		suspects:  make(chan struct{}, 1),
		rateIDs:   map[string]uint32{},
		hashing:   make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)),
		mirrors:   make(chan struct{}, maxMirrors),
		doubts:    make(chan doubt, waitingOpinions),
	}
	g.wall, g.own = time.Now, ownCertificate(time.Now())
	g.base, g.cut = context.WithCancel(context.Background())
	rand.Read(g.salt[:])
	g.metrics = newMetrics(g)
	g.tasks.run(func() { g.judging(g.base) })
	return g, nil
}

// Apply installs the World: it compiles the new generation, opens the sockets
// that are missing, and only then swaps. On any error all stays as it was.
// Requests under way end in the generation that they began with; connections
// at a VIP or port that is served no more are drained.
func (g *Gateway) Apply(w *fleet.World) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return ErrStopped
	}
	build := builder{g: g, world: w, vitals: map[fleet.Target]*vital{}, upstreams: map[upstreamKey]*upstream{}, quotas: map[uint64]*quota{}}
	gen, err := build.generation()
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	opened, err := g.openAll(gen)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	old := g.gen.Swap(gen)
	gen.bound()
	retired := g.upstreams
	g.vitals, g.upstreams, g.quotas = build.vitals, build.upstreams, build.quotas
	g.relisten(old, gen, opened.listeners)
	g.relistenPackets(gen, opened.packets)
	g.relay(gen, opened.datagrams)
	g.recheck(gen)
	for key, u := range retired {
		if g.upstreams[key] != u {
			g.parting = append(g.parting, u)
		}
	}
	g.parting = slices.DeleteFunc(g.parting, (*upstream).close)
	g.metrics.retire(old, gen)
	return nil
}

// Ready says why the gateway should get no new clients: it is draining, has no
// Snapshot yet, or none of its services has an endpoint up. nil: it should.
func (g *Gateway) Ready() error {
	gen := g.gen.Load()
	switch {
	case g.draining.Load():
		return errors.New("draining")
	case gen == nil:
		return errors.New("no snapshot yet")
	case gen.paused:
		return errors.New("the node is set to drain")
	case !gen.live():
		return errors.New("no endpoint of any service is up")
	}
	return nil
}

// Run serves until ctx ends, then drains (see Drain) for at most the longest
// drain timeout of the services, closes what is left and returns nil when all
// its goroutines are gone. It is called once.
func (g *Gateway) Run(ctx context.Context) error {
	g.tasks.run(g.sweep)
	g.tasks.run(func() { g.watch(g.base) })
	g.tasks.run(func() { g.compare(g.base) })
	if g.cfg.Colleagues != nil {
		g.tasks.run(func() { g.confer(g.base) })
	}
	if g.cfg.Holders != nil {
		g.tasks.run(func() { g.reshare(g.base) })
	}
	g.tasks.start()
	<-ctx.Done()
	if g.cfg.HandedOver != nil && g.cfg.HandedOver(ctx) {
		g.stopAccepting()
	}
	limit := g.cfg.Grace
	if gen := g.gen.Load(); gen != nil {
		limit += gen.drain
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := g.Drain(drain); err != nil {
		g.cfg.Logger.Warn("gateway: requests were cut off", "after", limit, "err", err)
	}
	g.close()
	g.tasks.wait()
	g.conns.Wait()
	return nil
}

// Drain makes the gateway not ready at once, asks clients to leave
// (Connection: close, GOAWAY) while it goes on serving for the grace period,
// then closes the sockets and waits for the requests under way. Its error is
// ctx's where that ended first.
func (g *Gateway) Drain(ctx context.Context) error {
	g.draining.Store(true)
	g.leaveAll()
	grace := time.NewTimer(g.cfg.Grace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	g.stopped = true
	list := slices.Collect(maps.Values(g.listeners))
	old := slices.Collect(maps.Keys(g.outlived))
	datagrams := slices.Collect(maps.Values(g.packets))
	ports := slices.Collect(maps.Values(g.datagrams))
	g.mu.Unlock()

	errs := make([]error, len(list)+len(old)+len(ports)+1)
	var wg sync.WaitGroup
	wg.Go(func() { errs[len(errs)-1] = g.shutdownPackets(ctx, datagrams) })
	for i, d := range ports {
		wg.Go(func() { errs[len(list)+len(old)+i] = d.shutdown(ctx) })
	}
	for i, l := range list {
		wg.Go(func() { errs[i] = l.shutdown(ctx) })
	}
	for i, s := range old {
		wg.Go(func() { errs[len(list)+i] = s.shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(append(errs, g.leave(ctx))...)
}

// stopAccepting leaves new connections to another process with the same sockets.
func (g *Gateway) stopAccepting() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	for _, l := range g.listeners {
		l.closeSocket()
	}
	for _, d := range g.datagrams { // one process reads a socket of datagrams
		d.close()
	}
}

// leave waits for tunnels, which no server counts.
func (g *Gateway) leave(ctx context.Context) error {
	gone := make(chan struct{})
	go func() {
		g.conns.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leaveAll asks the clients of every listener to go.
func (g *Gateway) leaveAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.listeners {
		l.current.Load().leave()
	}
	for s := range g.outlived {
		s.leave()
	}
	for _, p := range g.packets {
		p.s.leave()
	}
}

// sweep closes connections to endpoints that were idle for too long, and forgets
// upstreams that nobody uses any more, from time to time.
func (g *Gateway) sweep() {
	for pauseFor(g.base, linkIdle/8) {
		g.sweepOnce()
	}
}

func (g *Gateway) sweepOnce() {
	g.mu.Lock()
	g.parting = slices.DeleteFunc(g.parting, (*upstream).close)
	all := slices.Collect(maps.Values(g.upstreams))
	g.mu.Unlock()
	for _, u := range all {
		u.sweep(g.now())
	}
}

// close cuts what Drain left.
func (g *Gateway) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.listeners {
		l.close()
	}
	for _, d := range g.datagrams {
		d.close()
	}
	for _, c := range g.checks {
		c.stop()
	}
	g.cut()
	for s := range g.outlived {
		s.close()
	}
	for _, p := range g.packets {
		p.serving.Close()
	}
	for _, u := range g.upstreams {
		g.parting = append(g.parting, u)
	}
	for _, u := range g.parting {
		u.close()
		u.muxes.close()
	}
}

// tasks are the goroutines that Run owns. What is given before Run begins
// waits for it.
type tasks struct {
	mu      sync.Mutex
	started bool
	waiting []func()
	wg      sync.WaitGroup
}

func (t *tasks) run(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started {
		t.wg.Go(f)
	} else {
		t.waiting = append(t.waiting, f)
	}
}

func (t *tasks) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started = true
	for _, f := range t.waiting {
		t.wg.Go(f)
	}
	t.waiting = nil
}

func (t *tasks) wait() { t.wg.Wait() }
