package outlier

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/fleet"
)

const s, ms = time.Second, time.Millisecond

// rules are the Spec's defaults.
func rules() Rules {
	return Rules{Row: 5, Percent: 50, Factor: 4, Least: 50 * ms, Min: 20, Window: 10 * s,
		First: 30 * s, Longest: 5 * time.Minute, MaxPercent: 30, Panic: 50}
}

func pool(n int) []Peer {
	out := make([]Peer, n)
	for i := range out {
		out[i] = Peer{Endpoint: &Endpoint{}, Weight: 100, Healthy: true}
	}
	return out
}

func (p Peer) answers(n int, took time.Duration) {
	for range n {
		p.Record(Success, took)
	}
}

func (p Peer) fails(n int) {
	for range n {
		p.Record(Failure, 0)
	}
}

// told writes decisions as "0 slow, 2 returned".
func told(list []Decision) string {
	var out []string
	for _, d := range list {
		out = append(out, fmt.Sprintf("%d %s", d.Index, d.Reason))
	}
	return strings.Join(out, ", ")
}

func TestDefaultsOfTheSpec(t *testing.T) {
	snap, err := fleet.Compile([]byte(`
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.1.0.1:80"}]}]}]
`), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := Of(snap.Service("web")); got != rules() {
		t.Errorf("%+v", got)
	}
}

func TestWhoIsEjected(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(p []Peer)
		want string
	}{
		{"nothing happens", func(p []Peer) {}, ""},
		{"all answer alike", func(p []Peer) {
			for _, e := range p {
				e.answers(100, 5*ms)
			}
		}, ""},
		{"four failures in a row", func(p []Peer) { p[0].fails(4) }, ""},
		{"five failures in a row", func(p []Peer) { p[0].fails(5) }, "0 failures_in_a_row"},
		{"five in a row, and then an answer", func(p []Peer) { p[0].fails(5); p[0].answers(1, ms) }, "0 failures_in_a_row"},
		{"five failures, not in a row", func(p []Peer) { p[0].fails(3); p[0].answers(1, ms); p[0].fails(2) }, ""},
		{"half of the tries fail", func(p []Peer) {
			for range 10 {
				p[0].fails(1)
				p[0].answers(1, ms)
			}
		}, "0 share_of_failures"},
		{"half of too few fail", func(p []Peer) {
			for range 9 {
				p[0].fails(1)
				p[0].answers(1, ms)
			}
		}, ""},
		{"half of all fail: none is an outlier", func(p []Peer) {
			for range 10 {
				for _, e := range p {
					e.fails(1)
					e.answers(1, ms)
				}
			}
		}, ""},
		{"slow", func(p []Peer) {
			p[3].answers(20, 400*ms)
			for _, e := range p[:3] {
				e.answers(20, 100*ms)
			}
		}, "3 slow"},
		{"slower, but not by the factor", func(p []Peer) {
			p[3].answers(20, 399*ms)
			for _, e := range p[:3] {
				e.answers(20, 100*ms)
			}
		}, ""},
		{"by the factor, but by little", func(p []Peer) {
			p[3].answers(20, 40*ms)
			for _, e := range p[:3] {
				e.answers(20, 1*ms)
			}
		}, ""},
		{"slow by too few answers", func(p []Peer) {
			p[3].answers(19, 4000*ms)
			for _, e := range p[:3] {
				e.answers(20, 100*ms)
			}
		}, ""},
		{"slow beside none that has answered enough", func(p []Peer) { p[3].answers(20, 4000*ms) }, ""},
		{"one slow one is no measure for the others", func(p []Peer) {
			p[0].answers(20, 10*ms)
			p[1].answers(20, 10*ms)
			p[2].answers(20, 4000*ms)
			p[3].answers(20, 3000*ms)
		}, "2 slow, 3 spared"},
		{"one that is down already, and gets requests in a panic", func(p []Peer) { p[0].Healthy = false; p[0].fails(5) }, "0 failures_in_a_row"},
		{"one that is down already does not fail in a row", func(p []Peer) {
			p[0].Healthy = false
			for range 20 {
				p[0].fails(1)
				p[0].answers(1, 9*s)
				p[1].answers(1, ms)
			}
		}, ""},
		{"those that are down take no room", func(p []Peer) {
			for i := range p[:3] {
				p[i].Healthy = i == 2
				p[i].fails(5)
			}
		}, "0 failures_in_a_row, 1 failures_in_a_row, 2 spared"},
		{"who fails goes before who is slow", func(p []Peer) {
			p[0].answers(20, 4000*ms)
			p[1].fails(5)
			p[2].answers(20, ms)
			p[3].answers(20, ms)
		}, "1 failures_in_a_row, 0 spared"},
	} {
		p := pool(4)
		tc.do(p)
		r := rules()
		if got := told(r.Judge(s, p)); got != tc.want {
			t.Errorf("%s: %s; want %s", tc.name, got, tc.want)
		}
	}
}

// Each rule can be turned off.
func TestRulesThatAreOff(t *testing.T) {
	r := rules()
	r.Row, r.Percent, r.Factor = 0, 0, 0
	p := pool(4)
	p[0].fails(100)
	p[1].answers(100, 9*s)
	p[2].answers(100, ms)
	if got := told(r.Judge(s, p)); got != "" {
		t.Error(got)
	}
	r = rules()
	r.MaxPercent = 0
	p[0].fails(100)
	if got := told(r.Judge(2*s, p)); got != "0 spared, 1 spared" {
		t.Error(got)
	}
}

// Whatever fails, ejections end at their share, at the panic threshold, and
// before the last endpoint.
func TestEjectionsAreBounded(t *testing.T) {
	for _, tc := range []struct {
		n, down, percent, panic int
		want                    int
	}{
		{10, 0, 30, 50, 3},
		{10, 0, 100, 50, 5},
		{10, 0, 100, 0, 9},
		{10, 4, 100, 50, 1}, // six are healthy, five must be
		{10, 5, 100, 50, 0},
		{3, 0, 30, 50, 1}, // one may always be
		{2, 0, 30, 50, 1},
		{2, 0, 30, 51, 0},
		{1, 0, 100, 0, 0}, // never the last
		{10, 0, 0, 0, 0},
	} {
		p := pool(tc.n)
		for i := range p {
			p[i].Healthy = i >= tc.down
			p[i].fails(5)
		}
		r := rules()
		r.MaxPercent, r.Panic = tc.percent, tc.panic
		for now := s; now < 20*s; now += s {
			r.Judge(now, p)
			for _, e := range p {
				e.fails(5)
			}
		}
		out := 0
		for _, e := range p {
			if e.out && e.Healthy {
				out++
			}
		}
		if out != tc.want {
			t.Errorf("%+v: %d ejected", tc, out)
		}
	}
}

// Endpoints that refuse connections are gone: all are ejected but the last,
// whatever the bounds; one refusal among other failures does not make one gone.
func TestEndpointsThatAreGone(t *testing.T) {
	p, r := pool(4), rules()
	for i := range p {
		for range 5 {
			p[i].Record(Refused, 0)
		}
	}
	if got := told(r.Judge(s, p)); got != "0 failures_in_a_row, 1 failures_in_a_row, 2 failures_in_a_row, 3 spared" {
		t.Error(got)
	}
	p = pool(2)
	r.Panic = 60
	p[0].fails(4)
	for range 4 {
		p[0].Record(Refused, 0)
	}
	if got := told(r.Judge(s, p)); got != "0 spared" {
		t.Errorf("eight failures, four of them refusals: %s", got)
	}
	p[0].Record(Success, ms)
	p[0].Record(Refused, 0)
	if n := p[0].refused.Load(); n != 1 {
		t.Errorf("%d refusals after an answer", n)
	}
}

// The bound holds by weight: a heavy endpoint is more of the pool.
func TestTheFloorIsByWeight(t *testing.T) {
	p := pool(3)
	p[0].Weight = 300
	p[0].fails(5)
	r := rules()
	if got := told(r.Judge(s, p)); got != "0 spared" {
		t.Error(got)
	}
}

// Each ejection that follows soon is twice as long, up to the longest; one that
// keeps well is forgotten step by step.
func TestEjectionsGrowAndAreForgotten(t *testing.T) {
	p, r := pool(4), rules()
	r.Longest = 100 * s
	now := time.Hour
	for _, want := range []time.Duration{30 * s, 60 * s, 100 * s, 100 * s} {
		p[0].fails(5)
		d := r.Judge(now, p)
		if told(d) != "0 failures_in_a_row" || d[0].Until-now != want || d[0].InARow != 5 {
			t.Fatalf("%+v, want an ejection of %v", d, want)
		}
		p[0].fails(5) // tries that were under way
		if got := told(r.Judge(d[0].Until-1, p)); got != "" {
			t.Errorf("before the end: %s", got)
		}
		if got := told(r.Judge(d[0].Until, p)); got != "0 returned" {
			t.Errorf("at the end: %s", got)
		}
		now = d[0].Until + s
	}
	for range 4 {
		now += 100 * s
		r.Judge(now, p)
	}
	p[0].fails(5)
	if d := r.Judge(now, p); len(d) != 1 || d[0].Until-now != 30*s {
		t.Errorf("long after: %+v", d)
	}
}

// Samples leave the window.
func TestTheWindowMovesOn(t *testing.T) {
	p, r := pool(4), rules()
	r.Row = 0
	for i := range 30 {
		now := time.Duration(i) * s
		if i < 5 {
			p[0].fails(3)
		} else {
			p[0].answers(1, ms)
		}
		r.Judge(now, p)
	}
	if got := p[0].sum(); got.failures != 0 || got.answers < 9 || got.answers > 11 {
		t.Errorf("after half a minute: %+v", got)
	}
	r.Judge(time.Hour, p)
	if got := p[0].sum(); got != (slot{}) {
		t.Errorf("after an hour of nothing: %+v", got)
	}
}

func TestRecordsFromManyGoroutines(t *testing.T) {
	p, r := pool(4), rules()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				p[0].Record(Success, ms)
				p[1].Record(Failure, 0)
			}
		})
	}
	wg.Wait()
	d := r.Judge(s, p)
	if told(d) != "1 failures_in_a_row" || d[0].InARow != 8000 || d[0].Failed != 1 {
		t.Errorf("%+v", d)
	}
	if got := p[0].sum(); got.answers != 8000 || got.mean() != ms {
		t.Errorf("%+v", got)
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	var e Endpoint
	if n := testing.AllocsPerRun(100, func() { e.Record(Success, ms); e.Record(Failure, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	e.Record(Refused, 0)
	if row, refused := e.Record(Refused, 0); row != 3 || refused != 2 {
		t.Errorf("%d in a row", row)
	}
}

func BenchmarkRecord(b *testing.B) {
	var e Endpoint
	b.ReportAllocs()
	for b.Loop() {
		e.Record(Success, ms)
	}
}
