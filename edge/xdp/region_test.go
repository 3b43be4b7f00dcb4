package xdp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/health/verdict"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// A region in namespaces: a client, a router, a balancer and two gateways,
// every link a veth pair to the router.
//
//	client ── router ── lb
//	               ├─── gw1
//	               └─── gw2
type region struct {
	t                            testing.TB
	client, router, lb, gw1, gw2 *netns.NS
	more                         map[string]*netns.NS // the Spec's other nodes
	world                        *fleet.World
	log                          *slog.Logger
	pass                         *ebpf.Program        // passes everything
	ports                        map[string]link.Link // by the router's device: the program there
	mu                           sync.Mutex           // guards nodes from the gateways' servers
	nodes                        map[string]*Layer4
	stop                         map[string]func() // ends a node's layer 4
	gateways                     map[string]*gateway
	quic                         []quiclb.Config // of all nodes
}

// gateway is a server at the VIPs.
type gateway struct {
	handler http.Handler
	srv     *http.Server
	ready   atomic.Bool // what it says of itself
}

const regionSpec = `
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.10], v6: ["2001:db8::10"]}}
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.7.1.2, v6: "fd07:1::2"}}
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.7.2.2, v6: "fd07:2::2"}}
  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.7.3.2, v6: "fd07:3::2"}}
services:
  - service: web
    protocol: http
    ports: [80]
    pools: [{id: main, endpoints: [{address: "10.7.9.9:80"}]}]
  - service: echo
    protocol: udp
    ports: [7]
    pools: [{id: main, endpoints: [{address: "10.7.2.2:7"}, {address: "10.7.3.2:7"}]}]
`

var (
	vip4 = netip.MustParseAddr("192.0.2.10")
	vip6 = netip.MustParseAddr("2001:db8::10")
)

func worldOf(t testing.TB, doc string) *fleet.World {
	t.Helper()
	s, err := fleet.Compile([]byte(doc), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: s}
}

// worldAfter is a World that follows others, in which fra had these gateways.
func worldAfter(t testing.TB, doc string, were ...fleet.GatewaySet) *fleet.World {
	t.Helper()
	revision := uint64(1)
	for _, set := range were {
		revision = set.Revision + 1
	}
	s, err := fleet.Compile([]byte(doc), revision)
	if err != nil {
		t.Fatal(err)
	}
	w := &fleet.World{Snapshot: s}
	data, err := json.Marshal(fleet.EarlierGateways{Sets: were})
	if err != nil {
		t.Fatal(err)
	}
	id := fleet.LiveID(fleet.LiveGateways, "fra")
	w.Live = w.Live.With([]fleet.Object{{Key: fleet.ObjectKey{Kind: fleet.ObjectLive, ID: string(id)}, Data: data}}, nil)
	return w
}

// newRegion builds the region for a Spec, with links of that MTU.
func newRegion(t testing.TB, spec string, underlay int) *region {
	t.Helper()
	testkit.Root(t)
	r := &region{t: t, world: worldOf(t, spec),
		log: slog.New(slog.NewTextHandler(t.Output(), nil)), more: map[string]*netns.NS{}, nodes: map[string]*Layer4{}, stop: map[string]func(){}, gateways: map[string]*gateway{},
		ports: map[string]link.Link{},
		quic:  []quiclb.Config{blockIDs}}
	for name, ns := range map[string]**netns.NS{"client": &r.client, "router": &r.router, "lb": &r.lb, "gw1": &r.gw1, "gw2": &r.gw2} {
		n, err := netns.New(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		*ns = n
	}
	var err error
	r.pass, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}}) // XDP_PASS
	r.must(err)
	t.Cleanup(func() { r.pass.Close() })
	for i, leaf := range []*netns.NS{r.client, r.lb, r.gw1, r.gw2} {
		mtu := underlay
		if leaf == r.client {
			mtu = 1500
		}
		r.connect(leaf, i, mtu)
	}
	for _, n := range r.world.Snapshot.Spec.Nodes {
		if n.Name == "lb" || n.Name == "gw1" || n.Name == "gw2" {
			continue
		}
		ns, err := netns.New(n.Name)
		r.must(err)
		t.Cleanup(func() { ns.Close() })
		r.more[n.Name] = ns
		r.connect(ns, int(n.Addresses.V4.As4()[2]), underlay)
	}
	// Packets for the VIPs reach the region's balancer, as BGP would have it.
	r.must(r.router.AddRoute(netip.PrefixFrom(vip4, 32), netip.MustParseAddr("10.7.1.2")))
	r.must(r.router.AddRoute(netip.PrefixFrom(vip6, 128), netip.MustParseAddr("fd07:1::2")))
	return r
}

func (r *region) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// connect joins a leaf to the router, with the program at the router's end
// that lets it receive what the leaf transmits by XDP.
func (r *region) connect(leaf *netns.NS, i, mtu int) {
	r.t.Helper()
	p := func(format string, host int) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.7.%d.%d/24", i, host)),
			netip.MustParsePrefix(fmt.Sprintf("fd07:%d::%d/64", i, host))}
	}
	dev := "to-" + leaf.Name
	r.must(netns.Veth(netns.End{NS: leaf, Dev: "eth0", Addrs: p("", 2)}, netns.End{NS: r.router, Dev: dev, Addrs: p("", 1)}, mtu))
	r.must(leaf.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(fmt.Sprintf("10.7.%d.1", i))))
	r.must(leaf.AddRoute(netip.MustParsePrefix("::/0"), netip.MustParseAddr(fmt.Sprintf("fd07:%d::1", i))))
	r.receives(dev)
}

// receives puts that program at one of the router's devices.
func (r *region) receives(name string) {
	r.t.Helper()
	r.must(r.router.Do(func() error {
		dev, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		at, err := link.AttachXDP(link.XDPOptions{Program: r.pass, Interface: dev.Index, Flags: link.XDPDriverMode})
		if err == nil {
			r.ports[name] = at
			r.t.Cleanup(func() { at.Close() })
		}
		return err
	}))
}

// trackers is Health without its room: rise and fall alone.
type trackers struct {
	mu sync.Mutex
	m  map[fleet.Target]*verdict.Tracker
}

func newTrackers() *trackers { return &trackers{m: map[fleet.Target]*verdict.Tracker{}} }

func (h *trackers) Observe(o fleet.Observation) fleet.Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.m[o.Target]
	if t == nil {
		t = new(verdict.Tracker)
		h.m[o.Target] = t
	}
	v, _ := t.Observe(o, verdict.Params{Fall: 3, Rise: 2, Expire: 5 * time.Second})
	return v
}

// run starts a node's layer 4 and ends it with the test.
func (r *region) run(ns *netns.NS, cfg Config) *Layer4 {
	r.t.Helper()
	cfg.Node, cfg.Log, cfg.Key = ns.Name, r.log.With("node", ns.Name), Key{1, 2, 3}
	cfg.Dial, cfg.QUIC = ns.Dial, r.quic
	cfg.CookieKey = func(generation int, epoch int64) Key { return Key{byte(epoch), byte(epoch >> 8), 9, byte(generation)} }
	l, err := New(cfg)
	r.must(err)
	r.must(l.Apply(r.world))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ns.Enter(func() error { return l.Run(ctx) }) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("%s: Run: %v", ns.Name, err)
		}
	})
	r.t.Cleanup(stop)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[ns.Name], r.stop[ns.Name] = l, stop
	return l
}

// serve puts the VIPs on a node's loopback, and a server at them that says its
// name.
func (r *region) serve(ns *netns.NS) {
	r.t.Helper()
	a := NewAddresses(ns.Name, "", r.log)
	r.must(ns.Do(func() error { return a.Apply(r.world) }))
	g := &gateway{}
	g.ready.Store(true)
	r.gateways[ns.Name] = g
	mux := http.NewServeMux()
	mux.HandleFunc(fleet.GatewayHost+"/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc(fleet.GatewayHost+"/ready", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		l := r.nodes[ns.Name]
		r.mu.Unlock()
		if l != nil && l.TakesCookies() {
			w.Header().Set(fleet.CookiesHeader, fleet.CookiesTaken)
		}
		if !g.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/tenfold", func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		w.Write(make([]byte, 10*n))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(w, "%s %s %d", ns.Name, req.RemoteAddr, n)
	})
	g.handler = mux
	r.listen(ns)
	for _, vip := range []netip.Addr{vip4, vip6} {
		u, err := ns.ListenPacket("udp", netip.AddrPortFrom(vip, 7).String())
		r.must(err)
		go count(u, ns.Name)
		r.t.Cleanup(func() { u.Close() })
	}
	r.t.Cleanup(func() { g.srv.Close() })
}

// listen opens a gateway's TCP ports.
func (r *region) listen(ns *netns.NS) {
	r.t.Helper()
	g := r.gateways[ns.Name]
	g.srv = &http.Server{Handler: g.handler}
	for _, vip := range []netip.Addr{vip4, vip6} {
		l, err := ns.Listen("tcp", netip.AddrPortFrom(vip, 80).String())
		r.must(err)
		go g.srv.Serve(l)
	}
}

// start runs the region as its Spec has it: gateways, then the balancer, until
// that is ready.
func (r *region) start(mode Mode) *Layer4 {
	r.t.Helper()
	for _, ns := range []*netns.NS{r.gw1, r.gw2} {
		r.run(ns, Config{Roles: Roles{L7: true}, Mode: mode})
		r.serve(ns)
	}
	r.ready(r.gw1, r.gw2) // else the first checks may find nobody
	lb := r.run(r.lb, Config{Roles: Roles{L4: true}, Mode: mode, Health: newTrackers()})
	r.ready(r.lb)
	return lb
}

// ready waits until nodes serve.
func (r *region) ready(nodes ...*netns.NS) {
	r.t.Helper()
	for _, ns := range nodes {
		eventually(r.t, ns.Name+" ready", func() bool { return r.nodes[ns.Name].Ready() == nil })
	}
}

// count answers each datagram with the server's name and how long it was.
func count(c net.PacketConn, name string) {
	buf := make([]byte, 8192)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		c.WriteTo(fmt.Appendf(nil, "%s %d", name, n), from)
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}

// post sends a body of so many octets to a VIP and gives the answer.
func (r *region) post(vip netip.Addr, size int) (string, error) { return r.postTo(vip, "/", size) }

func (r *region) postTo(vip netip.Addr, path string, size int) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	tr := &http.Transport{DialContext: r.client.Dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+netip.AddrPortFrom(vip, 80).String()+path, strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
