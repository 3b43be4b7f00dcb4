package h3

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/internal/testkit"
)

var testKey = [16]byte{1, 2, 3}

// rig is a carrier on a socket of loopback, with sessions whose exchanges are
// the test's.
type rig struct {
	t        testing.TB
	server   l7.PacketServer
	at       *net.UDPAddr
	ca       *testkit.Authority
	cert     tls.Certificate
	limits   l7.Limits
	serve    func(l7.Front, *wire.Head, *l7.Abort)
	leave    chan struct{}
	leaving  func() <-chan struct{} // in place of leave
	unwanted bool
	resetKey [32]byte

	gone    atomic.Int64 // connections that ended
	mu      sync.Mutex
	clients []netip.AddrPort
	abuses  []string
	refused []wire.Fault
}

func (r *rig) Serve(f l7.Front, h *wire.Head, a *l7.Abort) { r.serve(f, h, a) }

func (r *rig) Leaving() <-chan struct{} {
	if r.leaving != nil {
		return r.leaving()
	}
	return r.leave
}

func (r *rig) Limits() l7.Limits { return r.limits }

func (r *rig) Refuse(f l7.Front, h *wire.Head, fault wire.Fault) {
	r.mu.Lock()
	r.refused = append(r.refused, fault)
	r.mu.Unlock()
	_ = f.Answer(&wire.Head{Status: fault.Status()}, true)
}

func (r *rig) Abuse(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abuses = append(r.abuses, reason)
}

// abused gives what was counted so far, once there is something.
func (r *rig) abused() []string {
	var out []string
	eventually(r.t, "abuse is counted", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		out = r.abuses
		return len(out) > 0
	})
	return out
}

// connections says how many there have been.
func (r *rig) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.clients)
}

// faultless expects that nothing was refused.
func (r *rig) faultless() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.abuses) > 0 || len(r.refused) > 0 {
		r.t.Errorf("abuse %v, refused %v", r.abuses, r.refused)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// world has a node with that server id; 0: without.
func world(t testing.TB, id uint32) *fleet.World {
	t.Helper()
	own := ""
	if id > 0 {
		own = fmt.Sprintf(", quic_server_id: %d", id)
	}
	spec := fmt.Sprintf(`
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
nodes: [{name: edge-1, region: fra, addresses: {v4: 10.0.0.1}, roles: [l7]%s}]
`, own)
	s, err := fleet.Compile([]byte(spec), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: s}
}

func newCarrier(t testing.TB) *Carrier { return carrierOf(t, [32]byte{4}) }

func carrierOf(t testing.TB, reset [32]byte) *Carrier {
	t.Helper()
	c, err := New(Config{Node: "edge-1", Key: testKey, ResetKey: reset, TokenKey: [32]byte{5}, Generation: 7, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(world(t, 0x01020304)); err != nil {
		t.Fatal(err)
	}
	return c
}

func start(t testing.TB, change func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, ca: testkit.NewAuthority(t), resetKey: [32]byte{4}, serve: echo, leave: make(chan struct{}),
		limits: l7.Limits{Header: 16 << 10, Streams: 128, HeaderTimeout: 10 * time.Second, Idle: time.Minute}}
	if change != nil {
		change(r)
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r.at = socket.LocalAddr().(*net.UDPAddr)
	r.cert = certificateOf(t, r.ca)
	config := &tls.Config{Certificates: []tls.Certificate{r.cert}, NextProtos: []string{Protocol}}
	r.server, err = carrierOf(t, r.resetKey).Listen(socket, config, func(client, vip netip.AddrPort, state *tls.ConnectionState) (l7.Session, func()) {
		if vip.Port() != uint16(r.at.Port) || state.ServerName != "demo.test" && state.ServerName != "localhost" {
			t.Errorf("a connection at %s, for %q", vip, state.ServerName)
		}
		if r.unwanted {
			return nil, nil
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.clients = append(r.clients, client)
		return r, func() { r.gone.Add(1) }
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.server.Serve() }()
	t.Cleanup(func() {
		if err := r.server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func certificateOf(t testing.TB, ca *testkit.Authority) tls.Certificate {
	t.Helper()
	pem := ca.Issue(t, "demo.test", "127.0.0.1")
	cert, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// echo answers with the request's body, or its method and target.
func echo(f l7.Front, h *wire.Head, _ *l7.Abort) {
	answer := &wire.Head{Status: 200}
	answer.Add("Content-Type", "text/plain")
	if h.Length == 0 {
		text := fmt.Sprintf("%s %s at %s", h.Method, h.Target, h.Authority)
		answer.Add("Content-Length", fmt.Sprint(len(text)))
		_ = f.Answer(answer, false)
		_ = f.Write([]byte(text))
		_ = f.End(nil)
		return
	}
	_ = f.Answer(answer, false)
	p := make([]byte, 32<<10)
	for {
		n, err := f.Body(p)
		if e := f.Write(p[:n]); e != nil {
			f.Break()
			return
		}
		if err == io.EOF {
			_ = f.End(f.BodyTrailers())
			return
		}
		if err != nil {
			f.Break()
			return
		}
	}
}

func (r *rig) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: r.ca.Pool, ServerName: "demo.test", NextProtos: []string{Protocol}}
}

// client is quic-go's own.
func (r *rig) client() *http.Client {
	t := &http3.Transport{TLSClientConfig: r.clientTLS(), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, r.at.String(), c, q)
	}}
	r.t.Cleanup(func() { t.Close() })
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

// dial makes a connection that a test speaks on octet by octet; setup says
// whether it has a control stream with settings.
func (r *rig) dial(setup bool) *quic.Conn {
	r.t.Helper()
	c, err := quic.DialAddr(r.t.Context(), r.at.String(), r.clientTLS(), &quic.Config{MaxIdleTimeout: 20 * time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.CloseWithError(0x100, "") })
	if setup {
		r.uni(c, []byte{streamControl, frameSettings, 0})
	}
	return c
}

func (r *rig) uni(c *quic.Conn, b []byte) *quic.SendStream {
	r.t.Helper()
	s, err := c.OpenUniStream()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) stream(c *quic.Conn, b []byte) *quic.Stream {
	r.t.Helper()
	s, err := c.OpenStream()
	if err != nil {
		r.t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := s.Write(b); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// decoded reads whose a connection id is, and of which of its processes.
func decoded(t testing.TB, id []byte) (server uint32, generation uint32) {
	t.Helper()
	codec, err := quiclb.New(quiclb.ForFleet(testKey))
	if err != nil {
		t.Fatal(err)
	}
	b, ok := codec.Decode(id)
	if !ok {
		t.Fatalf("%x is no id of ours", id)
	}
	block, err := aes.NewCipher(testKey[:])
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, 16)
	block.Decrypt(plain, id[1:])
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(plain[4:])
}

func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	a, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

// acceptOf is what a server says to a WebSocket's key (RFC 6455 section 4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
