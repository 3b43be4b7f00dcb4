package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"meridian/controlplane"
)

func TestOneHolderAtATimeHasALock(t *testing.T) {
	r := newReplica(t, newIdentity(t), "fra-1", "127.0.0.1", nil)
	r.start()
	r.commit(0, "one")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	unlock, lost, err := r.client.Lock(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	short, done := context.WithTimeout(ctx, 300*time.Millisecond)
	defer done()
	if _, _, err := r.client.Lock(short, "a"); !errors.Is(err, controlplane.ErrStoreAway) && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second holder: %v", err)
	}
	other, _, err := r.client.Lock(ctx, "b")
	if err != nil {
		t.Fatalf("another lock: %v", err)
	}
	other()
	select {
	case <-lost:
		t.Error("the lock was lost while the store is there")
	default:
	}
	unlock()
	next, _, err := r.client.Lock(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	next()
}

func TestItemsOfAKindAreListedByPrefix(t *testing.T) {
	r := newReplica(t, newIdentity(t), "fra-1", "127.0.0.1", nil)
	r.start()
	r.commit(0, "one")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := r.client.WriteItems(ctx, []controlplane.ItemWrite{put(controlplane.ACMEItem, "certificates/b/x", "2", ""),
		put(controlplane.ACMEItem, "certificates/a/x", "1", ""), put(controlplane.ACMEItem, "accounts/a", "3", ""),
		put(controlplane.LiveItem, "certificates/a", "4", "")}); err != nil {
		t.Fatal(err)
	}
	got, err := r.client.ItemNames(ctx, controlplane.ACMEItem, "certificates/")
	if err != nil || fmt.Sprint(got) != "[certificates/a/x certificates/b/x]" {
		t.Fatalf("got %v, %v", got, err)
	}
	st := r.await("the live object", func(st controlplane.Stored) bool { return st.Live.Len() == 1 })
	if o, ok := st.Live.Get("certificates/a"); !ok || string(o.Data) != "4" || st.Zones.Len() != 0 {
		t.Errorf("live %q, %v", o.Data, ok)
	}
}
