package store

import (
	"context"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"meridian/controlplane"
	"meridian/fleet"
)

// ItemNames implements controlplane.ItemStore.
func (c *Client) ItemNames(ctx context.Context, kind controlplane.ItemKind, under string) ([]fleet.Name, error) {
	r, err := c.kv.Get(ctx, itemPrefix(kind)+under, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, classify(err)
	}
	var out []fleet.Name
	for _, kv := range r.Kvs {
		out = append(out, fleet.Name(strings.TrimPrefix(string(kv.Key), itemPrefix(kind))))
	}
	return out, nil
}

// Lock implements controlplane.ItemStore by a lease that is kept alive: a
// holder that is cut off from the store, or dies, loses it when the lease ends.
func (c *Client) Lock(ctx context.Context, name string) (func(), <-chan struct{}, error) {
	s, err := concurrency.NewSession(c.kv, concurrency.WithTTL(leaseTTL))
	if err != nil {
		return nil, nil, classify(err)
	}
	m := concurrency.NewMutex(s, lockPrefix+name)
	if err := m.Lock(ctx); err != nil {
		_ = s.Close()
		return nil, nil, classify(err)
	}
	return sync.OnceFunc(func() {
		limited, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m.Unlock(limited)
		_ = s.Close() // takes the lease back, and with it the lock
	}), s.Done(), nil
}
