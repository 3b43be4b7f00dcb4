package server

import (
	"testing"
	"time"

	"meridian/dns/limit"
	"meridian/fleet"
)

// fakeFast stands for what needs rights and a device: each call of Serve waits
// for the test to take it.
type fakeFast struct {
	served chan *Serving
	table  limit.Table
}

func (f *fakeFast) Serve(s *Serving) error { f.served <- s; return nil }
func (f *fakeFast) Close() error           { close(f.served); return nil }
func (f *fakeFast) Debts() *limit.Table    { return &f.table }
func (f *fakeFast) Answered() Answered {
	return Answered{Queries: 5, Rcodes: [16]uint64{0: 3, 3: 1}, Types: map[uint16]uint64{1: 4}, Zones: map[fleet.Name]uint64{"demo.test.": 4}, Limited: 1}
}

// What answers ahead of the sockets is told of all that changes, of settings
// without a new plan too; rate limits made anew go by its debts; and what it
// answers is in the metrics.
func TestFastIsKeptInLine(t *testing.T) {
	fast := &fakeFast{served: make(chan *Serving), table: limit.Table{Sets: make([]limit.Set, 1), Start: time.Now()}}
	s := start(t, func(c *Config) { c.Fast = fast })
	t.Cleanup(func() { // runs before the server's end is waited for
		go func() {
			for range fast.served {
			}
		}()
	})
	for _, rate := range []int{0, 20, 30} {
		d := fleet.DNS{RateLimit: fleet.RateLimit{PerSecond: &rate}}
		if err := s.Configure(&d, nil); err != nil {
			t.Fatal(err)
		}
		if rate == 0 && len(s.fastChanged) == 0 { // the first call is under way
			t.Fatal("nothing is told of other settings before the next second")
		}
		var told *Serving
		for range 3 { // one may have been under way, and one goes by debts of its own
			s.pokeFast()
			told = <-fast.served
		}
		switch {
		case rate == 0 && told.Limit != nil:
			t.Error("told of a rate limit where there is none")
		case rate > 0 && (told.Limit == nil || told.Limit.Config().PerSecond != rate || told.Limit.Table() != &fast.table):
			t.Errorf("rate limit %d: told of %v", rate, told.Limit)
		}
	}
	got := gather(t, s)
	for name, want := range map[string]float64{
		"meridian_dns_queries_total udp":                5,
		"meridian_dns_responses_total NXDOMAIN udp":     1,
		"meridian_dns_queries_by_type_total A":          4,
		"meridian_dns_queries_by_type_total other":      1,
		"meridian_dns_queries_by_zone_total demo.test.": 4,
		"meridian_dns_rate_limited_total dropped":       1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
