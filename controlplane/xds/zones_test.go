package xds

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/identity"
	"meridian/rules"
)

// withZones gives the World with other zones, its Snapshot being the same.
func withZones(w *fleet.World, zones *fleet.Zones) *fleet.World {
	next := *w
	next.Zones = zones
	return &next
}

func zonesOf(texts ...string) *fleet.Zones {
	var put []fleet.Object
	for i := 0; i < len(texts); i += 2 {
		put = append(put, rules.ZoneObject(fleet.Name(texts[i]), []byte(texts[i+1])))
	}
	var none *fleet.Zones
	return none.With(put, nil)
}

// until waits for a World that the client has applied.
func (c *testClient) until(t *testing.T, what string, ok func(*fleet.World) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if w, _ := c.last(); w != nil && ok(w) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func hasZone(name, text string) func(*fleet.World) bool {
	return func(w *fleet.World) bool {
		o, _ := w.Zones.Get(fleet.Name(name))
		return string(o.Data) == text
	}
}

func TestAChangedZoneGoesAlone(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	w := testWorld(t, 1)
	zones := zonesOf("x.test.", "one", "y.test.", "one")
	s.Publish(withZones(w, zones))
	dns, edge := listen(t, id, "dns-1", s.addr), listen(t, id, "edge-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	edge.until(t, "a World", func(*fleet.World) bool { return true })
	if w, n := dns.last(); w.Zones.Len() != 2 || n != 1 {
		t.Errorf("the first World has %d zones and is the %d.", w.Zones.Len(), n)
	}
	zones = zones.With([]fleet.Object{rules.ZoneObject("x.test.", []byte("two"))}, nil)
	s.Publish(withZones(w, zones))
	dns.until(t, "the change", hasZone("x.test.", "two"))
	zones = zones.With(nil, []fleet.Name{"y.test."})
	s.Publish(withZones(w, zones))
	dns.until(t, "the removal", hasZone("y.test.", ""))
	if _, n := dns.last(); n != 3 {
		t.Errorf("%d Worlds for three changes", n)
	}
	if s.book.has("dns-1 sent 1") {
		t.Error("the Snapshot was sent again")
	}
	if w, n := edge.last(); w.Zones.Len() != 0 || n != 1 {
		t.Errorf("a node that is no nameserver has %d zones and %d Worlds", w.Zones.Len(), n)
	}
}

// What a revision brings must be there before it; what only the one before
// needed goes after it.
func TestZonesComeBeforeTheSnapshotAndGoAfterIt(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	s.Publish(withZones(testWorld(t, 1), zonesOf("old.test.", "x", "both.test.", "1")))
	c := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	s.Publish(withZones(testWorld(t, 2), zonesOf("new.test.", "x", "both.test.", "2")))
	c.until(t, "the end of the change", func(w *fleet.World) bool { return w.Snapshot.Revision == 2 && w.Zones.Len() == 2 })
	c.mu.Lock()
	defer c.mu.Unlock()
	var steps []string
	for _, w := range c.worlds {
		_, old := w.Zones.Get("old.test.")
		_, fresh := w.Zones.Get("new.test.")
		steps = append(steps, fmt.Sprintf("%d old=%v new=%v", w.Snapshot.Revision, old, fresh))
	}
	want := "1 old=true new=false; 1 old=true new=true; 2 old=true new=true; 2 old=false new=true"
	if got := strings.Join(steps, "; "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A zone that fits the next Snapshot alone, as one that is signed for other
// steered names, is applied with it; others that come with it need not wait.
func TestAZoneThatFitsTheNextSnapshotWaitsForIt(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	zones := func(signed, other string) *fleet.Zones { return zonesOf("signed.test.", signed, "other.test.", other) }
	s.Publish(withZones(testWorld(t, 1), zones("for 1", "a")))
	c := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	c.mu.Lock()
	c.check = func(w *fleet.World) error {
		if want := fmt.Sprintf("for %d", w.Snapshot.Revision); !hasZone("signed.test.", want)(w) {
			return errors.New("an answer of the Spec is not signed")
		}
		return nil
	}
	c.mu.Unlock()
	s.Publish(withZones(testWorld(t, 2), zones("for 2", "b")))
	s.book.await(t, "dns-1 acknowledged 2")
	c.mu.Lock()
	before := c.worlds[len(c.worlds)-2]
	c.refuse = 3
	c.mu.Unlock()
	if !hasZone("other.test.", "b")(before) || before.Snapshot.Revision != 1 {
		t.Error("a zone that fits waits for the Snapshot")
	}
	// A Snapshot that is refused leaves its zones for the next, unless they are
	// made anew.
	s.Publish(withZones(testWorld(t, 3), zones("for 3", "b")))
	s.book.await(t, "dns-1 refused 3: revision 3: dns: port is taken")
	s.Publish(withZones(testWorld(t, 4), zones("for 4", "c")))
	s.book.await(t, "dns-1 acknowledged 4")
	// One that fits no Snapshot that is to come is refused, and what was before stays.
	s.Publish(withZones(testWorld(t, 4), zones("for 9", "d")))
	c.until(t, "what came with it", hasZone("other.test.", "d"))
	if w, _ := c.last(); !hasZone("signed.test.", "for 4")(w) {
		t.Error("a zone that does not fit is in use")
	}
	s.Publish(withZones(testWorld(t, 5), zones("for 5", "d")))
	s.book.await(t, "dns-1 acknowledged 5")
}

func TestANodeThatComesBackIsSentOnlyZonesItLacks(t *testing.T) {
	id := newIdentity(t)
	one, two := serve(t, id, ""), serve(t, id, "")
	w := testWorld(t, 1)
	zones := zonesOf("x.test.", "one", "y.test.", "one", "z.test.", "one")
	one.Publish(withZones(w, zones))
	two.Publish(withZones(w, zones.With([]fleet.Object{rules.ZoneObject("x.test.", []byte("two"))}, []fleet.Name{"z.test."})))
	c := listen(t, id, "dns-1", one.addr, two.addr)
	one.book.await(t, "dns-1 acknowledged 1")
	one.stop()
	c.until(t, "what had changed", func(w *fleet.World) bool { return hasZone("x.test.", "two")(w) && w.Zones.Len() == 2 })
	got, n := c.last()
	if got.Zones.Len() != 2 || n > 3 {
		t.Errorf("%d zones after %d Worlds", got.Zones.Len(), n)
	}
	if two.book.has("dns-1 sent 1") {
		t.Error("the Snapshot was sent again")
	}
	c.stop()

	// The program starts again with what its disk has: the same World.
	restarted, err := NewClient(ClientConfig{Node: "dns-1", Addresses: []string{two.addr}, TLS: id.Credentials("dns-1", time.Now, rand.Reader).Client(), Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	restarted.Have(got)
	tc := runClient(t, restarted)
	two.book.await(t, "dns-1 acknowledged 1")
	if w, n := tc.last(); n != 1 || w != got {
		t.Errorf("%d Worlds were applied, the last with %d zones", n, w.Zones.Len())
	}
}

// runClient runs a client that is not connected yet.
func runClient(t *testing.T, c *Client) *testClient {
	t.Helper()
	tc := &testClient{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx, tc.apply); err != nil {
			t.Errorf("client: %v", err)
		}
	}()
	tc.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(tc.stop)
	return tc
}

func TestARefusedZoneDoesNotKeepTheOthersBack(t *testing.T) {
	bad := errors.New("zone is bad")
	h := newHolding("dns-1", func(w *fleet.World) error {
		for o := range w.Zones.All() {
			if string(o.Data) == "bad" {
				return bad
			}
		}
		return nil
	})
	h.world = testWorld(t, 1)
	var put []fleet.Object
	for i := range 9 {
		text := "good"
		if i == 4 {
			text = "bad"
		}
		put = append(put, rules.ZoneObject(fleet.Name(fmt.Sprintf("z%d.test.", i)), []byte(text)))
	}
	errs := h.changeZones(put, nil, false)
	if len(errs) != 1 || !errors.Is(errs[0], bad) || !strings.Contains(errs[0].Error(), "z4.test.") {
		t.Errorf("errors %v", errs)
	}
	if h.zones.Len() != 8 || h.world.Zones != h.zones {
		t.Errorf("%d zones are in use", h.zones.Len())
	}
}

// taker is an UpdateServer that answers with the message's length as RCODE.
type taker struct{}

func (taker) Update(_ context.Context, zone, key fleet.Name, msg []byte) (int, error) {
	if key != "k.test." {
		return 5, errors.New("not this key")
	}
	return len(msg) + len(zone), nil
}

func TestUpdatesAreHandedOnByNameserversOfTheFleetOnly(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "", taker{})
	s.Publish(testWorld(t, 1))
	update := func(id *identity.Identity, node string, key fleet.Name) (int, error) {
		c, err := NewClient(ClientConfig{Node: node, Addresses: []string{s.addr}, TLS: id.Credentials(node, time.Now, rand.Reader).Client(), Logger: logTo(t)})
		if err != nil {
			t.Fatal(err)
		}
		if rcode, err := c.Update(t.Context(), "a.", key, nil); rcode != servfail || err == nil {
			t.Errorf("unconnected: %d, %v", rcode, err)
		}
		tc := runClient(t, c)
		defer tc.stop()
		s.book.await(t, node+" acknowledged 1")
		return c.Update(t.Context(), "a.", key, []byte("1234"))
	}
	if rcode, err := update(id, "dns-1", "k.test."); rcode != 6 || err != nil {
		t.Errorf("%d, %v", rcode, err)
	}
	if rcode, err := update(id, "dns-1", "other."); rcode != 5 || err == nil || err.Error() != "not this key" {
		t.Errorf("%d, %v", rcode, err)
	}
	if rcode, err := update(id, "edge-1", "k.test."); rcode != servfail || err == nil {
		t.Errorf("a node that is no nameserver: %d, %v", rcode, err)
	}
}

// The cost of one changed zone among 100,000: publishing, sending, applying.
func BenchmarkOneZoneOf100000(b *testing.B) {
	var put []fleet.Object
	for i := range 100_000 {
		put = append(put, rules.ZoneObject(fleet.Name(fmt.Sprintf("z%d.test.", i)), []byte(zoneText(1))))
	}
	var none *fleet.Zones
	zones := none.With(put, nil)
	w := testWorld(b, 1)
	id := newIdentity(b)
	s := serve(b, id, "")
	s.Publish(withZones(w, zones))
	applied := make(chan *fleet.World, 16)
	c, err := NewClient(ClientConfig{Node: "dns-1", Addresses: []string{s.addr}, TLS: id.Credentials("dns-1", time.Now, rand.Reader).Client(), Logger: logTo(b)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = c.Run(ctx, func(w *fleet.World) error { applied <- w; return nil }) }()
	if first := <-applied; first.Zones.Len() != 100_000 {
		b.Fatal(first.Zones.Len())
	}
	n := 0
	for b.Loop() {
		n++
		zones = zones.With([]fleet.Object{rules.ZoneObject("z7.test.", []byte(zoneText(uint64(n+1))))}, nil)
		s.Publish(withZones(w, zones))
		<-applied
	}
}
