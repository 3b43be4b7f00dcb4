package xds

import (
	"errors"
	"testing"

	"meridian/fleet"
)

// A zone that fits neither the Snapshot in use nor the one that it came with is
// refused by itself; what is wanted of the fleet does not wait for it.
func TestABrokenZoneDoesNotKeepItsSnapshotOut(t *testing.T) {
	id := newIdentity(t)
	s := serve(t, id, "")
	zones := func(broken, other string) *fleet.Zones { return zonesOf("broken.test.", broken, "other.test.", other) }
	s.Publish(withZones(testWorld(t, 1), zones("good", "a")))
	c := listen(t, id, "dns-1", s.addr)
	s.book.await(t, "dns-1 acknowledged 1")
	c.mu.Lock()
	c.check = func(w *fleet.World) error {
		if hasZone("broken.test.", "unreadable")(w) {
			return errors.New("zone broken.test.: it was encoded by another version")
		}
		return nil
	}
	c.mu.Unlock()
	s.Publish(withZones(testWorld(t, 2), zones("unreadable", "b")))
	s.book.await(t, "dns-1 acknowledged 2")
	if w, _ := c.last(); !hasZone("broken.test.", "good")(w) || !hasZone("other.test.", "b")(w) {
		t.Error("the zone before is not in use, or what came with it is not")
	}
	s.Publish(withZones(testWorld(t, 3), zones("unreadable", "c"))) // the zone is not sent again
	s.book.await(t, "dns-1 acknowledged 3")
	s.Publish(withZones(testWorld(t, 3), zones("good again", "c")))
	c.until(t, "a good one", hasZone("broken.test.", "good again"))
}
