package acme

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/controlplane"
	"meridian/controlplane/store"
	"meridian/controlplane/xds"
	"meridian/dns/answer"
	"meridian/dns/keeper"
	dnsserver "meridian/dns/server"
	"meridian/dns/stub"
	"meridian/edge/l7"
	"meridian/fleet"
	"meridian/health"
	"meridian/identity"
	"meridian/internal/testkit"
	"meridian/probe"
)

// TestMain lets the test binary be its own store child, as gslb is.
func TestMain(m *testing.M) { testkit.Main(m, store.RunChild) }

// rig is a fleet in one process: a control plane with its store, a nameserver
// and three gateways, each at an address of its own, all of them by xDS.
type rig struct {
	t       testing.TB
	id      *identity.Identity
	log     *slog.Logger
	ctx     context.Context
	control *controlplane.ControlPlane
	certs   *Manager
	client  *store.Client
	xds     string
	dns     *dnsserver.Server
	aliases *stub.Stub
	asked   string            // the resolver that the authority asks; empty: the nameserver
	ports   map[uint16]uint16 // of the Spec to real ones
	backend string
	rotate  time.Duration
	ahead   atomic.Int64 // nanoseconds by which the manager's clock is

	mu   sync.Mutex
	said []string
}

// addresses are the gateways' VIPs, one a region.
var addresses = []string{"127.0.71.1", "127.0.71.2", "127.0.71.3"}

// newRig starts the control plane and the nameserver; rotate is how often all
// keys change, where that is not as in production.
func newRig(t testing.TB, rotate ...time.Duration) *rig {
	t.Helper()
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New(key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{t: t, id: id, ctx: ctx, aliases: stub.New(stub.Config{}), log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		ports: map[uint16]uint16{80: testkit.FreePort(t, addresses[0]), 443: testkit.FreePort(t, addresses[0])}}
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%s %s", q.Host, q.Header.Get("X-Client-Cert-Subject"))
	}))
	t.Cleanup(back.Close)
	t.Cleanup(cancel)
	r.backend = back.Listener.Addr().String()
	for _, d := range rotate {
		r.rotate = d
	}
	r.keep()
	r.nameserver()
	return r
}

// run runs f until the test ends.
func (r *rig) run(what string, f func(ctx context.Context) error) {
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(r.ctx)
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			r.t.Errorf("%s: %v", what, err)
		}
	}()
	r.t.Cleanup(func() { cancel(); <-done })
}

// keep makes the control plane.
func (r *rig) keep() {
	t := r.t
	creds := r.id.Credentials("control", time.Now, rand.Reader)
	at := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t, "127.0.0.1"))
	sup, err := store.NewSupervisor(store.SupervisorConfig{Command: []string{os.Args[0], testkit.StoreChild},
		Child:       store.ChildConfig{Name: "control", Dir: filepath.Join(t.TempDir(), "store"), Fleet: r.id.FleetID(), ListenClient: at, TickMs: 50},
		Credentials: creds, Authority: r.id.AuthorityPEM(), Logger: r.log})
	if err != nil {
		t.Fatal(err)
	}
	r.run("store", sup.Run)
	if r.client, err = store.New(store.Config{Endpoints: []string{at}, TLS: creds.Client(), Identity: r.id, Logger: r.log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.client.Close() })
	server, err := xds.NewServer(xds.ServerConfig{Credentials: creds, Logger: r.log})
	if err != nil {
		t.Fatal(err)
	}
	k, err := keeper.New(keeper.Config{Keys: keeper.NewDirStore(t.TempDir(), r.id), Rand: rand.Reader, Logger: r.log})
	if err != nil {
		t.Fatal(err)
	}
	r.control, err = controlplane.New(controlplane.Config{Node: "control", Store: r.client, Publisher: server, Deriver: k, Logger: r.log, RotateECH: r.rotate,
		Leading: []func(context.Context){func(ctx context.Context) { r.certs.Lead(ctx) }}})
	if err != nil {
		t.Fatal(err)
	}
	if r.certs, err = New(Config{Control: r.control, Store: r.client, Logger: r.log, Notify: r.note, Resolver: r.aliases, Retry: 50 * time.Millisecond, Look: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	r.certs.now = func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
	server.SetDemands(r.certs)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.xds = l.Addr().String()
	r.run("xDS", func(ctx context.Context) error { return server.Run(ctx, l, r.control.Ledger()) })
	r.run("control plane", r.control.Run)
}

func (r *rig) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, text)
}

// follow has a node apply what the control plane wants of it.
func (r *rig) follow(node string, apply func(*fleet.World) error) *xds.Client {
	c, err := xds.NewClient(xds.ClientConfig{Node: node, Addresses: []string{r.xds},
		TLS: r.id.Credentials(node, time.Now, rand.Reader).Client(), Logger: r.log})
	if err != nil {
		r.t.Fatal(err)
	}
	r.run(node, func(ctx context.Context) error { return c.Run(ctx, apply) })
	return c
}

func (r *rig) nameserver() {
	d, err := dnsserver.New(dnsserver.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Logger: r.log, Sockets: 1,
		Identity: answer.Identity{Node: "ns", Cookie: r.id.CookieSecret}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.dns = d
	r.run("nameserver", d.Run)
	r.follow("ns", d.Apply)
}

// gateway starts the gateway of region i, at that region's VIP.
func (r *rig) gateway(i int) *l7.Gateway {
	t := r.t
	node, region := fmt.Sprintf("gw-%d", i), fmt.Sprintf("r%d", i)
	h, err := health.New(health.Config{Node: node, Region: region, Roles: []fleet.Role{fleet.RoleL7}, Logger: r.log})
	if err != nil {
		t.Fatal(err)
	}
	var client *xds.Client
	g, err := l7.New(l7.Config{Node: node, Region: region, Health: h, Prober: probe.New(probe.Config{}), Logger: r.log, Grace: time.Millisecond,
		TicketKey: r.id.TicketKey, TicketPeriod: r.rotate, Addresses: []netip.Addr{netip.MustParseAddr(addresses[i])},
		Demand: func(ctx context.Context, name string) error { return client.Demand(ctx, name) },
		Listen: func(ctx context.Context, network, address string) (net.Listener, error) {
			at := netip.MustParseAddrPort(address)
			return net.Listen(network, netip.AddrPortFrom(at.Addr(), r.ports[at.Port()]).String())
		}})
	if err != nil {
		t.Fatal(err)
	}
	r.run(node, g.Run)
	client = r.follow(node, func(w *fleet.World) error {
		if err := h.Apply(w); err != nil {
			return err
		}
		return g.Apply(w)
	})
	return g
}

// spec is the fleet's Spec; certificates and more are added to it.
func (r *rig) spec(certificates, more string) string {
	s := "zones:\n- {zone: demo.test, records: \"@ 60 SOA ns host 1 3600 600 86400 60\\n@ 60 NS ns\\nns 60 A 127.0.0.1\\n\", steered: [" +
		"{name: www, service: web, ttl: 1s, https: {}}, {name: api, service: web, ttl: 1s}, {name: \"*.any\", service: web, ttl: 1s}]}\n" +
		"anycast: {}\nregions:\n"
	nodes := "nodes:\n- {name: ns, region: r0, roles: [dns], addresses: {v4: 10.0.0.9}}\n"
	for i, a := range addresses {
		s += fmt.Sprintf("- {id: r%d, location: {latitude: %d, longitude: 1}, vips: {v4: [%s]}}\n", i, i, a)
		nodes += fmt.Sprintf("- {name: gw-%d, region: r%d, roles: [l7], addresses: {v4: 10.0.0.%d}}\n", i, i, i+1)
	}
	pools := fmt.Sprintf("  pools: [{id: p, endpoints: [{address: %q}]}]\n", r.backend)
	return s + nodes + "dns: {ttl: {min: 1s}}\nservices:\n" +
		"- service: web\n  protocol: https\n  ports: [443]\n  hosts: [www.demo.test, api.demo.test, \"*.any.demo.test\"]\n  steering: {policy: all}\n" + indent(more) + pools +
		"- service: plain\n  protocol: http\n  ports: [80]\n" + pools +
		"certificates:\n" + certificates
}

func indent(s string) string {
	if s == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") + "\n"
}

// submit makes a Spec the current one.
func (r *rig) submit(spec string, objects ...fleet.Object) {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := r.control.Submit(r.ctx, controlplane.Submission{Doc: []byte(spec), Objects: objects})
		if err == nil {
			return
		}
		if time.Now().After(deadline) || !strings.Contains(err.Error(), controlplane.ErrStoreAway.Error()) {
			r.t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// until polls for something.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// at gives the real address of a port of gateway i.
func (r *rig) at(i int, port uint16) string {
	return fmt.Sprintf("%s:%d", addresses[i], r.ports[port])
}

// leaf gives the certificate that a gateway shows for a name, nil for none.
func (r *rig) leaf(i int, name string) *x509.Certificate {
	c, err := tls.Dial("tcp", r.at(i, 443), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// shown waits until three gateways show one certificate for a name, other than
// not, and gives it.
func (r *rig) shown(name string, not *x509.Certificate) *x509.Certificate {
	r.t.Helper()
	var first *x509.Certificate
	r.until("one certificate for "+name+" at all gateways", func() bool {
		first = r.leaf(0, name)
		if first == nil || not != nil && first.Equal(not) {
			return false
		}
		for i := 1; i < len(addresses); i++ {
			if c := r.leaf(i, name); c == nil || !c.Equal(first) {
				return false
			}
		}
		return true
	})
	return first
}

// metric gives the sum of a metric's values.
func (r *rig) metric(name string) float64 {
	r.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	r.certs.Register(reg)
	families, err := reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// object makes an object of the Spec.
func object(kind fleet.ObjectKind, id string, data []byte) fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: kind, ID: id}, Data: bytes.Clone(data)}
}

// get asks a gateway over TLS.
func (r *rig) get(i int, name string, roots *x509.CertPool) (string, error) {
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.at(i, 443))
		}, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}}}
	res, err := c.Get("https://" + name + "/")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}
