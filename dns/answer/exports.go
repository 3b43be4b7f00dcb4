package answer

import (
	"fmt"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// Exports knows what transfers show of steered names in one World. It is safe
// for concurrent use.
type Exports struct {
	plan Plan // under which all is well
}

// NewExports reads a World.
func NewExports(w *fleet.World) (*Exports, error) {
	p := &Plan{world: w}
	p.ech, _ = echLists(w)
	p.index()
	latency, err := p.latencyMap()
	if err != nil {
		return nil, err
	}
	p.classes = steer.NewClasses(w.Snapshot, latency)
	p.steering.begin(w.Snapshot.Spec, p.service)
	return p.exports(), nil
}

// exports is the plan when all is well.
func (p *Plan) exports() *Exports {
	e := &Exports{*p}
	e.plan.scene = steer.NewScene(p.classes, nil, nil, time.Time{}, nil)
	return e
}

// Set gives what transfers show of a steered name and type: what the Spec
// exports, or what a client of whom nothing is known gets when all is well, in
// canonical order. Count is 0 where the name is shown without the type.
func (e *Exports) Set(st *fleet.Steered, rtype uint16) zone.RRset {
	if rtype != zone.TypeHTTPS && len(st.Export) > 0 {
		return exportSet(st, rtype)
	}
	p := &e.plan
	set := zone.RRset{Type: rtype, TTL: uint32(st.TTL.D() / time.Second)}
	service, kind := p.service(st.Service), kindA
	switch {
	case service < 0 || rtype == zone.TypeHTTPS && st.HTTPS == nil:
		return set
	case rtype == zone.TypeAAAA:
		kind = kindAAAA
	case rtype == zone.TypeHTTPS:
		kind = httpsKind(st.HTTPS)
	}
	o, _ := p.choose(service, kind, p.classes.Rank(service, geo.Place{}), 0)
	if rtype == zone.TypeHTTPS {
		set.Data, set.Count = p.appendHTTPS(nil, st.HTTPS, echFor(p.world.Snapshot.Spec, service, p.ech), &o)
	} else {
		set.Data, set.Count = p.records(nil, kind, &o)
	}
	set.Data = canonical(set.Data)
	return set
}

// Variants gives what the steered names of a zone can answer with, and what
// transfers show of it; of a zone that is not signed the latter alone. The
// errors are those of the function Variants.
func (e *Exports) Variants(z *fleet.Zone, signed bool) ([]NameVariants, error) {
	var out []NameVariants
	if signed {
		var err error
		if out, err = Variants(e.plan.world, z); err != nil {
			return nil, err
		}
	}
	type key struct {
		name  fleet.Name
		rtype uint16
	}
	index := make(map[key]int, len(out))
	for i := range out {
		index[key{out[i].Name, out[i].Type}] = i
	}
	for i := range z.Steered {
		st := &z.Steered[i]
		name, err := fleet.Under(st.Name, z.Zone)
		if err != nil {
			return nil, fmt.Errorf("steered name %q: %w", st.Name, err)
		}
		for _, t := range steeredTypes {
			at, ok := index[key{name, t}]
			if !ok {
				at = len(out)
				out = append(out, NameVariants{Name: name, Type: t})
			}
			set := e.Set(st, t)
			out[at].add(set, set.TTL)
			out[at].Export = set.Data
		}
	}
	return out, nil
}
