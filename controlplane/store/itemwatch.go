package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"meridian/controlplane"
	"meridian/fleet"
)

// watched are the kinds of item that replicas follow.
var watched = [...]controlplane.ItemKind{controlplane.ZoneItem, controlplane.DerivedItem, controlplane.ProblemItem, controlplane.LiveItem}

func isWatched(key string) bool {
	for _, k := range watched {
		if strings.HasPrefix(key, itemPrefix(k)) {
			return true
		}
	}
	return false
}

// pageKeys is how many items are read in one request; small ones are a
// kilobyte, and none is more than inlineMax.
const pageKeys = 500

// pageLimit bounds one such request.
const pageLimit = 15 * time.Second

// readItems brings the mirror's items to what the store holds at a revision. A
// mirror that was at an earlier revision of the same cluster is sent what has
// changed since, and the list of keys.
func (c *Client) readItems(ctx context.Context, m *mirror, cluster uint64, rev int64) error {
	m.mu.Lock()
	since := int64(0)
	if m.cluster == cluster && m.rev <= rev {
		since = m.rev
	}
	m.mu.Unlock()
	var only []clientv3.OpOption
	if since > 0 { // it costs etcd a look at every key for each page
		only = append(only, clientv3.WithMinModRev(since+1))
	}
	there := map[string]bool{}
	for _, k := range watched {
		err := c.pages(ctx, itemPrefix(k), rev, func(kvs []*mvccpb.KeyValue) {
			m.mu.Lock()
			for _, kv := range kvs {
				m.items[string(kv.Key)], m.known[string(kv.Key)] = kv, true
				there[string(kv.Key)] = true
			}
			m.mu.Unlock()
			c.itemsRead.Add(int64(len(kvs)))
		}, only...)
		if err != nil {
			return err
		}
		if since == 0 {
			continue
		}
		err = c.pages(ctx, itemPrefix(k), rev, func(kvs []*mvccpb.KeyValue) {
			for _, kv := range kvs {
				there[string(kv.Key)] = true
			}
		}, clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
	}
	m.mu.Lock()
	for key := range m.known {
		if !there[key] {
			m.items[key] = nil
			delete(m.known, key)
		}
	}
	m.cluster, m.rev = cluster, rev
	m.mu.Unlock()
	return nil
}

// pages reads all keys with a prefix at one revision, a page at a time.
func (c *Client) pages(ctx context.Context, pre string, rev int64, take func([]*mvccpb.KeyValue), opts ...clientv3.OpOption) error {
	end := clientv3.GetPrefixRangeEnd(pre)
	for from := pre; ; {
		limited, cancel := context.WithTimeout(ctx, pageLimit)
		r, err := c.watch.Get(limited, from, append([]clientv3.OpOption{clientv3.WithRange(end), clientv3.WithRev(rev),
			clientv3.WithLimit(pageKeys), clientv3.WithSerializable()}, opts...)...)
		cancel()
		if err != nil {
			return classify(err)
		}
		take(r.Kvs)
		if !r.More || len(r.Kvs) == 0 {
			return nil
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// itemSets are the items as they are handed on. Only the goroutine of build
// uses it.
type itemSets struct {
	sets map[controlplane.ItemKind]*fleet.Zones
}

// fill hands the sets on.
func (s *itemSets) fill(st *controlplane.Stored) {
	st.Zones, st.Derived = s.sets[controlplane.ZoneItem], s.sets[controlplane.DerivedItem]
	st.Problems, st.Live = s.sets[controlplane.ProblemItem], s.sets[controlplane.LiveItem]
}

// take works off changed items. What is large and cannot be read stays in the
// mirror for another try; what does not open is logged and stays as it was.
func (c *Client) takeItems(ctx context.Context, m *mirror, chunks map[string][]byte, s *itemSets) error {
	m.mu.Lock()
	items := m.items
	m.items = map[string]*mvccpb.KeyValue{}
	m.mu.Unlock()
	if len(items) == 0 {
		return nil
	}
	put, gone := map[controlplane.ItemKind][]fleet.Object{}, map[controlplane.ItemKind][]fleet.Name{}
	standings := map[string]*itemMod{}
	var failed error
	for key, kv := range items {
		kind, name, ok := parseItemKey(key)
		if !ok {
			continue
		}
		if kv == nil {
			gone[kind] = append(gone[kind], name)
			standings[key] = nil
			continue
		}
		h, data, err := c.openItem(key, kv.Value)
		if err == nil && h.Parts {
			data, err = c.parts(ctx, key, h, chunks)
		}
		switch {
		case errors.Is(err, errParts): // the watch is about to bring its successor
		case errors.Is(err, controlplane.ErrStoreAway):
			failed = err
			m.again(key, kv)
		case err != nil:
			c.log.Error("item in the store not usable; what was there before stays", "error", err)
		default:
			put[kind] = append(put[kind], kind.Object(name, data))
			standings[key] = &itemMod{kv.ModRevision, h.version()}
		}
	}
	if s.sets == nil {
		s.sets = map[controlplane.ItemKind]*fleet.Zones{}
	}
	for _, k := range watched {
		s.sets[k] = s.sets[k].With(put[k], gone[k])
	}
	c.mu.Lock()
	for key, at := range standings {
		if at == nil {
			delete(c.standings, key)
		} else {
			c.standings[key] = *at
		}
	}
	c.mu.Unlock()
	return failed
}

// again puts an item back that was not taken, unless a newer one has come.
func (m *mirror) again(key string, kv *mvccpb.KeyValue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, newer := m.items[key]; !newer {
		m.items[key] = kv
	}
}
