package xdp

import (
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// state is what is served at a time: an answer is right if one of the plans
// gives it. More than one, since scopes become wider soon after a change.
type state []*answer.Plan

// pressure asks without a pause, from several sockets with a window of queries
// each. States follow one another; an answer must be that of a state that was
// in force, or coming into force, between its query and itself.
type pressure struct {
	*site
	states  []state
	queries [][]byte
	begun   atomic.Int64 // the last state that may be answered by
	done    atomic.Int64 // the last one that is in force: none before it may be
	asked   atomic.Int64
	quit    atomic.Bool
	errs    chan error
	lanes   int
	before  uint64
}

// manyShapes are queries of names, steered ones and others, of several types,
// with and without DO and Client Subnet.
func manyShapes() [][]byte {
	var out [][]byte
	for _, name := range []string{"www", "order", "split", "x.geo", "alias", "mx1", "none"} {
		for _, rtype := range []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS} {
			for i := range 6 {
				var options []byte
				if i > 1 {
					options = ecs4(10, byte(i-1), byte(7*i))
				}
				out = append(out, withOptions(name+".demo.test", rtype, i%2 == 0, options...))
			}
		}
	}
	return out
}

// press begins with state 0 in force.
func (s *site) press(queries [][]byte, states ...state) *pressure {
	s.Helper()
	p := &pressure{site: s, states: states, queries: queries, lanes: 4, before: s.answered()}
	p.errs = make(chan error, p.lanes)
	for i := range p.lanes {
		c := s.dialFrom("", []string{siteServer4, siteServer6}[i%2])
		client := clientAt(c)
		right := make([]map[string]bool, len(states)*len(queries)) // by state and query
		var w answer.Worker
		out := make([]byte, answer.MaxStream)
		for i := range right {
			right[i] = map[string]bool{}
			for _, plan := range states[i/len(queries)] {
				n, _ := plan.Answer(&w, queries[i%len(queries)], client, out)
				right[i][string(out[:n])] = true
			}
		}
		since := make([]int64, len(queries))
		sent := func(i int) { since[i] = p.done.Load() }
		take := func(i int, got []byte) error {
			for n, last := since[i], p.begun.Load(); n <= last; n++ {
				if right[int(n)%len(states)*len(queries)+i][string(got)] {
					return nil
				}
			}
			return fmt.Errorf("between changes %d and %d the query\n%s\nwas answered\n%s", since[i], p.begun.Load(), text(queries[i]), text(got))
		}
		go func() {
			for !p.quit.Load() {
				if err := exchange(c, queries, sent, take); err != nil {
					p.errs <- err
					return
				}
				p.asked.Add(int64(len(queries)))
			}
			p.errs <- nil
		}()
	}
	return p
}

// change brings the next state into force by what it is given, and waits until
// the kernel has it too, which must then give no other.
func (p *pressure) change(by func(next int)) {
	p.Helper()
	n := p.begun.Add(1)
	by(int(n) % len(p.states))
	p.eventually("in force", func() bool { return p.served.Load() == p.server.Plan() })
	p.done.Store(n)
	p.flow()
}

// flow waits until some more queries of all kinds have been answered.
func (p *pressure) flow() {
	p.Helper()
	goal := p.asked.Load() + int64(p.lanes*len(p.queries))
	p.eventually("answered", func() bool { return p.asked.Load() >= goal || len(p.errs) > 0 })
}

// stop ends it. All that was sent must have been answered, and no buffer have
// had to drop anything.
func (p *pressure) stop() {
	p.Helper()
	p.quit.Store(true)
	for range p.lanes {
		if err := <-p.errs; err != nil {
			p.Error(err)
		}
	}
	total, kernel := p.asked.Load(), p.answered()-p.before
	p.Logf("%d queries, %d of them answered in the kernel, over %d changes", total, kernel, p.begun.Load())
	if n := p.lost(); n > 0 {
		p.Errorf("%d datagrams lost in sockets' buffers", n)
	}
}

// views are what becomes of the fleet: states of health, and their plans. Scopes
// of what has just been decided are not yet as wide as they will be.
func (s *site) views(list []*fleet.View) []state {
	regions := []string{"fra", "tyo", "gru"}
	all := down("web", regions...)
	for _, service := range []string{"split", "order"} {
		maps.Copy(all.Verdicts, down(service, regions...).Verdicts)
	}
	base := s.server.Plan()
	other := base.WithView(all, now)
	var out []state
	for _, v := range list {
		out = append(out, state{base.WithView(v, now), base.WithView(v, now).Settle(), other.WithView(v, now)})
	}
	return out
}

// Regions go down and come back under load: every query is answered, with what
// was decided before or with what is decided now and never with something of
// both, and where the decision is in force never with the old.
func TestFailoverUnderLoad(t *testing.T) {
	s := newSite(t, spec, Native)
	list := []*fleet.View{nil, down("order", "gru"), down("web", "fra"), down("web", "fra", "tyo"), down("split", "tyo"), nil, down("order", "gru", "fra")}
	p := s.press(manyShapes(), s.views(list)...)
	p.flow()
	for range 60 {
		p.change(func(next int) { s.server.SetView(list[next]) })
	}
	p.stop()
}

// So it is with names that are signed, whose signatures change with what they
// sign.
func TestFailoverOfSignedNamesUnderLoad(t *testing.T) {
	w := newWorld(t, strings.ReplaceAll(signedSpec, "POLICY", "nsec"))
	signWorld(t, w, "nsec")
	s := newSiteOf(t, w, newAtlas(), Config{Device: "eth0", Mode: Native}, false)
	var queries [][]byte
	for _, name := range []string{"www", "split", "order", "x.any", "home"} {
		for i := range 8 {
			queries = append(queries, withOptions(name+".signed.test", []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS}[i%3], i%4 > 0, ecs4(10, byte(1+i%3), 9)...))
		}
	}
	list := []*fleet.View{nil, down("order", "tyo"), down("web", "fra"), down("split", "tyo")}
	p := s.press(queries, s.views(list)...)
	p.flow()
	for range 20 {
		p.change(func(next int) { s.server.SetView(list[next]) })
	}
	p.stop()
}

// The program comes and goes under load, natively and generically: every query
// is answered, by the kernel or by the sockets.
func TestAttachAndDetachUnderLoad(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(string(mode), func(t *testing.T) {
			s := newSite(t, spec, mode)
			s.must(s.ns.KeepQueue("eth0"))
			p := s.press(manyShapes(), s.views([]*fleet.View{nil})...)
			for i := range 12 {
				s.off.Store(i%2 == 0)
				s.server.SetView(nil) // which has Serve called
				s.eventually("so", func() bool { return (s.mode() == "") == (i%2 == 0) })
				p.flow()
			}
			p.stop()
		})
	}
}

// Zones that change put another program in place under load: every query is
// answered, with what the zone held before or holds now, and never with the old
// once it is the new one's turn.
func TestImagesSwapUnderLoad(t *testing.T) {
	s := newSite(t, spec, Native)
	var states []state
	var worlds []*fleet.World
	for i := range 3 {
		doc := strings.NewReplacer("mx1 A 192.0.2.25", fmt.Sprintf("mx1 A 192.0.2.%d", 100+i), "v4: [192.0.2.3]", fmt.Sprintf("v4: [192.0.2.%d]", 200+i)).Replace(spec)
		worlds = append(worlds, newWorld(t, doc))
		p := newPlan(t, doc, nil)
		states = append(states, state{p, p.Settle()})
	}
	s.must(s.server.Apply(worlds[0]))
	s.eventually("in force", func() bool { return s.served.Load() == s.server.Plan() })
	p, was := s.press(manyShapes(), states...), s.swaps()
	p.flow()
	for range 6 {
		p.change(func(next int) { s.must(s.server.Apply(worlds[next])) })
		s.eventually("swapped", func() bool { return s.swaps() > was })
		was = s.swaps()
		kernel := s.answered()
		s.eventually("answered in the kernel", func() bool { return s.answered() > kernel })
		p.flow()
	}
	p.stop()
}
