package xdp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// quicRig is QUIC servers at the gateways of a region, and its client's
// connections to them.
type quicRig struct {
	*region
	server, client *tls.Config
	cfg            quiclb.Config
}

func newQUICRig(r *region) *quicRig {
	ca := testkit.NewAuthority(r.t)
	pem := ca.Issue(r.t, "quic.test")
	cert, err := tls.X509KeyPair(pem, pem)
	r.must(err)
	return &quicRig{region: r, cfg: blockIDs,
		server: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"test"}},
		client: &tls.Config{RootCAs: ca.Pool, ServerName: "quic.test", NextProtos: []string{"test"}}}
}

var quicConfig = &quic.Config{MaxIdleTimeout: time.Minute, HandshakeIdleTimeout: 3 * time.Second}

// serve has a gateway answer streams at the VIPs with its name.
func (q *quicRig) serve(ns *netns.NS) {
	q.t.Helper()
	a := NewAddresses(ns.Name, "", q.log)
	q.must(ns.Do(func() error { return a.Apply(q.world) }))
	codec, err := quiclb.New(q.cfg)
	q.must(err)
	server := quiclb.ServerID(&fleet.Node{Name: ns.Name})
	ids, err := quiclb.NewGenerator(codec, server[:], rand.Reader, quic.ConnectionIDFromBytes)
	q.must(err)
	for _, vip := range []netip.Addr{vip4, vip6} {
		socket, err := ns.ListenPacket("udp", netip.AddrPortFrom(vip, 443).String())
		q.must(err)
		tr := &quic.Transport{Conn: socket, ConnectionIDGenerator: ids}
		l, err := tr.Listen(q.server, quicConfig)
		q.must(err)
		q.t.Cleanup(func() { l.Close(); tr.Close(); socket.Close() })
		go func() {
			for {
				c, err := l.Accept(context.Background())
				if err != nil {
					return
				}
				go answerStreams(c, ns.Name)
			}
		}()
	}
}

// answerStreams answers every stream of a connection.
func answerStreams(c *quic.Conn, name string) {
	for {
		s, err := c.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go func() {
			io.Copy(io.Discard, s)
			io.WriteString(s, name)
			s.Close()
		}()
	}
}

// quicConn is one connection of the client's.
type quicConn struct {
	*quic.Conn
	vip    netip.Addr
	owner  string
	broken atomic.Bool
}

// socket opens one of the client's, of the VIP's family, with a number in its
// address.
func (q *quicRig) socket(vip netip.Addr, host int) *quic.Transport {
	q.t.Helper()
	from := fmt.Sprintf("10.7.0.%d:0", host)
	if vip.Is6() {
		from = fmt.Sprintf("[fd07:0::%d]:0", host)
	}
	c, err := q.region.client.ListenPacket("udp", from)
	q.must(err)
	tr := &quic.Transport{Conn: c}
	q.t.Cleanup(func() { tr.Close(); c.Close() })
	return tr
}

func (q *quicRig) dial(vip netip.Addr) *quicConn {
	q.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := q.socket(vip, 2).Dial(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 443)), q.client, quicConfig)
	q.must(err)
	k := &quicConn{Conn: c, vip: vip}
	k.owner, err = k.ask()
	q.must(err)
	return k
}

// ask gives the name of the gateway that the connection is with.
func (k *quicConn) ask() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	s, err := k.OpenStreamSync(ctx)
	if err != nil {
		return "", err
	}
	s.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.WriteString(s, "who?"); err != nil {
		return "", err
	}
	s.Close()
	b, err := io.ReadAll(s)
	return string(b), err
}

// holds asks, and notes whether the connection has broken.
func (k *quicConn) holds() {
	if k.broken.Load() {
		return
	}
	if got, err := k.ask(); err != nil || got != k.owner {
		k.broken.Store(true)
	}
}

// migrate moves the connection to another address and port of the client's.
func (q *quicRig) migrate(k *quicConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	path, err := k.AddPath(q.socket(k.vip, 3))
	if err == nil {
		err = path.Probe(ctx)
	}
	if err == nil {
		err = path.Switch()
	}
	return err
}

// moves gives the client a second address to move to.
func (q *quicRig) moves() {
	for _, p := range []string{"10.7.0.3/24", "fd07:0::3/64"} {
		q.must(q.region.client.AddAddr("eth0", netip.MustParsePrefix(p)))
	}
}

// eachQUIC does something with all connections, some at a time.
func eachQUIC(conns []*quicConn, do func(*quicConn)) {
	var wg sync.WaitGroup
	next := make(chan *quicConn)
	for range 8 {
		wg.Go(func() {
			for k := range next {
				do(k)
			}
		})
	}
	for _, k := range conns {
		next <- k
	}
	close(next)
	wg.Wait()
}

func countBroken(conns []*quicConn) (n int) {
	for _, k := range conns {
		if k.broken.Load() {
			n++
		}
	}
	return n
}

// Clients move: with connection ids no connection breaks, by addresses and ports
// alone some do.
func TestClientsThatMoveKeepTheirConnections(t *testing.T) {
	spec := strings.Replace(regionSpec, "  - service: echo", `  - service: quic
    protocol: https
    http3: true
    ports: [443]
    pools: [{id: main, endpoints: [{address: "10.7.9.9:443"}]}]
  - service: echo`, 1)
	for _, c := range []struct {
		name      string
		cfg       quiclb.Config
		balancers []quiclb.Config
		breaks    bool
	}{
		{"encrypted ids", blockIDs, []quiclb.Config{blockIDs}, false},
		{"plain ids", plainIDs, []quiclb.Config{blockIDs, plainIDs}, false},
		{"by addresses and ports", blockIDs, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegion(t, spec, 1600)
			r.quic = c.balancers
			r.start(Native)
			q := newQUICRig(r)
			q.cfg = c.cfg
			q.moves()
			q.serve(r.gw1)
			q.serve(r.gw2)
			conns := make([]*quicConn, 24)
			for i := range conns {
				conns[i] = q.dial([]netip.Addr{vip4, vip6}[i%2])
			}
			eachQUIC(conns, func(k *quicConn) {
				if q.migrate(k) != nil {
					k.broken.Store(true)
				}
				k.holds()
			})
			n := countBroken(conns)
			t.Logf("%d of %d connections broke", n, len(conns))
			if (n > 0) != c.breaks {
				t.Errorf("%d of %d connections broke", n, len(conns))
			}
		})
	}
}
