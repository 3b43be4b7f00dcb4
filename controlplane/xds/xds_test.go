package xds

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/identity"
	"meridian/internal/testkit"
	"meridian/rules"
)

const spec = `
fleet: test
regions:
  - id: fra
    location: {latitude: 50, longitude: 8}
    vips: {v4: [192.0.2.1]}
nodes:
  - {name: dns-1, region: fra, roles: [dns], addresses: {v4: 10.0.0.1}}
  - {name: edge-1, region: fra, roles: [l4, bgp], addresses: {v4: 10.0.0.2}}
zones:
  - {zone: a.test, file: a.zone}
  - {zone: b.test, file: b.zone}
`

func zoneText(serial uint64) string {
	return fmt.Sprintf("@ 300 IN SOA ns.invalid. host.invalid. %d 3600 600 86400 300\n@ 300 IN NS ns.invalid.\n", serial)
}

// testWorld is a World whose zones have the revision as their serial.
func testWorld(t testing.TB, revision uint64, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	s, err := rules.Compile([]byte(spec), revision)
	if err != nil {
		t.Fatal(err)
	}
	var objects []fleet.Object
	for _, id := range []string{"a.test.", "b.test."} {
		objects = append(objects, fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: id}, Data: []byte(zoneText(revision)), File: id + "zone"})
	}
	w, err := rules.World(s, objects, shifts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	k, _ := identity.NewKey(rand.Reader)
	id, err := identity.New(k)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// book is a Ledger that lets tests wait for its entries.
type book struct {
	mu      sync.Mutex
	entries []string
	news    chan struct{}
}

func newBook() *book { return &book{news: make(chan struct{}, 1)} }

func (b *book) note(format string, args ...any) {
	b.mu.Lock()
	b.entries = append(b.entries, fmt.Sprintf(format, args...))
	b.mu.Unlock()
	select {
	case b.news <- struct{}{}:
	default:
	}
}

func (b *book) Connected(node string, applied uint64) { b.note("%s connected with %d", node, applied) }
func (b *book) Disconnected(node string)              { b.note("%s disconnected", node) }
func (b *book) Sent(node string, revision uint64)     { b.note("%s sent %d", node, revision) }
func (b *book) HasLive(node string, live *fleet.Zones) {
	b.note("%s has live %s", node, liveNames(live))
}
func (b *book) Answered(node string, revision uint64, nack error) {
	if nack != nil {
		b.note("%s refused %d: %v", node, revision, nack)
		return
	}
	b.note("%s acknowledged %d", node, revision)
}

// await blocks until the entry is there, and forgets all up to it.
func (b *book) await(t *testing.T, entry string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		for i, e := range b.entries {
			if e == entry {
				b.entries = b.entries[i+1:]
				b.mu.Unlock()
				return
			}
		}
		have := strings.Join(b.entries, "; ")
		b.mu.Unlock()
		select {
		case <-b.news:
		case <-limit:
			t.Fatalf("never: %q; have: %s", entry, have)
		}
	}
}

func (b *book) has(entry string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e == entry {
			return true
		}
	}
	return false
}

func logTo(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

type testServer struct {
	*Server
	book *book
	addr string
	stop func()
}

// serve runs a server; with an address, on that one.
func serve(t testing.TB, id *identity.Identity, addr string, updates ...UpdateServer) *testServer {
	t.Helper()
	s, err := NewServer(ServerConfig{Credentials: id.Credentials("control", time.Now, rand.Reader), Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range updates {
		s.SetUpdates(u)
	}
	if addr == "" {
		addr = fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t, "127.0.0.1")) // another server may come there
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ts := &testServer{Server: s, book: newBook(), addr: l.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx, l, ts.book); err != nil {
			t.Errorf("server: %v", err)
		}
	}()
	ts.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(ts.stop)
	return ts
}

type testClient struct {
	mu     sync.Mutex
	worlds []*fleet.World
	refuse uint64
	check  func(*fleet.World) error // nil: all is taken
	stop   func()
}

func (c *testClient) apply(w *fleet.World) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.Snapshot.Revision == c.refuse {
		return errors.New("dns: port is taken")
	}
	if c.check != nil {
		if err := c.check(w); err != nil {
			return err
		}
	}
	c.worlds = append(c.worlds, w)
	return nil
}

func (c *testClient) last() (*fleet.World, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.worlds) == 0 {
		return nil, 0
	}
	return c.worlds[len(c.worlds)-1], len(c.worlds)
}

func listen(t *testing.T, id *identity.Identity, node string, addrs ...string) *testClient {
	t.Helper()
	c, err := NewClient(ClientConfig{Node: node, Addresses: addrs, TLS: id.Credentials(node, time.Now, rand.Reader).Client(), Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	return runClient(t, c)
}

func TestEachNodeGetsWhatItsRolesNeedAndAcknowledgesIt(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	dns, edge := listen(t, id, "dns-1", s.addr), listen(t, id, "edge-1", s.addr)
	s.book.await(t, "dns-1 connected with 0") // nothing is published yet
	s.Publish(testWorld(t, 1))
	s.book.await(t, "dns-1 acknowledged 1")
	w, _ := dns.last()
	if w.Snapshot.Revision != 1 || len(w.Objects) != 2 || w.Objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "a.test."}].File != "a.test.zone" {
		t.Errorf("dns-1 has %+v", w)
	}
	s.Publish(testWorld(t, 2))
	s.book.await(t, "edge-1 acknowledged 2")
	if w, _ := edge.last(); len(w.Objects) != 0 {
		t.Errorf("edge-1 has objects it does not need: %v", w.Objects)
	}
}

func TestARefusedRevisionIsANackAndTheNextOneHeals(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	s.Publish(testWorld(t, 1))
	c := listen(t, id, "dns-1", s.addr)
	c.refuse = 2
	s.book.await(t, "dns-1 acknowledged 1")
	s.Publish(testWorld(t, 2))
	s.book.await(t, "dns-1 refused 2: revision 2: dns: port is taken")
	s.Publish(testWorld(t, 3))
	s.book.await(t, "dns-1 acknowledged 3")
	if _, n := c.last(); n != 2 {
		t.Errorf("applied %d worlds", n)
	}
}

func TestAnOlderRevisionIsRefused(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	s.Publish(testWorld(t, 5))
	listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 5")
	s.Publish(testWorld(t, 4))
	s.book.await(t, "dns-1 refused 4: revision 4 is older than 5, which is in use")
}

func TestShiftsGoAlone(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	s.Publish(testWorld(t, 1))
	c := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	s.Publish(testWorld(t, 1, fleet.Shift{ID: "x", From: "fra", Share: .25}))
	deadline := time.After(20 * time.Second)
	for {
		if w, _ := c.last(); len(w.Shifts) == 1 && w.Shifts[0].Share == .25 && len(w.Objects) == 2 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the shift never came")
		case <-time.After(time.Millisecond):
		}
	}
	if s.book.has("dns-1 sent 1") {
		t.Error("the Snapshot was sent again")
	}
}

func TestANodeChangesTheReplicaAndIsSentOnlyWhatItLacks(t *testing.T) {
	id := newIdentity(t)
	one, two := serve(t, id, ""), serve(t, id, "")
	one.Publish(testWorld(t, 1))
	two.Publish(testWorld(t, 1))
	c := listen(t, id, "dns-1", one.addr, two.addr)
	one.book.await(t, "dns-1 acknowledged 1")
	one.stop()
	two.book.await(t, "dns-1 connected with 1")
	two.Publish(testWorld(t, 2))
	two.book.await(t, "dns-1 sent 2")
	if two.book.has("dns-1 sent 1") {
		t.Error("what the node had was sent again")
	}
	two.book.await(t, "dns-1 acknowledged 2")
	if _, n := c.last(); n != 2 {
		t.Errorf("applied %d worlds", n)
	}

	// The second dies, the first comes back where it was.
	again := serve(t, id, one.addr)
	again.Publish(testWorld(t, 3))
	two.stop()
	again.book.await(t, "dns-1 acknowledged 3")
}

func TestStrangersAreNotServed(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	s := serve(t, id, "")
	s.Publish(testWorld(t, 1))
	stranger := listen(t, other, "dns-1", s.addr)

	// A member of the fleet that says it is another node.
	liar, err := NewClient(ClientConfig{Node: "dns-1", Addresses: []string{s.addr}, TLS: id.Credentials("edge-1", time.Now, rand.Reader).Client(), Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	h := newHolding("dns-1", func(*fleet.World) error { t.Error("the liar was served"); return nil })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if heard, err := liar.session(ctx, s.addr, h); heard || err == nil || !strings.Contains(err.Error(), `node "dns-1" has the certificate of "edge-1"`) {
		t.Errorf("heard %v, %v", heard, err)
	}

	unnamed := listen(t, id, "unnamed", s.addr)
	s.book.await(t, "unnamed acknowledged 1")
	if w, _ := unnamed.last(); len(w.Objects) != 0 {
		t.Errorf("a node outside of the Spec got %d objects", len(w.Objects))
	}
	honest := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	if _, n := honest.last(); n != 1 {
		t.Error("the honest node was not served")
	}
	if _, n := stranger.last(); n != 0 {
		t.Error("the stranger was served")
	}
}

// A node never sees a Snapshot with the objects of another revision, however
// fast they come.
func TestAWorldIsNeverMixed(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	s.Publish(testWorld(t, 1))
	c := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	const last = 200
	for rev := uint64(2); rev <= last; rev++ {
		s.Publish(testWorld(t, rev))
	}
	s.book.await(t, fmt.Sprintf("dns-1 acknowledged %d", last))
	for _, w := range c.worlds {
		for k, o := range w.Objects {
			if string(o.Data) != zoneText(w.Snapshot.Revision) {
				t.Fatalf("revision %d has %s of another", w.Snapshot.Revision, k.ID)
			}
		}
	}
	t.Logf("%d publications, %d applied", last, len(c.worlds))
}

func BenchmarkPublishToAck(b *testing.B) {
	id := newIdentity(b)
	s, err := NewServer(ServerConfig{Credentials: id.Credentials("control", time.Now, rand.Reader), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	acked := make(chan uint64, 16)
	wg.Go(func() { _ = s.Run(ctx, l, ackChan(acked)) })
	c, err := NewClient(ClientConfig{Node: "dns-1", Addresses: []string{l.Addr().String()}, TLS: id.Credentials("dns-1", time.Now, rand.Reader).Client(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	wg.Go(func() { _ = c.Run(ctx, func(*fleet.World) error { return nil }) })
	rev := uint64(1)
	for b.Loop() {
		s.Publish(testWorld(b, rev))
		for got := uint64(0); got != rev; {
			got = <-acked
		}
		rev++
	}
}

type ackChan chan uint64

func (ackChan) Connected(string, uint64)                 {}
func (ackChan) Disconnected(string)                      {}
func (ackChan) Sent(string, uint64)                      {}
func (ackChan) HasLive(string, *fleet.Zones)             {}
func (a ackChan) Answered(_ string, rev uint64, _ error) { a <- rev }
