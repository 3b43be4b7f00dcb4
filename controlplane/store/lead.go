package store

import (
	"context"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
)

// leaseTTL is how long a replica that went away without a word stays the
// leader, in seconds.
const leaseTTL = 15

// Lead implements controlplane.ItemStore by an election among the replicas. A
// leader whose lease ends, since the store was away for so long, stops leading
// and stands again.
func (c *Client) Lead(ctx context.Context, as string, lead func(context.Context)) error {
	for ctx.Err() == nil {
		if err := c.leadOnce(ctx, as, lead); err != nil && ctx.Err() == nil {
			c.log.Debug("not the leader", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
	return nil
}

func (c *Client) leadOnce(ctx context.Context, as string, lead func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := concurrency.NewSession(c.kv, concurrency.WithTTL(leaseTTL), concurrency.WithContext(ctx))
	if err != nil {
		return classify(err)
	}
	go func() { // ends with ctx, at the latest
		select {
		case <-s.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	e := concurrency.NewElection(s, leaderKey)
	if err := e.Campaign(ctx, as); err != nil {
		return classify(err)
	}
	c.log.Info("this replica keeps the zones' timers")
	lead(ctx)
	// The next one need not wait for the lease to end.
	limited, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	return classify(e.Resign(limited))
}
