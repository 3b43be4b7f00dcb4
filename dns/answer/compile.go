package answer

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// Compile gives the plan for a World: zones × steering × geo database under a
// View at a moment. What old has compiled from the same input is taken over,
// and so are the zones of WithZone as far as the World has no content for them
// and the Spec still names primaries for them, or has never named them (the
// members of catalogs); old may be nil. source may be nil, then the place of
// no client is known. All errors are given at once.
func Compile(id Identity, w *fleet.World, source geo.Source, v *fleet.View, now time.Time, old *Plan) (*Plan, error) {
	if old == nil {
		old = Empty(id)
	}
	p := *old
	p.id, p.world, p.source, p.ready = &id, w, source, true
	var err error
	if p.settings, err = compileSettings(id, w); err != nil {
		return nil, err
	}
	p.ech, _ = echLists(w)
	same := old.world != nil && old.world.Snapshot == w.Snapshot && sameMap(old.world.Objects, w.Objects)
	if !same {
		p.index()
	}
	if !same || old.source != source {
		if err := p.classify(old); err != nil {
			return nil, err
		}
	}
	if err := p.compileZones(old, same); err != nil {
		return nil, err
	}
	if !same || old.classes != p.classes {
		p.steering.begin(w.Snapshot.Spec, p.service)
	}
	p.steer(v, now)
	return p.Settle(), nil
}

// classify compiles the geo table, or takes it over where neither the
// database nor the ranking has changed.
func (p *Plan) classify(old *Plan) error {
	latency, err := p.latencyMap()
	if err != nil {
		return err
	}
	p.intent = steer.Intent(p.world.Snapshot, latency)
	if old.table != nil && old.intent == p.intent && old.source == p.source {
		p.table, p.classes = old.table, old.classes.For(p.world.Snapshot)
		return nil
	}
	p.classes = steer.NewClasses(p.world.Snapshot, latency)
	networks := func(func(netip.Prefix, geo.Place) bool) {}
	if p.source != nil {
		networks = p.source.Networks()
	}
	table, err := geo.CompileMarked(networks, p.classes.Marks(), p.classes.Of)
	if err != nil {
		return fmt.Errorf("compiling clients' classes: %w", err)
	}
	p.table = table
	return nil
}

// latencyMap reads the latency map that the Spec names; nil for none.
func (p *Plan) latencyMap() (*steer.LatencyMap, error) {
	name := p.world.Snapshot.Spec.DNS.LatencyMap
	obj, ok := p.world.Objects[fleet.ObjectKey{Kind: fleet.ObjectLatency, ID: name}]
	if name == "" || !ok {
		return nil, nil
	}
	s := &p.steering
	if s.latency != nil && s.latencyFrom.Same(obj) {
		return s.latency, nil
	}
	m, err := steer.ParseLatencyMap(obj.Data)
	if err != nil {
		return nil, fmt.Errorf("latency map %s: %w", name, err)
	}
	s.latency, s.latencyFrom = m, obj
	return m, nil
}

// job is one zone to be read: its content, and what comes of it.
type job struct {
	spec *fleet.Zone
	obj  fleet.Object
	had  *served // of that name; may be nil

	out    *zone.Zone
	online *sign.Online
	err    error
}

// compileZones brings the zones in line with the World. Where it has the
// Snapshot and the objects of before, only zones with versions of their own
// that differ are looked at; else all that the Spec names.
func (p *Plan) compileZones(old *Plan, same bool) error {
	spec := p.world.Snapshot.Spec
	var before *fleet.Zones
	if old.world != nil {
		before = old.world.Zones
	}
	put, gone := p.world.Zones.Since(before)
	e := old.zones.edit()
	p.zones = e.m
	p.drop(e, old, gone)

	var jobs []job
	look := func(z *fleet.Zone) {
		if obj, ok := content(p.world, z); ok {
			jobs = append(jobs, job{spec: z, obj: obj, had: e.m.get(zone.Wire(z.Zone))})
		} else {
			p.outside(e, z)
		}
	}
	for _, obj := range put {
		name := fleet.Name(obj.Key.ID)
		if z := p.named[name]; z == nil {
			look(spec.Unnamed(name))
		} else if same {
			look(z)
		}
	}
	if !same {
		for i := range spec.Zones {
			look(&spec.Zones[i])
		}
		return p.read(e, jobs)
	}
	for _, name := range gone {
		if z := p.named[name]; z != nil {
			look(z)
		}
	}
	if err := p.read(e, jobs); err != nil {
		return err
	}
	if p.ech != old.ech {
		p.reech(e)
	}
	return nil
}

// index notes where the Spec has its zones and services.
func (p *Plan) index() {
	spec := p.world.Snapshot.Spec
	p.named = make(map[fleet.Name]*fleet.Zone, len(spec.Zones))
	for i := range spec.Zones {
		p.named[spec.Zones[i].Zone] = &spec.Zones[i]
	}
	p.services = make(map[string]int, len(spec.Services))
	for i := range spec.Services {
		p.services[spec.Services[i].Service] = i
	}
}

// sameMap says whether two maps, which are not changed any more, are one.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// drop removes zones that the World has no longer.
func (p *Plan) drop(e *zoneEdit, old *Plan, gone []fleet.Name) {
	for _, name := range gone {
		if had := e.m.get(zone.Wire(name)); had != nil && had.from == fromWorld && p.named[name] == nil {
			e.remove(had.apex)
		}
	}
	for name := range old.named {
		if _, has := p.world.Zones.Get(name); !has && p.named[name] == nil {
			e.remove(string(zone.Wire(name)))
		}
	}
	if old.world == nil { // the zones of a plan without a fleet
		for z := range old.zones.all() {
			if z.from == fromWorld {
				e.remove(z.apex)
			}
		}
	}
}

// content gives the object that holds a zone of the Spec: one with a version of
// its own goes before one of the Snapshot, and that before records inline.
func content(w *fleet.World, spec *fleet.Zone) (fleet.Object, bool) {
	if obj, ok := w.Zones.Get(spec.Zone); ok {
		return obj, true
	}
	key := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(spec.Zone)}
	if obj, ok := w.Objects[key]; ok {
		if obj.File == "" {
			obj.File = spec.File
		}
		return obj, true
	}
	if spec.Records != "" {
		return fleet.Object{Key: key, Data: []byte(spec.Records)}, true
	}
	return fleet.Object{Key: key}, spec.File != "" // read says that it is missing
}

// outside deals with a zone of the Spec for which the World has no content: it
// stays as WithZone gave it, with the marks of the present Spec, or has none.
func (p *Plan) outside(e *zoneEdit, spec *fleet.Zone) {
	had := e.m.get(zone.Wire(spec.Zone))
	if had == nil || had.from != fromOutside || had.Zone == nil {
		e.set(unavailable(spec.Zone))
		return
	}
	e.set(p.accept(had.Zone))
}

// read reads the zones of jobs into e, and gives all errors at once.
func (p *Plan) read(e *zoneEdit, jobs []job) error {
	each := p.id.Each
	if each == nil {
		each = func(n int, do func(int)) {
			for i := range n {
				do(i)
			}
		}
	}
	each(len(jobs), func(i int) { jobs[i].read(p.world) })
	var errs []error
	for i := range jobs {
		if jobs[i].err != nil {
			errs = append(errs, jobs[i].err)
			continue
		}
		s := p.serve(jobs[i].out, fromWorld)
		s.object, s.online = jobs[i].obj, jobs[i].online
		if had := jobs[i].had; had == nil || !had.same(s) {
			e.set(s)
			if had != nil {
				s.static.Store(had.static.Load())
			}
		}
	}
	return errors.Join(errs...)
}

func (z *served) same(o *served) bool {
	return z.Zone == o.Zone && z.from == o.from && z.object.Same(o.object) && slices.Equal(z.steered, o.steered)
}

func (j *job) read(w *fleet.World) {
	if j.obj.Data == nil {
		j.err = fmt.Errorf("zone %s: its object is missing", j.spec.Zone)
		return
	}
	var had *zone.Zone
	if j.had != nil && j.had.from == fromWorld {
		had = j.had.Zone
	}
	if had != nil && j.had.object.Same(j.obj) {
		j.out, j.err = had.Marked(j.spec.Steered)
	} else {
		j.out, j.err = zone.Reload(had, j.spec, j.obj.Data, j.obj.File)
	}
	if j.err == nil {
		j.err = checkSigned(w, j.spec, j.out)
	}
	switch {
	case j.err != nil:
	case had == j.out:
		j.online = j.had.online
	default:
		j.online, j.err = sign.OpenOnline(j.out)
	}
	if j.err != nil {
		j.err = fmt.Errorf("zone %s: %w", j.spec.Zone, j.err)
	}
}

// serve makes a zone ready to answer from, whose marks are those of its Spec.
func (p *Plan) serve(z *zone.Zone, from origin) *served {
	s := &served{Zone: z, from: from, apex: z.Apex().Name}
	for _, st := range z.Steered() {
		t := target{service: p.service(st.Service), ttl: uint32(st.TTL.D() / time.Second), https: st.HTTPS}
		if t.service >= 0 {
			t.rotate = p.world.Snapshot.Spec.Services[t.service].Steering.Rotate
			t.ech = echFor(p.world.Snapshot.Spec, t.service, p.ech)
		}
		s.steered = append(s.steered, t)
	}
	return s
}

// accept makes a zone that came from outside ready to answer from, with those
// marks of its Spec that it can have.
func (p *Plan) accept(z *zone.Zone) *served {
	spec := p.named[z.Name]
	if spec == nil {
		return p.serve(z, fromOutside)
	}
	can := func(steered []fleet.Steered) bool {
		_, err := z.Marked(steered)
		return err == nil && checkSigned(p.world, &fleet.Zone{Zone: spec.Zone, Steered: steered}, z) == nil
	}
	marks := spec.Steered
	if !can(marks) {
		marks = slices.DeleteFunc(slices.Clone(marks), func(st fleet.Steered) bool { return !can([]fleet.Steered{st}) })
	}
	if marked, err := z.Marked(marks); err == nil {
		z = marked
	}
	return p.serve(z, fromOutside)
}

// service gives the index of a service in the Spec.
func (p *Plan) service(name string) int {
	if i, ok := p.services[name]; ok {
		return i
	}
	return -1 // fleet's own rules have refused it
}
