package l7

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/edge/l7/filter"
	"meridian/edge/l7/limit"
	"meridian/edge/l7/route"
	"meridian/fleet"
	"meridian/health"
	"meridian/probe"
)

// rig is a Gateway on loopback: each address of the Spec is bound to a free
// port of 127.0.0.1.
type rig struct {
	t       testing.TB
	g       *Gateway
	objects map[fleet.ObjectKey]fleet.Object
	stop    context.CancelFunc
	ended   chan error

	mu    sync.Mutex
	bound map[string]net.Addr // address in the Spec to the real one
	fail  map[string]bool     // addresses that cannot be bound

	health *health.Health
	others bool // another rig runs, whose goroutines cannot be told from this one's
}

// newRig starts a Gateway on the Spec and ends it with the test.
func newRig(t testing.TB, spec string, change ...func(*Config)) *rig {
	t.Helper()
	before := runtime.NumGoroutine()
	r := &rig{t: t, objects: map[fleet.ObjectKey]fleet.Object{}, bound: map[string]net.Addr{}, fail: map[string]bool{}, ended: make(chan error, 1)}
	logger := slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := Config{
		Node: "n1", Region: "fra", Prober: probe.New(probe.Config{}), Grace: time.Millisecond,
		Logger: logger, Listen: r.listen,
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if r.health, err = health.New(health.Config{Node: cfg.Node, Region: cfg.Region, Roles: []fleet.Role{fleet.RoleL7}, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	cfg.Health = r.health
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.g = g
	if strings.Contains(spec, "certificates:") {
		r.certificate("c1", "*.demo.test", "demo.test")
	}
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- g.Run(ctx) }()
	t.Cleanup(func() { r.end(before) })
	return r
}

// end stops the Gateway and sees that no goroutine stays.
func (r *rig) end(before int) {
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.allLeft()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for range 500 {
		if r.others || runtime.NumGoroutine() <= before {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	if strings.Contains(stacks, "edge/l7.(") {
		r.t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks)
	}
}

// allLeft sees that whoever has entered a gate, of a pool or of an endpoint, has left it.
func (r *rig) allLeft() {
	left := func(of, what string, g *limit.Gate) {
		if n := g.In(); n != 0 {
			r.t.Errorf("%s: %d %s are under way though the gateway has ended", of, n, what)
		}
	}
	for _, s := range r.g.gen.Load().services {
		if s == nil {
			continue
		}
		for _, p := range s.pools {
			name := s.spec.Service + "/" + p.id
			left(name, "requests", &p.circuit.Requests)
			left(name, "retries", &p.circuit.Retries)
			left(name, "connections", &p.circuit.Connections)
			left(name, "pending", &p.circuit.Pending)
			for _, e := range p.endpoints {
				left(name+" "+e.address, "requests", &e.vital.circuit.Requests)
				left(name+" "+e.address, "connections", &e.vital.circuit.Connections)
			}
		}
	}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (r *rig) listen(ctx context.Context, _, address string) (net.Listener, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail[address] {
		return nil, &net.OpError{Op: "listen", Err: io.ErrUnexpectedEOF}
	}
	l, err := MaxSegment{}.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err == nil {
		r.bound[address] = l.Addr()
	}
	return l, err
}

func (r *rig) addr(address string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.bound[address]; a != nil {
		return a.String()
	}
	r.t.Fatalf("%s is not bound", address)
	return ""
}

func compile(t testing.TB, spec string) *fleet.Snapshot {
	t.Helper()
	s, err := fleet.Compile([]byte(spec), 1, route.Check, filter.Check)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *rig) apply(spec string) error {
	r.t.Helper()
	w := &fleet.World{Snapshot: compile(r.t, spec), Objects: r.objects}
	if err := r.health.Apply(w); err != nil {
		r.t.Fatal(err)
	}
	return r.g.Apply(w)
}

func (r *rig) certificate(id string, names ...string) *x509.CertPool {
	data, pool := newCertificate(r.t, names...)
	key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: id}
	objects := map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: data}}
	for k, v := range r.objects {
		if k != key {
			objects[k] = v
		}
	}
	r.objects = objects
	return pool
}

func newCertificate(t testing.TB, names ...string) ([]byte, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return append(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})...), pool
}

// waitState waits until the checks have brought an endpoint to a state.
func (r *rig) waitState(address string, want fleet.State) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		r.g.mu.Lock()
		for target, v := range r.g.vitals {
			if target.Endpoint == address && v.State() == want {
				r.g.mu.Unlock()
				return
			}
		}
		r.g.mu.Unlock()
		<-time.After(5 * time.Millisecond)
	}
	r.t.Fatalf("endpoint %s did not become %s", address, want)
}

// backend is an endpoint that says its name, unless it has a handler.
func backend(t testing.TB, name string, h http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-From", "endpoint")
		io.WriteString(w, "healthy "+name)
	})
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }
	}
	mux.HandleFunc("/", h)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// httpSpec is a fleet with one http service at 192.0.2.1:80; more is put below
// the service, and its pool main has the endpoints.
func httpSpec(more string, endpoints ...string) string {
	return `
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
nodes: [{name: n1, region: fra, roles: [l7], addresses: {v4: 10.0.0.1}}]
services:
- service: web
  protocol: http
  ports: [80]
  hosts: [www.demo.test]
` + indent(more) + pools(endpoints...)
}

// httpsSpec is the same at port 443, with certificate c1.
func httpsSpec(more string, endpoints ...string) string {
	s := strings.Replace(httpSpec(more, endpoints...), "protocol: http\n", "protocol: https\n", 1)
	s = strings.Replace(s, "ports: [80]", "ports: [443]", 1)
	return s + "certificates: [{id: c1, cert: \"file:c1.pem\", key: \"file:c1.key\"}]\n"
}

func indent(s string) string {
	if s == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") + "\n"
}

func pools(endpoints ...string) string {
	s := "  pools:\n  - id: main\n    endpoints:\n"
	for _, e := range endpoints {
		if !strings.HasPrefix(e, "{") {
			e = "{address: \"" + e + "\"}"
		}
		s += "    - " + e + "\n"
	}
	return s
}

// client connects to the rig whatever host a URL names.
func (r *rig) client(address string, roots *x509.CertPool) *http.Client {
	to := r.addr(address)
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, to)
		},
		TLSClientConfig:    &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2:  roots != nil,
		DisableCompression: true,
	}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// get fetches a URL and gives status and body.
func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// metric gives one metric's value for the service web; more labels follow as
// name and value.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	r.g.Register(reg)
	families, err := reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	want := map[string]string{"service": "web"}
	for i := 0; i < len(labels); i += 2 {
		want[labels[i]] = labels[i+1]
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			hits := 0
			for _, l := range m.GetLabel() {
				if want[l.GetName()] == l.GetValue() {
					hits++
				}
			}
			if f.GetName() == name && hits == len(want) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	r.t.Fatalf("there is no %s %v", name, want)
	return 0
}

// counts waits until a metric has a value.
func (r *rig) counts(want float64, name string, labels ...string) bool {
	r.t.Helper()
	for range 200 {
		if r.metric(name, labels...) == want {
			return true
		}
		<-time.After(5 * time.Millisecond)
	}
	return false
}

// raw sends octets on one connection and gives all that comes back.
func (r *rig) raw(address, request string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr(address))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		r.t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	return string(b)
}
