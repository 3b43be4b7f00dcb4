package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"meridian/controlplane"
	"meridian/fleet"
	"meridian/identity"
	"meridian/internal/testkit"
)

// TestMain lets the test binary be its own store child, as gslb is.
func TestMain(m *testing.M) { testkit.Main(m, RunChild) }

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	k, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New(k)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// replica is one control node's store: the supervised child and the client.
type replica struct {
	t      testing.TB
	id     *identity.Identity
	name   string
	cfg    SupervisorConfig
	sup    *Supervisor
	client *Client

	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	latest controlplane.Stored
	news   chan struct{}
}

func newReplica(t testing.TB, id *identity.Identity, name, host string, peers []Member) *replica {
	t.Helper()
	creds := id.Credentials(name, time.Now, rand.Reader)
	r := &replica{t: t, id: id, name: name, news: make(chan struct{}, 1)}
	r.cfg = SupervisorConfig{
		Command:     []string{os.Args[0], testkit.StoreChild},
		Child:       ChildConfig{Name: name, Dir: filepath.Join(t.TempDir(), "store"), Fleet: id.FleetID(), ListenClient: freeAddress(t, host), Peers: peers, TickMs: 50},
		Credentials: creds, Authority: id.AuthorityPEM(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)).With("replica", name),
	}
	return r
}

// start runs the child, and at the first call the client and its watch.
func (r *replica) start() {
	r.t.Helper()
	sup, err := NewSupervisor(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.sup, r.cancel, r.done = sup, cancel, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		if err := sup.Run(ctx); err != nil {
			r.t.Errorf("supervisor: %v", err)
		}
	}(r.done)
	r.t.Cleanup(r.stop)
	if r.client == nil {
		r.connect()
	}
}

func (r *replica) connect() {
	c, err := New(Config{Endpoints: []string{r.cfg.Child.ListenClient}, TLS: r.cfg.Credentials.Client(), Identity: r.id, Logger: r.cfg.Logger})
	if err != nil {
		r.t.Fatal(err)
	}
	r.client = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Watch(ctx, func(st controlplane.Stored) {
			r.mu.Lock()
			r.latest = st
			r.mu.Unlock()
			select {
			case r.news <- struct{}{}:
			default:
			}
		})
	}()
	r.t.Cleanup(func() { cancel(); <-done; c.Close() })
}

// stop ends the child as a shutdown does.
func (r *replica) stop() { r.cancel(); <-r.done }

// kill ends the child's process as a crash does; the supervisor starts it again.
func (r *replica) kill() {
	if pid := r.sup.PID(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// await blocks until the replica's watch has brought what is wanted.
func (r *replica) await(what string, ok func(controlplane.Stored) bool) controlplane.Stored {
	r.t.Helper()
	limit := time.After(40 * time.Second)
	for {
		r.mu.Lock()
		st := r.latest
		r.mu.Unlock()
		if ok(st) {
			return st
		}
		select {
		case <-r.news:
		case <-limit:
			r.t.Fatalf("%s: never saw %s; last revision %d, health %+v", r.name, what, st.Revision, r.client.Health())
		}
	}
}

// commit tries until the store has a quorum.
func (r *replica) commit(base uint64, doc string, objects ...fleet.Object) uint64 {
	r.t.Helper()
	limit := time.Now().Add(40 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		n, err := r.client.Commit(ctx, base, controlplane.Change{Doc: []byte(doc), Objects: objects, Created: time.Unix(1, 0)})
		cancel()
		if err == nil {
			return n
		}
		if !errors.Is(err, controlplane.ErrStoreAway) || time.Now().After(limit) {
			r.t.Fatalf("%s: commit: %v", r.name, err)
		}
	}
}

func object(kind fleet.ObjectKind, id string, data string) fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: kind, ID: id}, Data: []byte(data), File: id + ".file"}
}

func revision(n uint64) func(controlplane.Stored) bool {
	return func(st controlplane.Stored) bool { return st.Revision == n }
}

func TestOneReplicaKeepsRevisionsObjectsAndShifts(t *testing.T) {
	r := newReplica(t, newIdentity(t), "fra-1", "127.0.0.1", nil)
	r.start()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	zone := object(fleet.ObjectZone, "demo.test.", "@ SOA …")
	cert := object(fleet.ObjectCertificate, "web", "PRIVATE KEY")
	if n := r.commit(0, "one", zone, cert); n != 1 {
		t.Fatalf("first revision is %d", n)
	}
	st := r.await("revision 1", revision(1))
	if string(st.Doc) != "one" || len(st.Objects) != 2 || string(st.Objects[1].Data) != "PRIVATE KEY" || st.Objects[1].File != "web.file" {
		t.Fatalf("got %q and %v", st.Doc, st.Objects)
	}

	t.Run("what is stored is sealed", func(t *testing.T) {
		all, err := r.client.kv.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range all.Kvs {
			if strings.Contains(string(kv.Value), "PRIVATE") {
				t.Errorf("%s holds the key in plain", kv.Key)
			}
		}
	})
	t.Run("a change that builds on another revision is a conflict", func(t *testing.T) {
		_, err := r.client.Commit(ctx, 0, controlplane.Change{Doc: []byte("late")})
		var conflict *controlplane.ConflictError
		if !errors.As(err, &conflict) || conflict.Current != 1 {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("an object larger than a transaction", func(t *testing.T) {
		big := object(fleet.ObjectZone, "big.test.", strings.Repeat("0123456789abcdef", 400_000)) // 6.4 MB
		if n := r.commit(1, "two", zone, big); n != 2 {
			t.Fatalf("revision %d", n)
		}
		st := r.await("revision 2", revision(2))
		if len(st.Objects) != 2 || string(st.Objects[1].Data) != string(big.Data) {
			t.Fatal("the big object came back changed")
		}
	})
	t.Run("an earlier revision is restored under a new number", func(t *testing.T) {
		n, err := r.client.Commit(ctx, 2, controlplane.Change{Restore: 1, Created: time.Unix(2, 0)})
		if err != nil || n != 3 {
			t.Fatalf("%d, %v", n, err)
		}
		st := r.await("revision 3", revision(3))
		if string(st.Doc) != "one" || len(st.History) != 3 || st.History[2].Restored != 1 || st.History[2].Content != st.History[0].Content {
			t.Fatalf("got %q, history %+v", st.Doc, st.History)
		}
	})
	t.Run("numbers stay above the greatest in use", func(t *testing.T) {
		n, err := r.client.Commit(ctx, 3, controlplane.Change{Doc: []byte("four"), Floor: 40})
		if err != nil || n != 41 {
			t.Fatalf("%d, %v", n, err)
		}
	})
	t.Run("old revisions and what only they hold are swept", func(t *testing.T) {
		n := uint64(41)
		for i := range keep {
			n = r.commit(n, fmt.Sprintf("rev %d", i), zone)
		}
		st := r.await("the last revision", revision(n))
		if len(st.History) != keep {
			t.Errorf("%d revisions are kept", len(st.History))
		}
		s, err := r.client.look(ctx, true)
		if err != nil {
			t.Fatal(err)
		}
		// keep manifests, keep documents and the one zone
		if len(s.blobs) != 2*keep+1 {
			t.Errorf("%d blobs are kept", len(s.blobs))
		}
	})
	t.Run("a shift goes away by itself", func(t *testing.T) {
		sh := &fleet.Shift{ID: "s1", From: "fra", Share: 0.5, Expires: time.Now().Add(1500 * time.Millisecond)}
		if err := r.client.SetShift(ctx, sh.ID, sh); err != nil {
			t.Fatal(err)
		}
		r.await("the shift", func(st controlplane.Stored) bool { return len(st.Shifts) == 1 && st.Shifts[0].ID == "s1" })
		r.await("the shift's end", func(st controlplane.Stored) bool { return len(st.Shifts) == 0 })
	})
	t.Run("the child is started again after a crash, with all it had", func(t *testing.T) {
		before := r.await("a revision", func(st controlplane.Stored) bool { return st.Revision > 0 }).Revision
		r.kill()
		r.commit(before, "after the crash")
		r.await("the next revision", revision(before+1))
	})
}

func TestADirectoryOfAnotherFleetIsRefused(t *testing.T) {
	dir := t.TempDir()
	a, b := newIdentity(t), newIdentity(t)
	if err := guardDir(ChildConfig{Name: "fra-1", Dir: dir, Fleet: a.FleetID()}); err != nil {
		t.Fatal(err)
	}
	if err := guardDir(ChildConfig{Name: "fra-1", Dir: dir, Fleet: a.FleetID()}); err != nil {
		t.Errorf("the same member: %v", err)
	}
	for _, c := range []ChildConfig{{Name: "fra-1", Dir: dir, Fleet: b.FleetID()}, {Name: "fra-2", Dir: dir, Fleet: a.FleetID()}} {
		if err := guardDir(c); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestStorePeersAreNamesAndAddresses(t *testing.T) {
	got, err := ParseMembers("a=10.0.0.1:2380, b=https://10.0.1.1:2380,c=[2001:db8::1]:2380")
	if err != nil || len(got) != 3 || got[2] != (Member{"c", "[2001:db8::1]:2380"}) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "a", "a=1", "a=1:2,a=1:3,b=1:4", "a=1:2,b=1:3"} {
		if _, err := ParseMembers(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestThreeReplicasSurviveTheLossOfOneAndOfAll(t *testing.T) {
	id := newIdentity(t)
	var peers []Member
	hosts := []string{"127.0.0.11", "127.0.0.12", "127.0.0.13"}
	for i, h := range hosts {
		peers = append(peers, Member{fmt.Sprintf("n%d", i), freeAddress(t, h)})
	}
	var rs []*replica
	for i, h := range hosts {
		r := newReplica(t, id, peers[i].Name, h, peers)
		rs = append(rs, r)
		r.start()
	}
	began := time.Now()
	n := rs[0].commit(0, "first")
	t.Logf("first commit after %s", time.Since(began).Round(time.Millisecond))
	for _, r := range rs {
		r.await("the first revision", revision(n))
	}

	rs[2].stop()
	n = rs[0].commit(n, "with two")
	rs[1].await("the revision of two", revision(n))
	rs[2].mu.Lock()
	behind := rs[2].latest.Revision != n
	rs[2].mu.Unlock()
	if !behind {
		t.Error("a replica saw what its stopped child cannot know")
	}

	rs[2].start()
	rs[2].await("what it missed", revision(n))

	began = time.Now()
	var stopped sync.WaitGroup
	for _, r := range rs {
		stopped.Go(r.stop)
	}
	stopped.Wait()
	t.Logf("all stopped after %s", time.Since(began).Round(time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	_, err := rs[0].client.Commit(ctx, n, controlplane.Change{Doc: []byte("x")})
	cancel()
	if !errors.Is(err, controlplane.ErrStoreAway) {
		t.Errorf("with no store at all: %v", err)
	}
	for _, r := range rs {
		r.start()
	}
	n = rs[1].commit(n, "after all")
	for _, r := range rs {
		r.await("the revision after all were gone", revision(n))
	}
	t.Logf("all stopped and serving again in %s", time.Since(began).Round(time.Millisecond))
}

func TestAStrangerCannotReachTheStore(t *testing.T) {
	r := newReplica(t, newIdentity(t), "fra-1", "127.0.0.1", nil)
	r.start()
	r.commit(0, "one")
	stranger := newIdentity(t)
	c, err := New(Config{Endpoints: []string{r.cfg.Child.ListenClient}, TLS: stranger.Credentials("fra-1", time.Now, rand.Reader).Client(), Identity: stranger, Logger: r.cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := c.look(ctx, false); !errors.Is(err, controlplane.ErrStoreAway) {
		t.Fatalf("got %v", err)
	}
}

func freeAddress(t testing.TB, host string) string {
	t.Helper()
	return fmt.Sprintf("%s:%d", host, testkit.FreePort(t, host))
}
