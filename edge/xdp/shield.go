package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"meridian/edge/defence"
	"meridian/fleet"
	"meridian/geo"
)

// guard is what this node does against floods, at one moment. It is immutable;
// the zero guard does nothing.
type guard struct {
	static   bool
	ports    []uint16 // reflectors
	table    *defence.Table
	rules    []rule
	named    []defence.Place // that the rules name, as the table has them
	limits   fleet.PacketLimits
	sampling fleet.PacketSampling
}

// shield works out the guard from the Spec, from what operators add on this
// node, and from who wants samples. It is safe for concurrent use.
type shield struct {
	geo     func() (geo.Source, error)
	changed func()
	guard   atomic.Pointer[guard]

	mu      sync.Mutex // guards below
	source  geo.Source // nil until needed
	defence *fleet.Defence
	own     []netip.Prefix
	table   *defence.Table // nil where there are no lists
	named   []defence.Place
	spec    []rule
	added   []rule
	wanted  map[*fleet.PacketSampling]bool // by those who watch
}

func newShield(geo func() (geo.Source, error), changed func()) *shield {
	s := &shield{geo: geo, changed: changed, wanted: map[*fleet.PacketSampling]bool{}}
	s.guard.Store(&guard{})
	return s
}

// apply takes the Spec's defence, which may be nil; own are the networks of VIPs,
// and the node's addresses. On an error the last one stays.
func (s *shield) apply(d *fleet.Defence, own []netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var spec []rule
	if d != nil {
		for _, r := range d.Rules {
			spec = append(spec, rule{PacketRule: r, until: bootSecond(r.Until)})
		}
	}
	same := s.hasLists(d) && slices.Equal(own, s.own)
	table, named, err := s.lists(d, own, slices.Concat(s.added, spec), same)
	if err != nil {
		return fmt.Errorf("defence: %w", err)
	}
	s.defence, s.own, s.table, s.named, s.spec = d, own, table, named, spec
	s.publish()
	return nil
}

// hasLists says whether the lists of d are those in force.
func (s *shield) hasLists(d *fleet.Defence) bool {
	if s.defence == nil || d == nil {
		return s.defence == d
	}
	return *s.defence.Static == *d.Static && reflect.DeepEqual(s.defence.Allow, d.Allow) && reflect.DeepEqual(s.defence.Block, d.Block)
}

// lists gives the lists' table for these rules and the places in it: the last one,
// if that is the same. Places of the last guard's rules stay as they are, since
// these rules hold until the next ones are in the tables; but where the table
// cannot have them beside the new ones.
func (s *shield) lists(d *fleet.Defence, own []netip.Prefix, rules []rule, same bool) (table *defence.Table, named []defence.Place, err error) {
	for _, last := range [][]rule{s.guard.Load().rules, nil} {
		named = s.name(slices.Concat(rules, last))
		if len(named) > defence.MaxPlaces {
			continue
		}
		if same && slices.Equal(named, s.named) {
			return s.table, named, nil
		}
		if table, err = s.compile(d, own, named, s.source); err == nil {
			return table, named, nil
		}
	}
	return nil, nil, err
}

// name gives the places that rules name, each where it stands already: so tables
// of before and of after agree on them.
func (s *shield) name(rules []rule) []defence.Place {
	out := slices.Clone(s.named)
	wanted := map[defence.Place]bool{}
	for _, r := range rules {
		wanted[defence.PlaceOf(&r.Match)] = true
	}
	for i, p := range out {
		if !wanted[p] {
			out[i] = defence.Place{}
		}
	}
	for _, r := range rules {
		p := defence.PlaceOf(&r.Match)
		if p == (defence.Place{}) || slices.Contains(out, p) {
			continue
		}
		if i := slices.Index(out, defence.Place{}); i >= 0 {
			out[i] = p
		} else {
			out = append(out, p)
		}
	}
	return out
}

// compile makes the lists' table; nil where there are none.
func (s *shield) compile(d *fleet.Defence, own []netip.Prefix, named []defence.Place, source geo.Source) (*defence.Table, error) {
	places := defence.Geo(d, named)
	if !places && (d == nil || !*d.Static && d.Allow.Empty() && d.Block.Empty()) {
		return nil, nil
	}
	if source == nil && places && s.geo != nil {
		var err error
		if source, err = s.geo(); err != nil {
			return nil, err
		}
		s.source = source
	}
	return defence.Lists(d, own, named, source)
}

// setGeo takes another geo database into use.
func (s *shield) setGeo(source geo.Source) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if named := s.name(slices.Concat(s.added, s.spec)); defence.Geo(s.defence, named) {
		table, err := s.compile(s.defence, s.own, named, source)
		if err != nil {
			return fmt.Errorf("layer 4: defence: %w", err)
		}
		s.table, s.named = table, named
	}
	s.source = source
	s.publish()
	return nil
}

// publish makes the guard of what is wanted now.
func (s *shield) publish() {
	now := bootSecond(time.Now())
	over := func(r rule) bool { return r.until != 0 && r.until <= now }
	s.added = slices.DeleteFunc(s.added, over)
	g := &guard{table: s.table, named: s.named, rules: slices.Concat(s.added, slices.DeleteFunc(slices.Clone(s.spec), over))}
	if d := s.defence; d != nil {
		g.static, g.ports, g.limits, g.sampling = *d.Static, d.ReflectionPorts, d.Limits, d.Sampling
	}
	for w := range s.wanted {
		if g.sampling.Rate == 0 || w.Rate < g.sampling.Rate {
			g.sampling.Rate = w.Rate
		}
		g.sampling.PerSecond = max(g.sampling.PerSecond, w.PerSecond)
	}
	s.guard.Store(g)
	s.changed()
}

// ErrRule is a rule that cannot be taken.
var ErrRule = errors.New("rule not taken")

// add puts a rule in force, behind those added before; one of that name that
// was added is replaced in its place.
func (s *shield) add(r fleet.PacketRule) error {
	if !r.Until.After(time.Now()) {
		return fmt.Errorf("%w: it needs a time in the future until which it holds", ErrRule)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publish() // the expired ones go
	next := rule{PacketRule: r, added: true, until: bootSecond(r.Until)}
	added := slices.Clone(s.added)
	if i := slices.IndexFunc(added, func(o rule) bool { return o.Name == r.Name }); i >= 0 {
		added[i] = next
	} else if n := len(added); n >= defence.MaxAdded {
		return fmt.Errorf("%w: %d rules were added, as many as can be", ErrRule, n)
	} else {
		added = append(added, next)
	}
	table, named, err := s.lists(s.defence, s.own, slices.Concat(added, s.spec), true)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRule, err)
	}
	s.added, s.table, s.named = added, table, named
	s.publish()
	return nil
}

// drop takes an added rule away; false: there is none of that name.
func (s *shield) drop(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.added)
	s.added = slices.DeleteFunc(s.added, func(r rule) bool { return r.Name == name })
	gone := len(s.added) < n
	if gone {
		s.publish()
	}
	return gone
}

// sample has packets sampled at least at that rate, until stop is called.
func (s *shield) sample(want fleet.PacketSampling) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted[&want] = true
	s.publish()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.wanted, &want)
		s.publish()
	}
}

// longest is as good as for ever.
const longest = 50 * 365 * 24 * time.Hour

// bootSecond gives a time by the program's clock, in seconds; 0 for no time. A
// rule whose time has passed gets 1, which has passed too.
func bootSecond(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 1
	}
	at := time.Duration(ts.Nano()) + min(time.Until(t), longest)
	return uint32(min(max(1, int64((at+time.Second-1)/time.Second)), 1<<32-1))
}
