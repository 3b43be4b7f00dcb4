package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"meridian/controlplane"
	"meridian/fleet"
	"meridian/rules"
)

func put(kind controlplane.ItemKind, name, data, expect string) controlplane.ItemWrite {
	return controlplane.ItemWrite{Kind: kind, Name: fleet.Name(name), Data: []byte(data), Expect: expect}
}

func holds(set func(controlplane.Stored) *fleet.Zones, name, data string) func(controlplane.Stored) bool {
	return func(st controlplane.Stored) bool {
		o, ok := set(st).Get(fleet.Name(name))
		return ok == (data != "") && string(o.Data) == data
	}
}

func zonesIn(st controlplane.Stored) *fleet.Zones   { return st.Zones }
func derivedIn(st controlplane.Stored) *fleet.Zones { return st.Derived }

func TestItemsAreWrittenByCompareAndSwap(t *testing.T) {
	r := newReplica(t, newIdentity(t), "fra-1", "127.0.0.1", nil)
	r.start()
	r.commit(0, "one")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	write := func(items ...controlplane.ItemWrite) error { return r.client.WriteItems(ctx, items) }

	if err := write(put(controlplane.ZoneItem, "a.test.", "one", ""), put(controlplane.DerivedItem, "a.test.", "signed one", "")); err != nil {
		t.Fatal(err)
	}
	r.await("the zone", holds(zonesIn, "a.test.", "one"))
	st := r.await("what was derived", holds(derivedIn, "a.test.", "signed one"))
	if o, _ := st.Zones.Get("a.test."); o.Version != rules.ContentVersion([]byte("one")) {
		t.Errorf("version %q", o.Version)
	}
	t.Run("what expects another content changes nothing", func(t *testing.T) {
		err := write(put(controlplane.DerivedItem, "a.test.", "signed two", rules.ContentVersion([]byte("signed one"))), put(controlplane.ZoneItem, "a.test.", "two", rules.ContentVersion([]byte("zero"))))
		var conflict *controlplane.ItemConflictError
		if !errors.As(err, &conflict) || conflict.Kind != controlplane.ZoneItem {
			t.Fatalf("got %v", err)
		}
		if b, _, err := r.client.ReadItem(ctx, controlplane.DerivedItem, "a.test."); err != nil || string(b) != "signed one" {
			t.Errorf("derived is %q, %v", b, err)
		}
		if err := write(put(controlplane.ZoneItem, "a.test.", "two", "")); !errors.As(err, &conflict) {
			t.Errorf("a zone that is there was made: %v", err)
		}
	})
	t.Run("problems are told to all, whatever was there", func(t *testing.T) {
		for _, text := range []string{"no keys", "no keys still", ""} {
			it := put(controlplane.ProblemItem, "a.test.", text, controlplane.AnyVersion)
			if text == "" {
				it.Data = nil
			}
			if err := write(it); err != nil {
				t.Fatal(err)
			}
			r.await("the problem", holds(func(st controlplane.Stored) *fleet.Zones { return st.Problems }, "a.test.", text))
		}
	})
	t.Run("of several at once one wins", func(t *testing.T) {
		base := rules.ContentVersion([]byte("one"))
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = write(put(controlplane.ZoneItem, "a.test.", fmt.Sprint("by ", i), base)) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			var conflict *controlplane.ItemConflictError
			if err == nil {
				won++
			} else if !errors.As(err, &conflict) {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d won", won)
		}
	})
	t.Run("a large one is in parts, of which none is left over", func(t *testing.T) {
		var last string
		for _, size := range []int{2_000_000, 700_000, 10} {
			big := strings.Repeat("0123456789", size/10)
			if err := write(put(controlplane.ZoneItem, "slash/big.test.", big, controlplane.AnyVersion)); err != nil {
				t.Fatal(err)
			}
			r.await("the big zone", holds(zonesIn, "slash/big.test.", big))
			if b, v, err := r.client.ReadItem(ctx, controlplane.ZoneItem, "slash/big.test."); err != nil || string(b) != big || v == last {
				t.Fatalf("%d octets, version %s, %v", len(b), v, err)
			}
			got, err := r.client.kv.Get(ctx, partPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
			if want := (size + chunkSize - 1) / chunkSize; err != nil || size > inlineMax && len(got.Kvs) != want || size <= inlineMax && len(got.Kvs) != 0 {
				t.Errorf("%d octets are in %d parts (%v)", size, len(got.Kvs), err)
			}
		}
	})
	t.Run("nothing is stored in plain, and keys are not watched", func(t *testing.T) {
		if err := write(put(controlplane.KeysItem, "a.test.", "PRIVATE", "")); err != nil {
			t.Fatal(err)
		}
		all, err := r.client.kv.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range all.Kvs {
			if bytes.Contains(kv.Value, []byte("PRIVATE")) || bytes.Contains(kv.Value, []byte("0123456789")) {
				t.Errorf("%s is in plain", kv.Key)
			}
		}
		if b, v, err := r.client.ReadItem(ctx, controlplane.KeysItem, "a.test."); err != nil || string(b) != "PRIVATE" || v == "" {
			t.Errorf("%q %q %v", b, v, err)
		}
	})
	t.Run("one that is removed is gone", func(t *testing.T) {
		if err := write(controlplane.ItemWrite{Kind: controlplane.DerivedItem, Name: "a.test.", Expect: controlplane.AnyVersion}); err != nil {
			t.Fatal(err)
		}
		r.await("the removal", holds(derivedIn, "a.test.", ""))
	})
	t.Run("a revision brings its items with it, however many", func(t *testing.T) {
		for i, n := range []int{3, 50} {
			var items []controlplane.ItemWrite
			for j := range n {
				items = append(items, put(controlplane.DerivedItem, fmt.Sprintf("z%d-%d.test.", i, j), "derived", ""))
			}
			rev, err := r.client.Commit(ctx, uint64(i+1), controlplane.Change{Doc: fmt.Append(nil, "with items ", i), Items: items})
			if err != nil {
				t.Fatal(err)
			}
			st := r.await("the revision", revision(rev))
			for _, it := range items {
				if _, ok := st.Derived.Get(it.Name); !ok {
					t.Fatalf("revision %d came before %s", rev, it.Name)
				}
			}
		}
		_, err := r.client.Commit(ctx, 3, controlplane.Change{Doc: []byte("late"), Items: []controlplane.ItemWrite{put(controlplane.DerivedItem, "z0-0.test.", "x", "")}})
		var conflict *controlplane.ItemConflictError
		if !errors.As(err, &conflict) {
			t.Errorf("an item in the way: %v", err)
		}
		if st := r.await("a state", func(st controlplane.Stored) bool { return true }); st.Revision != 3 {
			t.Errorf("revision %d was made all the same", st.Revision)
		}
	})
	t.Run("an earlier revision's content can be read", func(t *testing.T) {
		if doc, _, err := r.client.Content(ctx, 1); err != nil || string(doc) != "one" {
			t.Errorf("%q, %v", doc, err)
		}
	})
}

func TestAfterABreakOnlyChangedItemsAreReadAgain(t *testing.T) {
	r := newReplica(t, newIdentity(t), "fra-1", "127.0.0.1", nil)
	r.start()
	r.commit(0, "one")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	n := 2 * pageKeys
	if s := os.Getenv("MERIDIAN_ITEMS"); s != "" { // to measure with more
		n, _ = strconv.Atoi(s)
	}
	began := time.Now()
	for at := 0; at < n; at += 60 {
		var ops []clientv3.Op
		for i := at; i < min(at+60, n); i++ {
			key := itemKey(controlplane.ZoneItem, fleet.Name(fmt.Sprintf("z%d.test.", i)))
			v, _, err := r.client.sealItem(key, bytes.Repeat([]byte("x"), 300))
			if err != nil {
				t.Fatal(err)
			}
			ops = append(ops, clientv3.OpPut(key, string(v)))
		}
		if _, err := r.client.kv.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	r.await("all", func(st controlplane.Stored) bool { return st.Zones.Len() == n })
	t.Logf("%d items written and watched in %s", n, time.Since(began).Round(time.Millisecond))

	other := &replica{t: t, id: r.id, name: "second", cfg: r.cfg, news: make(chan struct{}, 1)}
	began = time.Now()
	other.connect()
	other.await("all", func(st controlplane.Stored) bool { return st.Zones.Len() == n })
	t.Logf("%d items read by another replica in %s", n, time.Since(began).Round(time.Millisecond))

	read := r.client.itemsRead.Load()
	r.kill() // the watch breaks
	change := func() error {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return r.client.WriteItems(ctx, []controlplane.ItemWrite{put(controlplane.ZoneItem, "z1.test.", "changed", controlplane.AnyVersion),
			{Kind: controlplane.ZoneItem, Name: "z2.test.", Expect: controlplane.AnyVersion}})
	}
	for err := change(); err != nil; err = change() {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	r.await("the change", holds(zonesIn, "z1.test.", "changed"))
	r.await("the removal", func(st controlplane.Stored) bool { return st.Zones.Len() == n-1 })
	if again := r.client.itemsRead.Load() - read; again > 10 {
		t.Errorf("%d items were read again", again)
	}
}

func TestOneReplicaLeadsAtATime(t *testing.T) {
	r := newReplica(t, newIdentity(t), "fra-1", "127.0.0.1", nil)
	r.start()
	r.commit(0, "one")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	var mu sync.Mutex
	leading, most := 0, 0
	turns := make(chan int)
	for i := range 3 {
		mine, stop := context.WithCancel(ctx)
		wg.Go(func() {
			defer stop()
			_ = r.client.Lead(mine, fmt.Sprint("replica ", i), func(ctx context.Context) {
				mu.Lock()
				leading++
				most = max(most, leading)
				mu.Unlock()
				select {
				case turns <- i:
				case <-ctx.Done():
				}
				mu.Lock()
				leading--
				mu.Unlock()
				stop() // goes away: another one follows
				<-ctx.Done()
			})
		})
	}
	seen := map[int]bool{}
	for range 3 {
		select {
		case i := <-turns:
			seen[i] = true
		case <-time.After(40 * time.Second):
			t.Fatalf("only %v have led", seen)
		}
	}
	if len(seen) != 3 || most != 1 {
		t.Errorf("%v led, %d at a time", seen, most)
	}
}
