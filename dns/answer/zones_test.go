package answer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Plans by the thousand, each with one zone more, less or changed: each keeps
// its own zones, and tells what differs from any other.
func TestPlansKeepTheirZones(t *testing.T) {
	type zones map[fleet.Name]*zone.Zone
	rng := rand.New(rand.NewPCG(1, 2))
	var made []*zone.Zone
	for i := range 60 {
		made = append(made, mustZone(t, fleet.Name(fmt.Sprintf("z%d.test.", i%40)), string(dynamic("", i).Data)))
	}
	plans, models := []*Plan{Empty(id)}, []zones{{}}
	for range 2000 {
		at := rng.IntN(len(plans))
		p, model := plans[at], maps.Clone(models[at])
		z := made[rng.IntN(len(made))]
		switch rng.IntN(4) {
		case 0:
			p = p.WithoutZone(z.Name)
			delete(model, z.Name)
		case 1:
			p = p.WithUnavailable(z.Name)
			delete(model, z.Name)
		default:
			p = p.WithZone(z)
			model[z.Name] = z
		}
		plans, models = append(plans, p), append(models, model)
	}
	for i, p := range plans {
		got := zones{}
		for z := range p.Zones() {
			got[z.Name] = z
		}
		if !maps.Equal(got, models[i]) {
			t.Fatalf("plan %d has %v, want %v", i, slices.Collect(maps.Keys(got)), slices.Collect(maps.Keys(models[i])))
		}
		j := rng.IntN(len(plans))
		for was, is := range p.Changed(plans[j]) {
			if was == is {
				t.Fatal("told of no change")
			}
			if is != nil {
				models[j][is.Name] = is
			} else {
				delete(models[j], was.Name)
			}
		}
		if !maps.Equal(models[j], models[i]) {
			t.Fatalf("what changed from plan %d to %d is not all that differs", j, i)
		}
		models[j] = zones{}
		for z := range plans[j].Zones() {
			models[j][z.Name] = z
		}
	}
}

// A worker, whatever it was asked before, finds the zone that a plan has.
func TestWorkersFindThePlansZone(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var made []*zone.Zone
	for i, name := range []fleet.Name{"test.", "a.test.", "b.test.", "c.a.test.", "d.c.a.test.", "est."} {
		made = append(made, mustZone(t, name, string(dynamic("", i).Data)))
	}
	names := []fleet.Name{"test.", "x.test.", "a.test.", "x.a.test.", "c.a.test.", "x.c.a.test.", "d.c.a.test.", "x.d.c.a.test.", "x.b.test.", "est.", "x.est.", "x.", "."}
	var w Worker
	p := Empty(id)
	for range 5000 {
		switch z := made[rng.IntN(len(made))]; rng.IntN(8) {
		case 0:
			p = p.WithZone(z)
		case 1:
			p = p.WithoutZone(z.Name)
		}
		name, qtype := zone.Wire(names[rng.IntN(len(names))]), []uint16{zone.TypeA, zone.TypeDS}[rng.IntN(2)]
		if got, want := w.find(p, name, qtype), p.find(name, qtype); got != want {
			t.Fatalf("%s type %d: %v, want %v", zone.Text(name), qtype, got.content(), want.content())
		}
	}
}
