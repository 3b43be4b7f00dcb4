package xds

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/rules"
)

// liveNames lists a set's ids with their data.
func liveNames(live *fleet.Zones) string {
	var out []string
	for o := range live.All() {
		out = append(out, o.Key.ID+"="+string(o.Data))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func withLive(w *fleet.World, texts ...string) *fleet.World {
	next := *w
	var put []fleet.Object
	for i := 0; i < len(texts); i += 2 {
		put = append(put, rules.LiveObject(fleet.Name(texts[i]), []byte(texts[i+1])))
	}
	var none *fleet.Zones
	next.Live = none.With(put, nil)
	return &next
}

func hasLive(want string) func(*fleet.World) bool {
	return func(w *fleet.World) bool { return liveNames(w.Live) == want }
}

// A live object goes alone to the nodes whose roles need it, and what they have
// is told.
func TestALiveObjectGoesAloneAndIsAcknowledged(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	w := testWorld(t, 1)
	s.Publish(withLive(w, "mark/a", "1", "token/x", "{}"))
	dns, edge := listen(t, id, "dns-1", s.addr), listen(t, id, "edge-1", s.addr)
	s.book.await(t, "dns-1 has live mark/a=1")
	s.book.await(t, "dns-1 acknowledged 1")
	dns.until(t, "the first mark", hasLive("mark/a=1"))
	edge.until(t, "a World, and for a node without a role for it no live object", hasLive(""))
	_, before := dns.last()
	s.Publish(withLive(w, "mark/a", "2", "token/x", "{}", "mark/b", "1"))
	s.book.await(t, "dns-1 has live mark/a=2,mark/b=1")
	s.Publish(withLive(w, "mark/b", "1"))
	s.book.await(t, "dns-1 has live mark/b=1")
	if _, n := dns.last(); n != before+2 {
		t.Errorf("%d Worlds for two changes", n-before)
	}
}

// A live object that a node refuses keeps no other out, and is not told as had.
func TestALiveObjectThatIsRefusedKeepsNoOtherOut(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	w := testWorld(t, 1)
	s.Publish(w)
	dns := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	dns.mu.Lock()
	dns.check = func(w *fleet.World) error {
		if strings.Contains(liveNames(w.Live), "bad") {
			return errors.New("is bad")
		}
		return nil
	}
	dns.mu.Unlock()
	s.Publish(withLive(w, "mark/a", "good", "mark/b", "bad", "mark/c", "good"))
	dns.until(t, "the good ones", hasLive("mark/a=good,mark/c=good"))
	s.Publish(withLive(w, "mark/a", "good", "mark/c", "good"))
	s.book.await(t, "dns-1 has live mark/a=good,mark/c=good")
	if s.book.has("dns-1 has live mark/a=good,mark/b=bad,mark/c=good") {
		t.Error("what was refused is told as had")
	}
}

// A node that comes back is sent what differs, and what it has is told though
// nothing is sent.
func TestLiveObjectsAreNotSentAgain(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	w := withLive(testWorld(t, 1), "mark/a", "1")
	s.Publish(w)
	dns := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 has live mark/a=1")
	s.book.await(t, "dns-1 acknowledged 1")
	_, before := dns.last()
	s.stop()
	again := serve(t, id, s.addr)
	again.Publish(w)
	again.book.await(t, "dns-1 has live mark/a=1")
	if _, n := dns.last(); n != before {
		t.Errorf("%d Worlds without a change", n-before)
	}
}
