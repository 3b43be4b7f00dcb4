package steer

import (
	"testing"

	"meridian/fleet"
)

// What is left to do for a query, where a share splits clients, allocates
// nothing: groups, weights, shifts, spill-over and all.
func TestChoosingDoesNotAllocate(t *testing.T) {
	const steering = `{policy: failover, regions: [a, b], demand: {fra: 90, tyo: 90}, groups: [
      {group: a, policy: weighted, regions: [fra, tyo], weights: {fra: 1, tyo: 3}},
      {group: b, policy: all, regions: [gru, fra]}]}`
	s := snapshot(t, steering)
	c := NewClasses(s, nil)
	scene := NewScene(c, view("gru:down fra@fra:down"), []fleet.Shift{{ID: "s", From: "fra", Share: 0.5}}, now, nil)
	r := c.Rank(0, country("DE"))
	slot := Slot(0)
	if n := testing.AllocsPerRun(1000, func() { scene.Choose(0, V4, r, slot); slot++ }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChooseInGroups(b *testing.B) {
	s := snapshot(b, `{policy: failover, regions: [a, b], groups: [
      {group: a, policy: weighted, regions: [fra, tyo], weights: {fra: 1, tyo: 3}}, {group: b, policy: all, regions: [gru, fra]}]}`)
	c := NewClasses(s, nil)
	scene := NewScene(c, view("gru:down"), nil, now, nil)
	r := c.Rank(0, country("DE"))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		scene.Choose(0, V4, r, Slot(i%Slots))
	}
}
