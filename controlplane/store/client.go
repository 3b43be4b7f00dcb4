package store

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meridian/controlplane"
	"meridian/fleet"
	"meridian/identity"
)

// Config is how to reach the store.
type Config struct {
	Endpoints []string           // ADDRESS:PORT or URLs; http:// for one without TLS
	TLS       *tls.Config        // identity's, or an external store's own; nil: plain
	Identity  *identity.Identity // seals what is stored
	Logger    *slog.Logger
}

// Client implements controlplane.Store on etcd, embedded or external. Its
// methods are safe for concurrent use; Watch is called once.
type Client struct {
	cfg Config
	log *slog.Logger
	kv  *clientv3.Client
	// watch has its own connection: a big read must not hold up events.
	watch *clientv3.Client

	mu        sync.Mutex // guards what follows
	health    controlplane.StoreHealth
	manifests map[string]*manifest // of kept revisions, by hash
	standings map[string]itemMod   // of watched items, by key, as the watch has brought them

	itemsRead atomic.Int64 // by the watch other than as events
}

// New makes a client; it connects in the background.
func New(cfg Config) (*Client, error) {
	if len(cfg.Endpoints) == 0 || cfg.Identity == nil {
		return nil, errors.New("store client: expected endpoints and an identity")
	}
	// gRPC alone would wait up to two minutes between tries.
	retry := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
	opts := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 3 * time.Second})}
	if cfg.TLS != nil && cfg.TLS.ServerName != "" {
		// etcd's resolver names each address after itself, which would be
		// verified in place of the configured name.
		opts = append(opts, grpc.WithAuthority(cfg.TLS.ServerName))
	}
	connect := func() (*clientv3.Client, error) {
		return clientv3.New(clientv3.Config{
			Endpoints: endpoints(cfg.Endpoints, cfg.TLS != nil), TLS: cfg.TLS,
			DialTimeout: 2 * time.Second, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
			MaxCallRecvMsgSize: math.MaxInt32, DialOptions: opts,
			Logger: zap.NewNop(), // errors are returned; nothing else is worth a line
		})
	}
	kv, err := connect()
	if err != nil {
		return nil, fmt.Errorf("store client: %w", err)
	}
	w, err := connect()
	if err != nil {
		kv.Close()
		return nil, fmt.Errorf("store client: %w", err)
	}
	return &Client{cfg: cfg, log: cfg.Logger, kv: kv, watch: w, manifests: map[string]*manifest{}, standings: map[string]itemMod{}}, nil
}

func endpoints(list []string, secure bool) []string {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	var out []string
	for _, e := range list {
		if !strings.Contains(e, "://") {
			e = scheme + e
		}
		out = append(out, e)
	}
	return out
}

// Close ends the connections.
func (c *Client) Close() error { return errors.Join(c.kv.Close(), c.watch.Close()) }

// Health says how the connection to the store is.
func (c *Client) Health() controlplane.StoreHealth {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health
}

// away says that the store cannot be used, and why.
func away(err error) error { return fmt.Errorf("%w: %w", controlplane.ErrStoreAway, err) }

// classify turns etcd's errors into controlplane's.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("the store is full: %w", err)
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.Unavailable,
		status.Code(err) == codes.DeadlineExceeded, errors.Is(err, rpctypes.ErrTimeout), errors.Is(err, rpctypes.ErrNoLeader):
		return away(err)
	}
	return fmt.Errorf("store: %w", err)
}

// SetShift stores, replaces or (nil) removes a shift. An expiry becomes a
// lease, so that the key goes away by itself.
func (c *Client) SetShift(ctx context.Context, id string, sh *fleet.Shift) error {
	key := shiftPre + id
	if sh == nil {
		_, err := c.kv.Delete(ctx, key)
		return classify(err)
	}
	v, err := json.Marshal(sh)
	if err != nil {
		return fmt.Errorf("shift: %w", err)
	}
	var opts []clientv3.OpOption
	if !sh.Expires.IsZero() {
		left := time.Until(sh.Expires)
		if left <= 0 {
			return fmt.Errorf("shift %s has expired", id)
		}
		lease, err := c.kv.Grant(ctx, int64(math.Ceil(left.Seconds())))
		if err != nil {
			return classify(err)
		}
		opts = append(opts, clientv3.WithLease(lease.ID))
	}
	_, err = c.kv.Put(ctx, key, string(v), opts...)
	return classify(err)
}

// PutAcks records the newest answers of nodes, as many as fit in one
// transaction: over a long link each would cost a round trip.
func (c *Client) PutAcks(ctx context.Context, acks []controlplane.Ack) error {
	for batch := range slices.Chunk(acks, batchOps) {
		var ops []clientv3.Op
		for _, a := range batch {
			v, err := json.Marshal(a)
			if err != nil {
				return fmt.Errorf("ack: %w", err)
			}
			ops = append(ops, clientv3.OpPut(ackPrefix+a.Node, string(v)))
		}
		if _, err := c.kv.Txn(ctx).Then(ops...).Commit(); err != nil {
			return classify(err)
		}
	}
	return nil
}

// blob reads one blob; local reads may come from a member that is behind,
// which content-addressing makes harmless.
func (c *Client) blob(ctx context.Context, ref blobRef) ([]byte, error) {
	if !ref.valid() {
		return nil, errors.New("blob reference is not valid")
	}
	parts := map[int][]byte{}
	// One request for a chunk: an answer with all of a large blob would be
	// larger than a message may be.
	for i := range ref.chunks() {
		r, err := c.kv.Get(ctx, chunkKey(ref.Hash, i), clientv3.WithSerializable())
		if err != nil {
			return nil, classify(err)
		}
		if len(r.Kvs) == 0 {
			return nil, fmt.Errorf("blob %.12s is not in the store", ref.Hash)
		}
		parts[i] = r.Kvs[0].Value
	}
	return c.openChunks(ref, func(i int) []byte { return parts[i] })
}

// manifest reads a manifest, from memory where it was read before.
func (c *Client) manifest(ctx context.Context, ref blobRef) (*manifest, error) {
	c.mu.Lock()
	m := c.manifests[ref.Hash]
	c.mu.Unlock()
	if m != nil {
		return m, nil
	}
	b, err := c.blob(ctx, ref)
	if err != nil {
		return nil, err
	}
	return c.keepManifest(ref, b)
}

func (c *Client) keepManifest(ref blobRef, b []byte) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("manifest %.12s: %w", ref.Hash, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.manifests) > 2*keep {
		clear(c.manifests)
	}
	c.manifests[ref.Hash] = m
	return m, nil
}
