package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/controlplane"
	"meridian/controlplane/store"
	"meridian/controlplane/xds"
	"meridian/fleet"
	"meridian/identity"
	"meridian/internal/testkit"
	"meridian/node"
)

// TestMain lets the test binary be its own store child, as gslb is.
func TestMain(m *testing.M) { testkit.Main(m, store.RunChild) }

// machine is one control node: store child, replica, xDS server and admin API.
type machine struct {
	t         testing.TB
	name      string
	dir       string
	id        *identity.Identity
	peers     []store.Member
	etcd, xds string // addresses
	listen    string // for the store's members; empty: the own address in peers
	tick      uint   // of the store, in ms; 0: 50
	api       *Client

	stopStore func() // the child alone
	stop      func()
}

// background runs f until stop, which waits for it.
func background(t testing.TB, what string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func (m *machine) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("at", m.name)
}

func (m *machine) startStore() {
	m.t.Helper()
	sup, err := store.NewSupervisor(store.SupervisorConfig{
		Command:     []string{os.Args[0], testkit.StoreChild},
		Child:       store.ChildConfig{Name: m.name, Dir: filepath.Join(m.dir, "store"), Fleet: m.id.FleetID(), ListenClient: m.etcd, ListenPeer: m.listen, Peers: m.peers, TickMs: cmp.Or(m.tick, 50)},
		Credentials: m.id.Credentials(m.name, time.Now, rand.Reader), Authority: m.id.AuthorityPEM(), Logger: m.log(),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.stopStore = background(m.t, "store", sup.Run)
}

// start runs all but the store's child.
func (m *machine) start() {
	m.t.Helper()
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	creds := m.id.Credentials(m.name, time.Now, rand.Reader)
	client, err := store.New(store.Config{Endpoints: []string{m.etcd}, TLS: creds.Client(), Identity: m.id, Logger: m.log()})
	must(err)
	server, err := xds.NewServer(xds.ServerConfig{Credentials: creds, Logger: m.log()})
	must(err)
	cp, err := controlplane.New(controlplane.Config{Node: m.name, Store: client, Publisher: server,
		Disk: node.NewDisk(filepath.Join(m.dir, "control.world"), m.id), Logger: m.log()})
	must(err)
	token, err := LoadOrCreateToken(m.dir)
	must(err)
	admin, err := New(Config{Token: token, Control: cp, Events: NewFeed(), Logger: m.log()})
	must(err)
	lx, err := net.Listen("tcp", m.xds)
	must(err)
	la, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	m.api = &Client{URL: "http://" + la.Addr().String(), Token: token, HTTP: &http.Client{Timeout: 20 * time.Second}}
	stops := []func(){
		background(m.t, "admin API", func(ctx context.Context) error { return admin.Run(ctx, la) }),
		background(m.t, "xDS", func(ctx context.Context) error { return server.Run(ctx, lx, cp.Ledger()) }),
		background(m.t, "control plane", func(ctx context.Context) error { return cp.Run(ctx) }),
	}
	m.stop = sync.OnceFunc(func() {
		for _, s := range stops {
			s()
		}
		client.Close()
	})
	m.t.Cleanup(m.stop)
}

// member is a node that takes its World from the control plane.
type member struct {
	agent *node.Agent
	stop  func()

	mu     sync.Mutex
	refuse string // a Spec with a region of this name
}

func (n *member) apply(w *fleet.World) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range w.Snapshot.Spec.Regions {
		if n.refuse != "" && r.Name == n.refuse {
			return errors.New("cannot be installed")
		}
	}
	return nil
}

func join(t testing.TB, id *identity.Identity, name, dir string, control ...string) *member {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})).With("at", name)
	src, err := xds.NewClient(xds.ClientConfig{Node: name, Addresses: control, TLS: id.Credentials(name, time.Now, rand.Reader).Client(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	n := &member{}
	n.agent, err = node.New(node.Config{Name: name, Source: src, SourceName: "store", Logger: log,
		Disk:     node.NewDisk(filepath.Join(dir, name+".world"), id),
		Appliers: []node.Named{{Name: "room", Applier: node.ApplierFunc(n.apply)}}})
	if err != nil {
		t.Fatal(err)
	}
	n.stop = background(t, name, n.agent.Run)
	return n
}

// until polls for what is made by other processes.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(40 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

// edited gives the Spec with another display name for nrt.
func edited(name string) []byte {
	return []byte(strings.Replace(spec, "- id: nrt", "- id: nrt\n    name: "+name, 1))
}

// A fleet of two control nodes' regions and a third voter, from POST /config to
// ACKs, through the loss of the store and of a control node.
func TestConfigurationReachesEveryNodeAndOutlivesTheStore(t *testing.T) {
	key, _ := identity.NewKey(rand.Reader)
	id, err := identity.New(key)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"fra-1", "nrt-1", "iad-1"}
	var peers []store.Member
	var ms []*machine
	for i, name := range names {
		peers = append(peers, store.Member{Name: name, Address: freeAddress(t, fmt.Sprintf("127.0.0.%d", 21+i))})
	}
	for _, name := range names {
		// It ticks as in production: a disk that is slow for a while makes no other leader.
		m := &machine{t: t, name: name, dir: t.TempDir(), id: id, peers: peers, tick: 300, etcd: freeAddress(t, "127.0.0.1"), xds: freeAddress(t, "127.0.0.1")}
		ms = append(ms, m)
		m.startStore()
		m.start()
	}
	dir := t.TempDir()
	nodes := map[string]*member{
		"fra-1": join(t, id, "fra-1", dir, ms[0].xds, ms[1].xds),
		"nrt-1": join(t, id, "nrt-1", dir, ms[1].xds, ms[0].xds),
		"nrt-2": join(t, id, "nrt-2", dir, ms[1].xds, ms[0].xds),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	objects := []fleet.Object{zoneObject()}

	var rev uint64
	until(t, "the first revision", func() bool {
		res, err := ms[0].api.Submit(ctx, []byte(spec), objects, nil, false)
		if err == nil {
			rev = res.Revision
		} else if Refused(err) == nil {
			t.Fatal(err)
		}
		return err == nil
	})
	acked := func(m *machine, rev uint64) (last time.Time, ok bool) {
		st, err := m.api.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range st.Nodes {
			if n.Applied < rev {
				return last, false
			}
			if n.At.After(last) {
				last = n.At
			}
		}
		return last, len(st.Nodes) == len(nodes)
	}
	until(t, "every node's ACK, as seen at another replica", func() bool { _, ok := acked(ms[2], rev); return ok })

	var took []time.Duration
	for i := range 10 {
		at := ms[i%3].api
		res, err := at.Submit(ctx, edited(fmt.Sprintf("Tokyo%d", i)), objects, &rev, false)
		if err != nil {
			t.Fatal(err)
		}
		rev = res.Revision
		var last time.Time
		until(t, "every node's ACK", func() (ok bool) { last, ok = acked(ms[0], rev); return ok })
		took = append(took, last.Sub(res.Accepted))
		until(t, "the revision at every replica", func() bool {
			for _, m := range ms {
				if st, err := m.api.Status(ctx); err != nil || st.Revision != rev {
					return false
				}
			}
			return true
		})
	}
	slices.Sort(took)
	t.Logf("accepted to acknowledged by all of %d nodes, without delay on the links: p50 %s, max %s", len(nodes), took[len(took)/2], took[len(took)-1])

	// A stale base is refused, with the current revision.
	stale := rev - 1
	if _, err := ms[1].api.Submit(ctx, edited("Late"), objects, &stale, false); Refused(err) == nil || Refused(err).Current != rev {
		t.Errorf("stale base: %v", err)
	}

	// A node that refuses is visible at every replica, and rolling back heals it.
	bad := nodes["nrt-2"]
	bad.mu.Lock()
	bad.refuse = "Poison"
	bad.mu.Unlock()
	if _, err := ms[0].api.Submit(ctx, edited("Poison"), objects, nil, false); err != nil {
		t.Fatal(err)
	}
	until(t, "the NACK, as seen at another replica", func() bool {
		st, _ := ms[2].api.Status(ctx)
		i := slices.IndexFunc(st.Nodes, func(a controlplane.Ack) bool { return a.Node == "nrt-2" })
		return i >= 0 && st.Nodes[i].State == controlplane.Nacked && strings.Contains(st.Nodes[i].Error, "room: cannot be installed")
	})
	res, err := ms[2].api.Rollback(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	rev = res.Revision
	until(t, "the ACK of what was before", func() bool { _, ok := acked(ms[0], rev); return ok })

	// A shift reaches the nodes, and goes when it is taken back.
	if _, err := ms[1].api.Shift(ctx, ShiftRequest{ID: "drain-fra", From: "fra", Share: 1, Drain: true}, false); err != nil {
		t.Fatal(err)
	}
	shifts := func(want int) func() bool {
		return func() bool {
			for _, n := range nodes {
				if len(n.agent.World().Shifts) != want {
					return false
				}
			}
			return true
		}
	}
	until(t, "the shift at every node", shifts(1))
	if err := ms[0].api.Unshift(ctx, "drain-fra"); err != nil {
		t.Fatal(err)
	}
	until(t, "the shift's end at every node", shifts(0))

	// The whole store dies. A node and a control node start anew without it.
	var gone sync.WaitGroup
	for _, m := range ms {
		gone.Go(m.stopStore)
	}
	gone.Wait()
	if _, err := ms[0].api.Submit(ctx, edited("Dark"), objects, nil, false); err == nil || !strings.Contains(err.Error(), "the store is away") {
		t.Errorf("without a store: %v", err)
	}
	ms[1].stop()
	ms[1].start()
	nodes["nrt-1"].stop()
	fresh := t.TempDir() // without a last good world
	nodes["nrt-1"] = join(t, id, "nrt-1", fresh, ms[1].xds)
	until(t, "a new node served by a control node that knows its disk only", func() bool { return nodes["nrt-1"].agent.Status().Revision == rev })
	if st, _ := ms[1].api.Status(ctx); st.Source != "disk" || st.Store.Connected {
		t.Errorf("status: %+v", st.Status)
	}

	// A node without any control node starts from its own disk.
	nodes["nrt-2"].stop()
	alone := join(t, id, "nrt-2", dir, freeAddress(t, "127.0.0.1"))
	until(t, "the last good world", func() bool { return alone.agent.Status().Revision == rev && alone.agent.Status().Source == "disk" })

	// The store comes back, and with it changes.
	for _, m := range ms {
		m.startStore()
	}
	until(t, "a change after the store's return", func() bool {
		res, err := ms[1].api.Submit(ctx, edited("Back"), objects, nil, false)
		if err == nil {
			rev = res.Revision
		}
		return err == nil
	})
	until(t, "it at the nodes", func() bool {
		return nodes["fra-1"].agent.Status().Revision == rev && nodes["nrt-1"].agent.Status().Revision == rev
	})
}

func freeAddress(t testing.TB, host string) string {
	t.Helper()
	return fmt.Sprintf("%s:%d", host, testkit.FreePort(t, host))
}
