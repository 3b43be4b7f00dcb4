package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"meridian/controlplane"
	"meridian/fleet"
)

const (
	pulse   = 2 * time.Second // between requests for progress on the watch
	silence = 4 * pulse       // without any sign of life the watch is opened again
)

// mirror is what the watch has brought: the small keys, and chunks of blobs
// that may be needed soon. The goroutine that reads the watch only writes
// here, so that events never queue up behind the building of a state.
type mirror struct {
	mu      sync.Mutex
	small   map[string][]byte
	chunks  map[string][]byte
	items   map[string]*mvccpb.KeyValue // changed and not yet taken; nil: gone
	known   map[string]bool             // keys of items that are there, taken or not
	cluster uint64                      // that was read
	rev     int64                       // up to which items are known
	dirty   chan struct{}               // holds one element when something changed
}

func (m *mirror) mark() {
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

// Watch follows the store until ctx ends; see controlplane.Store. Whatever
// breaks it, it reads everything again and watches from there: it never
// resumes, so that no gap can be lost. Of items it reads those that changed.
func (c *Client) Watch(ctx context.Context, update func(controlplane.Stored)) error {
	m := &mirror{dirty: make(chan struct{}, 1), items: map[string]*mvccpb.KeyValue{}, known: map[string]bool{}}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		backoff := minBackoff
		for ctx.Err() == nil {
			began := time.Now()
			err := c.follow(ctx, m)
			if ctx.Err() != nil {
				return nil
			}
			if c.lost(err) {
				c.log.Warn("store watch ended; reading it again", "error", err)
			}
			if time.Since(began) > settled {
				backoff = minBackoff
			}
			select {
			case <-ctx.Done():
			case <-time.After(backoff/2 + rand.N(backoff)):
			}
			backoff = min(backoff*2, 2*time.Second)
		}
		return nil
	})
	g.Go(func() error { return c.build(ctx, m, update) })
	return g.Wait()
}

// lost notes the end of contact, and says whether there was contact before.
func (c *Client) lost(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.health.Connected || c.health.Error == ""
	c.health.Connected, c.health.Error = false, err.Error()
	return was
}

func (c *Client) contact() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health = controlplane.StoreHealth{Connected: true, LastContact: time.Now()}
}

// follow reads everything at one revision and then the events after it.
func (c *Client) follow(ctx context.Context, m *mirror) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rev, err := c.readAll(ctx, m)
	if err != nil {
		return err
	}
	events := c.watch.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(),
		clientv3.WithRev(rev+1), clientv3.WithFragment(), clientv3.WithProgressNotify())
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if time.Since(last) > silence {
				return fmt.Errorf("no sign of life for %s", silence)
			}
			// The answer comes as an event. An external store's own pace may
			// be ten minutes.
			if err := c.watch.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
				return fmt.Errorf("progress: %w", err)
			}
		case r, ok := <-events:
			if !ok {
				return errors.New("watch closed")
			}
			if err := r.Err(); err != nil { // compacted, no leader, …
				return fmt.Errorf("watch: %w", err)
			}
			last = time.Now()
			c.contact()
			if len(r.Events) > 0 {
				m.apply(r.Events, r.Header.Revision)
			}
		}
	}
}

// readAll fills the mirror with the small keys at one revision of the own
// member, and gives that revision.
func (c *Client) readAll(ctx context.Context, m *mirror) (int64, error) {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	get := func(p string) clientv3.Op {
		return clientv3.OpGet(p, clientv3.WithPrefix(), clientv3.WithSerializable())
	}
	r, err := c.watch.Txn(limited).Then(get(currentKey), get(revPrefix), get(shiftPre), get(ackPrefix)).Commit()
	if err != nil {
		return 0, classify(err)
	}
	small := map[string][]byte{}
	for _, part := range r.Responses {
		for _, kv := range part.GetResponseRange().Kvs {
			small[string(kv.Key)] = kv.Value
		}
	}
	if err := c.readItems(ctx, m, r.Header.ClusterId, r.Header.Revision); err != nil {
		return 0, err
	}
	m.mu.Lock()
	m.small, m.chunks = small, map[string][]byte{}
	m.mu.Unlock()
	m.mark()
	return r.Header.Revision, nil
}

// apply takes events, of which one response may hold a part only: all of the
// revisions before its last are complete.
func (m *mirror) apply(events []*clientv3.Event, rev int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rev = max(m.rev, min(rev, events[len(events)-1].Kv.ModRevision)-1)
	for _, e := range events {
		key := string(e.Kv.Key)
		at := m.small
		switch {
		case isWatched(key):
			m.items[key], m.known[key] = e.Kv, true
			if e.Type == clientv3.EventTypeDelete {
				m.items[key] = nil
				delete(m.known, key)
			}
			continue
		case strings.HasPrefix(key, keysPrefix), strings.HasPrefix(key, acmePrefix), strings.HasPrefix(key, leaderKey), strings.HasPrefix(key, lockPrefix):
			continue
		case strings.HasPrefix(key, blobPrefix), strings.HasPrefix(key, partPrefix):
			at = m.chunks
		}
		if e.Type == clientv3.EventTypeDelete {
			delete(at, key)
		} else {
			at[key] = e.Kv.Value
		}
	}
	m.mark()
}

// build turns the mirror into states, one at a time.
func (c *Client) build(ctx context.Context, m *mirror, update func(controlplane.Stored)) error {
	var last built
	var items itemSets
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.dirty:
		}
		m.mu.Lock()
		small, chunks := maps.Clone(m.small), maps.Clone(m.chunks)
		m.mu.Unlock()
		err := c.takeItems(ctx, m, chunks, &items)
		var st controlplane.Stored
		if err == nil {
			st, err = c.stored(ctx, small, chunks, &last)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.log.Error("stored state not usable; the one before stays", "error", err)
			if errors.Is(err, controlplane.ErrStoreAway) {
				m.retry(ctx)
			}
			continue
		}
		m.drop(chunks)
		items.fill(&st)
		update(st)
	}
}

// retry marks the mirror again after a while.
func (m *mirror) retry(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
		m.mark()
	}
}

// drop forgets chunks that have been used.
func (m *mirror) drop(used map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range used {
		delete(m.chunks, key)
	}
}

// built is the content of the revision that was built last, so that a new
// shift or ack costs nothing.
type built struct {
	manifest blobRef
	doc      []byte
	objects  []fleet.Object
}

func (c *Client) stored(ctx context.Context, small, chunks map[string][]byte, last *built) (controlplane.Stored, error) {
	var st controlplane.Stored
	var current *record
	if v, ok := small[currentKey]; ok {
		var p pointer
		if err := json.Unmarshal(v, &p); err != nil {
			return st, fmt.Errorf("%s: %w", currentKey, err)
		}
		st.Revision = p.Revision
	}
	keys := make([]string, 0, len(small))
	for k := range small {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		switch {
		case strings.HasPrefix(k, revPrefix):
			r := new(record)
			if err := json.Unmarshal(small[k], r); err != nil {
				return st, fmt.Errorf("%s: %w", k, err)
			}
			st.History = append(st.History, controlplane.Revision{Revision: r.Revision, Created: r.Created, Restored: r.Restored, Content: r.Manifest.Hash})
			if r.Revision == st.Revision {
				current = r
			}
		case strings.HasPrefix(k, shiftPre):
			var sh fleet.Shift
			if err := json.Unmarshal(small[k], &sh); err != nil {
				return st, fmt.Errorf("%s: %w", k, err)
			}
			st.Shifts = append(st.Shifts, sh)
		case strings.HasPrefix(k, ackPrefix):
			var a controlplane.Ack
			if err := json.Unmarshal(small[k], &a); err != nil {
				return st, fmt.Errorf("%s: %w", k, err)
			}
			st.Acks = append(st.Acks, a)
		}
	}
	if st.Revision == 0 {
		return st, nil
	}
	if current == nil {
		return st, fmt.Errorf("revision %d is current but not in the store", st.Revision)
	}
	if err := c.fill(ctx, current.Manifest, chunks, last); err != nil {
		return st, err
	}
	st.Doc, st.Objects = last.doc, last.objects
	return st, nil
}

// fill reads the content of a revision: from the chunks that the watch
// brought, else from the store.
func (c *Client) fill(ctx context.Context, ref blobRef, chunks map[string][]byte, last *built) error {
	if last.manifest == ref {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	had := map[string][]byte{}
	for _, o := range last.objects {
		had[refOf(o.Data).Hash] = o.Data
	}
	read := func(r blobRef) ([]byte, error) {
		if b, ok := had[r.Hash]; ok {
			return b, nil
		}
		for i := range r.chunks() {
			if _, ok := chunks[chunkKey(r.Hash, i)]; !ok {
				return c.blob(ctx, r)
			}
		}
		return c.openChunks(r, func(i int) []byte { return chunks[chunkKey(r.Hash, i)] })
	}
	b, err := read(ref)
	if err != nil {
		return err
	}
	m, err := c.keepManifest(ref, b)
	if err != nil {
		return err
	}
	next := built{manifest: ref}
	if next.doc, err = read(m.Doc); err != nil {
		return err
	}
	for _, o := range m.Objects {
		data, err := read(o.Blob)
		if err != nil {
			return fmt.Errorf("%s %q: %w", o.Kind, o.ID, err)
		}
		next.objects = append(next.objects, fleet.Object{Key: fleet.ObjectKey{Kind: o.Kind, ID: o.ID}, Data: data, File: o.File})
	}
	*last = next
	return nil
}
