package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"meridian/controlplane"
	"meridian/fleet"
)

// Items are data of single zones with a version of their own: zone contents,
// derived zones, their problems and keys, and live objects (controlplane.ItemKind). Each has one key, which
// writes compare and swap; what is larger than inlineMax has its content in
// parts beside, written before.
//
//	/meridian/v1/KIND/NAME                            sealed: a line of itemHead, then the content if it is small
//	/meridian/v1/part/KIND/NAME/HASH/0000             a chunk of a large one, sealed; HASH is of the whole content
//	/meridian/v1/leader/                              the election of the replica that keeps the timers
//	/meridian/v1/lock/NAME/                           who holds or awaits a lock
const (
	partPrefix = prefix + "part/"
	keysPrefix = prefix + "keys/"
	acmePrefix = prefix + "acme/"
	leaderKey  = prefix + "leader"
	lockPrefix = prefix + "lock/"
	inlineMax  = 48 << 10 // octets; MaxTogether of them fit into one request
)

func itemPrefix(k controlplane.ItemKind) string { return prefix + string(k) + "/" }

func itemKey(k controlplane.ItemKind, n fleet.Name) string { return itemPrefix(k) + string(n) }

// parseItemKey is the reverse of itemKey. A zone's name may hold slashes.
func parseItemKey(key string) (controlplane.ItemKind, fleet.Name, bool) {
	for _, k := range controlplane.ItemKinds() {
		if n, ok := strings.CutPrefix(key, itemPrefix(k)); ok && n != "" {
			return k, fleet.Name(n), true
		}
	}
	return "", "", false
}

// partDir is where the parts of an item's content are. No label of a name is
// as long as a hash, so that no item's folder lies in another's.
func partDir(key, hash string) string {
	return partPrefix + strings.TrimPrefix(key, prefix) + "/" + hash + "/"
}

func partKey(key, hash string, i int) string { return fmt.Sprintf("%s%04d", partDir(key, hash), i) }

// itemHead begins an item's value.
type itemHead struct {
	blobRef
	Parts bool `json:"parts,omitempty"` // the content is in parts
}

// version is rules.ContentVersion of the content.
func (h itemHead) version() string { return h.Hash[:32] }

// sealItem gives an item's value and, for a large one, the parts.
func (c *Client) sealItem(key string, data []byte) (value []byte, parts []clientv3.Op, err error) {
	if len(data) > maxBlob {
		return nil, nil, fmt.Errorf("%s is larger than %d octets", strings.TrimPrefix(key, prefix), maxBlob)
	}
	h := itemHead{blobRef: refOf(data), Parts: len(data) > inlineMax}
	if h.Parts {
		for i := range h.chunks() {
			at := partKey(key, h.Hash, i)
			v, err := c.cfg.Identity.Seal(rand.Reader, data[i*chunkSize:min((i+1)*chunkSize, len(data))], at)
			if err != nil {
				return nil, nil, err
			}
			parts = append(parts, clientv3.OpPut(at, string(v)))
		}
		data = nil
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, nil, fmt.Errorf("item: %w", err)
	}
	value, err = c.cfg.Identity.Seal(rand.Reader, append(append(line, '\n'), data...), key)
	return value, parts, err
}

// openItem reads an item's value; the content of a large one is left out.
func (c *Client) openItem(key string, value []byte) (h itemHead, data []byte, err error) {
	plain, err := c.cfg.Identity.Open(value, key)
	if err != nil {
		return h, nil, fmt.Errorf("%s: %w", strings.TrimPrefix(key, prefix), err)
	}
	line, data, _ := bytes.Cut(plain, []byte("\n"))
	if err := json.Unmarshal(line, &h); err != nil || !h.valid() {
		return h, nil, fmt.Errorf("%s: its head is damaged", strings.TrimPrefix(key, prefix))
	}
	if !h.Parts && refOf(data) != h.blobRef {
		return h, nil, fmt.Errorf("%s: content does not match its name", strings.TrimPrefix(key, prefix))
	}
	return h, data, nil
}

// errParts says that a part is not there: the item has been replaced since its
// head was read.
var errParts = errors.New("a part of its content is missing")

// parts reads the content of a large item; have gives parts that are known.
func (c *Client) parts(ctx context.Context, key string, h itemHead, have map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	for i := range h.chunks() {
		at := partKey(key, h.Hash, i)
		sealed, ok := have[at]
		if !ok {
			r, err := c.kv.Get(ctx, at)
			if err != nil {
				return nil, classify(err)
			}
			if len(r.Kvs) == 0 {
				return nil, fmt.Errorf("%s: %w", strings.TrimPrefix(key, prefix), errParts)
			}
			sealed = r.Kvs[0].Value
		}
		part, err := c.cfg.Identity.Open(sealed, at)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.TrimPrefix(at, prefix), err)
		}
		b.Write(part)
	}
	if refOf(b.Bytes()) != h.blobRef {
		return nil, fmt.Errorf("%s: content does not match its name", strings.TrimPrefix(key, prefix))
	}
	return b.Bytes(), nil
}

// ReadItem implements controlplane.ItemStore.
func (c *Client) ReadItem(ctx context.Context, kind controlplane.ItemKind, name fleet.Name) ([]byte, string, error) {
	key := itemKey(kind, name)
	for try := 0; ; try++ {
		r, err := c.kv.Get(ctx, key)
		if err != nil {
			return nil, "", classify(err)
		}
		if len(r.Kvs) == 0 {
			return nil, "", nil
		}
		h, data, err := c.openItem(key, r.Kvs[0].Value)
		if err == nil && h.Parts {
			data, err = c.parts(ctx, key, h, nil)
		}
		if errors.Is(err, errParts) && try < commitTries {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		return data, h.version(), nil
	}
}

// itemMod is where an item stands in the store.
type itemMod struct {
	mod     int64 // etcd's revision of its key; 0: there is none
	version string
}

// WriteItems implements controlplane.ItemStore.
func (c *Client) WriteItems(ctx context.Context, items []controlplane.ItemWrite) error {
	for len(items) > 0 {
		n := min(len(items), controlplane.MaxTogether)
		if err := c.writeTogether(ctx, items[:n]); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

func (c *Client) writeTogether(ctx context.Context, items []controlplane.ItemWrite) error {
	for try := range commitTries {
		ifs, then, err := c.itemOps(ctx, items, try > 0)
		if err != nil {
			return err
		}
		r, err := c.kv.Txn(ctx).If(ifs...).Then(then...).Commit()
		if err != nil {
			return classify(err)
		}
		if r.Succeeded {
			return nil
		}
	}
	return &controlplane.ItemConflictError{Kind: items[0].Kind, Name: items[0].Name}
}

// itemOps gives what to compare and what to do for a write of items; the parts
// of large ones it writes at once. With fresh, where the items stand is read
// from the store, else taken as the watch has brought it.
func (c *Client) itemOps(ctx context.Context, items []controlplane.ItemWrite, fresh bool) (ifs []clientv3.Cmp, then []clientv3.Op, err error) {
	at, err := c.standing(ctx, items, fresh)
	if err != nil {
		return nil, nil, err
	}
	for i, it := range items {
		key := itemKey(it.Kind, it.Name)
		if it.Expect != controlplane.AnyVersion && at[i].version != it.Expect {
			return nil, nil, &controlplane.ItemConflictError{Kind: it.Kind, Name: it.Name}
		}
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(key), "=", at[i].mod))
		dir := partPrefix + strings.TrimPrefix(key, prefix) + "/"
		if it.Data == nil {
			then = append(then, clientv3.OpDelete(key), clientv3.OpDelete(dir, clientv3.WithPrefix()))
			continue
		}
		value, parts, err := c.sealItem(key, it.Data)
		if err != nil {
			return nil, nil, err
		}
		for _, op := range parts { // two would be as large as a request may be
			if _, err := c.kv.Do(ctx, op); err != nil {
				return nil, nil, classify(err)
			}
		}
		then = append(then, clientv3.OpPut(key, string(value)))
		then = append(then, sweepParts(dir, refOf(it.Data).Hash, len(parts) > 0)...)
	}
	return ifs, then, nil
}

// sweepParts deletes the parts of all contents of an item but one.
func sweepParts(dir, hash string, keep bool) []clientv3.Op {
	if !keep {
		return []clientv3.Op{clientv3.OpDelete(dir, clientv3.WithPrefix())}
	}
	return []clientv3.Op{
		clientv3.OpDelete(dir, clientv3.WithRange(dir+hash+"/")),
		clientv3.OpDelete(dir+hash+"0", clientv3.WithRange(clientv3.GetPrefixRangeEnd(dir))), // "0" follows "/"
	}
}

// standing says where items stand. Keys are not watched, and so always read.
func (c *Client) standing(ctx context.Context, items []controlplane.ItemWrite, fresh bool) ([]itemMod, error) {
	out := make([]itemMod, len(items))
	var ops []clientv3.Op
	var which []int
	c.mu.Lock()
	for i, it := range items {
		at, known := c.standings[itemKey(it.Kind, it.Name)]
		if fresh || !isWatched(itemKey(it.Kind, it.Name)) || !known && it.Expect != "" || known && it.Expect != controlplane.AnyVersion && at.version != it.Expect {
			ops, which = append(ops, clientv3.OpGet(itemKey(it.Kind, it.Name))), append(which, i)
			continue
		}
		out[i] = at
	}
	c.mu.Unlock()
	if len(ops) == 0 {
		return out, nil
	}
	r, err := c.kv.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, classify(err)
	}
	for j, i := range which {
		out[i] = itemMod{}
		for _, kv := range r.Responses[j].GetResponseRange().Kvs {
			out[i].mod = kv.ModRevision
			if h, _, err := c.openItem(string(kv.Key), kv.Value); err == nil {
				out[i].version = h.version()
			} else if items[i].Expect != controlplane.AnyVersion { // what cannot be read may be replaced
				return nil, err
			}
		}
	}
	return out, nil
}
