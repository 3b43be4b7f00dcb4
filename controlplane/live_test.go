package controlplane

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

// Whoever puts a live object knows when every connected node has it.
func TestALiveObjectIsAwaitedOfEveryConnectedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := run(t, newMemory(), &onDisk{})
		defer stop()
		r.submit(t, []byte(spec))
		awaitALiveObject(t, r)
	})
}

func awaitALiveObject(t *testing.T, r *rig) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ledger := r.Ledger()
	ledger.Connected("fra-1", 1)
	v, err := r.PutLive(ctx, map[fleet.Name][]byte{"mark/a": []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	short, done := context.WithTimeout(ctx, 100*time.Millisecond)
	defer done()
	if err := r.AwaitNodes(short, fleet.RoleDNS, "mark/a", v["mark/a"]); err == nil {
		t.Fatal("a node that has not acknowledged it is not awaited")
	}
	if err := r.AwaitNodes(ctx, fleet.RoleL7, "mark/a", v["mark/a"]); err != nil {
		t.Errorf("nodes with another role are awaited: %v", err)
	}
	ledger.HasLive("fra-1", r.Current().Live)
	if err := r.AwaitNodes(ctx, fleet.RoleDNS, "mark/a", v["mark/a"]); err != nil {
		t.Error(err)
	}
	ledger.Disconnected("fra-1")
	if v, err = r.PutLive(ctx, map[fleet.Name][]byte{"mark/a": nil}); err != nil || v["mark/a"] != "" {
		t.Fatalf("removed: %v, %v", v, err)
	}
	if err := r.AwaitNodes(ctx, fleet.RoleDNS, "mark/a", ""); err != nil {
		t.Errorf("a node that is gone is awaited: %v", err)
	}
}
