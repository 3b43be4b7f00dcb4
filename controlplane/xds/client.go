package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"meridian/fleet"
)

// ClientConfig is what a Client works with.
type ClientConfig struct {
	Node      string      // its name, as in the certificate
	Addresses []string    // ADDRESS:PORT of control nodes, nearest first
	TLS       *tls.Config // identity.Credentials.Client
	Logger    *slog.Logger
}

// Client brings Worlds from the first control node that can be reached; it
// implements node.Source.
type Client struct {
	cfg       ClientConfig
	log       *slog.Logger
	connected atomic.Bool
	kept      atomic.Pointer[fleet.World]
	conn      atomic.Pointer[grpc.ClientConn] // to the control node that is listened to; nil: none
	nacks     atomic.Int64
	connects  atomic.Int64
}

const (
	connectLimit = 3 * time.Second
	minBackoff   = 100 * time.Millisecond
	maxBackoff   = 3 * time.Second
)

// NewClient checks the configuration.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Node == "" || len(cfg.Addresses) == 0 || cfg.TLS == nil || cfg.Logger == nil {
		return nil, errors.New("xDS client: expected a node name, addresses, TLS and a logger")
	}
	return &Client{cfg: cfg, log: cfg.Logger}, nil
}

// Connected says whether a control node is being listened to.
func (c *Client) Connected() bool { return c.connected.Load() }

// Register adds the client's metrics.
func (c *Client) Register(r prometheus.Registerer) {
	counter := func(name, help string, v *atomic.Int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(v.Load()) })
	}
	r.MustRegister(
		counter("meridian_xds_connects_total", "Streams to control nodes that brought something.", &c.connects),
		counter("meridian_xds_nacks_total", "Changes from the control plane that this node refused.", &c.nacks),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "meridian_xds_connected", Help: "1 while a control node is being listened to.",
		}, func() float64 {
			if c.connected.Load() {
				return 1
			}
			return 0
		}),
	)
}

// Have says which World the node has applied already, from its disk, so that
// only what differs is brought. It is called before Run.
func (c *Client) Have(w *fleet.World) { c.kept.Store(w) }

// Run calls apply with each World that the control plane wants of this node,
// until ctx ends. An error of apply is sent back as a NACK, and that World is
// not tried again on the same connection.
func (c *Client) Run(ctx context.Context, apply func(*fleet.World) error) error {
	have := newHolding(c.cfg.Node, apply)
	have.adopt(c.kept.Swap(nil))
	wait := minBackoff
	away := false
	for i := 0; ctx.Err() == nil; i++ {
		addr := c.cfg.Addresses[i%len(c.cfg.Addresses)]
		heard, err := c.session(ctx, addr, have)
		if ctx.Err() != nil {
			return nil
		}
		if heard {
			c.log.Warn("control node lost; trying the others", "address", addr, "error", err)
			i, wait, away = -1, minBackoff, false // nearest first again
		} else if !away && i == len(c.cfg.Addresses)-1 {
			away = true
			c.log.Warn("no control node can be reached; working with what is there", "last", addr, "error", err)
		}
		if !heard && (i+1)%len(c.cfg.Addresses) != 0 {
			continue // the next one at once
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(wait*2, maxBackoff)
	}
	return nil
}

// session listens to one control node. It says whether it could be reached.
func (c *Client) session(ctx context.Context, addr string, have *holding) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(credentials.NewTLS(c.cfg.TLS)),
		grpc.WithAuthority(c.cfg.TLS.ServerName),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectLimit}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return false, fmt.Errorf("control node %s: %w", addr, err)
	}
	defer conn.Close()
	// Until the stream stands, a silent peer is given up after connectLimit.
	limit := time.AfterFunc(connectLimit, cancel)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, fmt.Errorf("control node %s: %w", addr, err)
	}
	for _, r := range have.subscribe() {
		if err := stream.Send(r); err != nil {
			_, err = stream.Recv() // has the reason
			return false, fmt.Errorf("control node %s: %w", addr, err)
		}
	}
	if !limit.Stop() {
		return false, fmt.Errorf("control node %s: no answer within %s", addr, connectLimit)
	}
	c.connected.Store(true)
	defer c.connected.Store(false)
	c.conn.Store(conn)
	defer c.conn.Store(nil)
	c.connects.Add(1)
	for {
		r, err := stream.Recv()
		if err != nil {
			return heard || ctx.Err() == nil && !refused(err), fmt.Errorf("control node %s: %w", addr, err)
		}
		if !heard {
			heard = true
			c.log.Info("listening to a control node", "address", addr)
		}
		answers := have.take(r)
		for _, a := range answers {
			if a.GetErrorDetail() != nil {
				c.nacks.Add(1)
				c.log.Error("change from the control plane refused; the state before stays", "control", addr, "error", a.GetErrorDetail().GetMessage())
			}
			if err := stream.Send(a); err != nil {
				_, err = stream.Recv()
				return true, fmt.Errorf("control node %s: %w", addr, err)
			}
		}
	}
}
