package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	clientv3 "go.etcd.io/etcd/client/v3"

	"meridian/controlplane"
	"meridian/fleet"
)

// commitTries bounds how often a commit starts again because somebody else
// changed the store (a commit that then turns out to be a conflict ends at once).
const commitTries = 5

// Commit makes a new revision current by compare-and-swap on the pointer. The
// same transaction writes what is new and deletes what only revisions older
// than the kept ones hold, so that no clean-up can race with a commit.
func (c *Client) Commit(ctx context.Context, base uint64, ch controlplane.Change) (uint64, error) {
	fresh := false // the first look is at the own member, without a round trip
	for range commitTries {
		seen, err := c.look(ctx, fresh)
		if err != nil {
			return 0, err
		}
		ref, blobs, err := c.contentOf(ctx, seen, ch)
		if err != nil {
			return 0, err
		}
		if seen.revision != base {
			if !fresh {
				fresh = true
				continue
			}
			// A commit whose answer got lost is seen here when it is tried again.
			if r := seen.record(seen.revision); r != nil && r.Manifest == ref && len(seen.records) > 1 && seen.records[len(seen.records)-2].Revision == base {
				return seen.revision, nil
			}
			return 0, &controlplane.ConflictError{Current: seen.revision, Base: base}
		}
		n, ok, err := c.swap(ctx, seen, ref, blobs, ch, fresh)
		if err != nil || ok {
			return n, err
		}
		fresh = true
	}
	return 0, errors.New("store: others kept changing it; try again")
}

// seen is what a commit looks at first.
type seen struct {
	revision uint64   // current, 0 for none
	mod      int64    // etcd's revision of the pointer
	records  []record // kept ones, oldest first
	blobs    map[string]bool
}

func (s *seen) record(n uint64) *record {
	for i := range s.records {
		if s.records[i].Revision == n {
			return &s.records[i]
		}
	}
	return nil
}

func (c *Client) look(ctx context.Context, fresh bool) (*seen, error) {
	var opts []clientv3.OpOption
	if !fresh {
		opts = append(opts, clientv3.WithSerializable())
	}
	get := func(key string, more ...clientv3.OpOption) clientv3.Op {
		return clientv3.OpGet(key, append(more, opts...)...)
	}
	r, err := c.kv.Txn(ctx).Then(
		get(currentKey),
		get(revPrefix, clientv3.WithPrefix()),
		get(blobPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly()),
	).Commit()
	if err != nil {
		return nil, classify(err)
	}
	s := &seen{blobs: map[string]bool{}}
	for _, kv := range r.Responses[0].GetResponseRange().Kvs {
		var p pointer
		if err := json.Unmarshal(kv.Value, &p); err != nil {
			return nil, fmt.Errorf("store: %s: %w", currentKey, err)
		}
		s.revision, s.mod = p.Revision, kv.ModRevision
	}
	for _, kv := range r.Responses[1].GetResponseRange().Kvs {
		var rec record
		if err := json.Unmarshal(kv.Value, &rec); err != nil {
			return nil, fmt.Errorf("store: %s: %w", kv.Key, err)
		}
		s.records = append(s.records, rec)
	}
	chunks := map[string]int{}
	for _, kv := range r.Responses[2].GetResponseRange().Kvs {
		if hash, _, ok := parseChunkKey(string(kv.Key)); ok {
			chunks[hash]++
			s.blobs[hash] = true
		}
	}
	return s, nil
}

// contentOf gives the manifest of a change, and the blobs that it brings.
func (c *Client) contentOf(ctx context.Context, s *seen, ch controlplane.Change) (blobRef, content, error) {
	if ch.Restore == 0 {
		return pack(ch.Doc, ch.Objects)
	}
	r := s.record(ch.Restore)
	if r == nil {
		return blobRef{}, nil, fmt.Errorf("revision %d is not kept; GET /status lists those that are", ch.Restore)
	}
	if _, err := c.manifest(ctx, r.Manifest); err != nil {
		return blobRef{}, nil, err
	}
	return r.Manifest, nil, nil
}

// Content implements controlplane.Store.
func (c *Client) Content(ctx context.Context, revision uint64) ([]byte, []fleet.Object, error) {
	s, err := c.look(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	r := s.record(revision)
	if r == nil {
		return nil, nil, fmt.Errorf("revision %d is not kept; GET /status lists those that are", revision)
	}
	var b built
	if err := c.fill(ctx, r.Manifest, nil, &b); err != nil {
		return nil, nil, err
	}
	return b.doc, b.objects, nil
}

// swap writes the revision; ok is false where somebody else was faster.
func (c *Client) swap(ctx context.Context, s *seen, ref blobRef, blobs content, ch controlplane.Change, fresh bool) (n uint64, ok bool, err error) {
	n = max(s.revision, ch.Floor)
	for _, r := range s.records {
		n = max(n, r.Revision)
	}
	n++
	puts, err := c.writeAhead(ctx, s, blobs)
	if err != nil {
		return 0, false, err
	}
	ifs, with, puts, err := c.itemsWith(ctx, ch.Items, puts, fresh)
	if err != nil {
		return 0, false, err
	}
	rec, err := json.Marshal(record{Revision: n, Created: ch.Created, Restored: ch.Restore, Manifest: ref})
	if err != nil {
		return 0, false, fmt.Errorf("store: %w", err)
	}
	ptr, err := json.Marshal(pointer{n})
	if err != nil {
		return 0, false, fmt.Errorf("store: %w", err)
	}
	ops := append(puts, clientv3.OpPut(revKey(n), string(rec)), clientv3.OpPut(currentKey, string(ptr)))
	if len(with) == 0 { // else the next commit sweeps: a transaction holds so much
		ops = append(ops, c.sweep(ctx, s, ref, blobs)...)
	}
	ops = append(ops, with...)
	r, err := c.kv.Txn(ctx).If(append(ifs, clientv3.Compare(clientv3.ModRevision(currentKey), "=", s.mod))...).Then(ops...).Commit()
	if err != nil {
		return 0, false, classify(err)
	}
	if r.Succeeded && len(ch.Items) > controlplane.MaxTogether {
		if _, removals := split(ch.Items); len(removals) > 0 {
			if err := c.WriteItems(ctx, removals); err != nil { // the leader's timer does it again
				c.log.Warn("derived zones not removed", "error", err)
			}
		}
	}
	return n, r.Succeeded, nil
}

// itemsWith gives what writes a commit's items in its own transaction, before
// which it writes the other operations, as they would not fit. Items that are
// too many for one transaction it writes at once, the removals after them: nodes
// are to have what a revision needs when it comes, and may have more.
func (c *Client) itemsWith(ctx context.Context, items []controlplane.ItemWrite, puts []clientv3.Op, fresh bool) ([]clientv3.Cmp, []clientv3.Op, []clientv3.Op, error) {
	if len(items) == 0 {
		return nil, nil, puts, nil
	}
	if len(puts) > 0 {
		if _, err := c.kv.Txn(ctx).Then(puts...).Commit(); err != nil {
			return nil, nil, nil, classify(err)
		}
	}
	if len(items) > controlplane.MaxTogether {
		puts, _ := split(items)
		return nil, nil, nil, c.WriteItems(ctx, puts)
	}
	ifs, then, err := c.itemOps(ctx, items, fresh)
	return ifs, then, nil, err
}

// split parts items from those that are removed.
func split(items []controlplane.ItemWrite) (puts, removals []controlplane.ItemWrite) {
	for _, it := range items {
		if it.Data == nil {
			removals = append(removals, it)
		} else {
			puts = append(puts, it)
		}
	}
	return puts, removals
}

// writeAhead gives the operations that write what the store lacks; what does
// not fit into the final transaction it writes at once, in batches.
func (c *Client) writeAhead(ctx context.Context, s *seen, blobs content) ([]clientv3.Op, error) {
	var ops []clientv3.Op
	size := 0
	hashes := make([]string, 0, len(blobs))
	for h := range blobs {
		hashes = append(hashes, h)
	}
	sort.Strings(hashes)
	for _, h := range hashes {
		if s.blobs[h] {
			continue
		}
		keys, values, err := c.sealChunks(refOf(blobs[h]), blobs[h])
		if err != nil {
			return nil, err
		}
		for i, key := range keys {
			if size+len(values[i]) > batchSize || len(ops) == batchOps {
				if _, err := c.kv.Txn(ctx).Then(ops...).Commit(); err != nil {
					return nil, classify(err)
				}
				ops, size = nil, 0
			}
			ops = append(ops, clientv3.OpPut(key, string(values[i])))
			size += len(values[i])
		}
	}
	return ops, nil
}

// sweep gives the operations that delete the revisions beyond the kept ones
// and the blobs that no kept revision holds. If it cannot tell, it leaves
// everything: sweeping is never worth a failed commit.
func (c *Client) sweep(ctx context.Context, s *seen, ref blobRef, blobs content) []clientv3.Op {
	var ops []clientv3.Op
	records := s.records
	for len(records) >= keep && len(ops) < batchOps/2 {
		ops = append(ops, clientv3.OpDelete(revKey(records[0].Revision)))
		records = records[1:]
	}
	held := map[string]bool{ref.Hash: true}
	for h := range blobs {
		held[h] = true
	}
	for _, r := range records {
		held[r.Manifest.Hash] = true
		m, err := c.manifest(ctx, r.Manifest)
		if err != nil {
			c.log.Warn("store not swept", "error", err)
			return nil
		}
		held[m.Doc.Hash] = true
		for _, o := range m.Objects {
			held[o.Blob.Hash] = true
		}
	}
	for h := range s.blobs {
		if !held[h] && len(ops) < batchOps {
			ops = append(ops, clientv3.OpDelete(blobDir(h), clientv3.WithPrefix()))
		}
	}
	return ops
}
