//go:build linux

package lab

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Figures are what a scenario measured; their JSON is what it prints.
type Figures struct {
	Scenario string   `json:"scenario"`
	Runs     int      `json:"runs"`
	Form     string   `json:"form"` // namespaces or loopback
	DNS      Series   `json:"dns_failover_ms"`
	BGP      Series   `json:"bgp_failover_ms"`
	Config   Series   `json:"config_ack_ms"`
	Requests Requests `json:"requests"`
	Queries  *Queries `json:"dns_queries,omitempty"` // store-loss only
}

// Series is a set of times in milliseconds, by its number, quantiles and
// greatest.
type Series struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`

	all []float64
}

// add takes one more time.
func (s *Series) add(d time.Duration) {
	s.all = append(s.all, float64(d.Microseconds())/1000)
	slices.Sort(s.all)
	s.N, s.P50, s.P99, s.Max = len(s.all), s.rank(0.5), s.rank(0.99), s.all[len(s.all)-1]
}

// rank gives a quantile by the nearest rank: a time that was measured.
func (s *Series) rank(q float64) float64 {
	return s.all[int(math.Ceil(q*float64(len(s.all))))-1]
}

// Requests counts the clients' requests.
type Requests struct {
	Total  int `json:"total"`
	Failed int `json:"failed"`
	// OtherRegions are failures of clients near another region than the one
	// that died.
	OtherRegions int `json:"failed_other_regions"`
	// Recovered is how long after a region's death the last request failed
	// that one of its cities made, each such city once for each death: the
	// rest of the answer's TTL and the detection together.
	Recovered Series   `json:"recovered_ms"`
	Failures  []string `json:"failures_other_regions,omitempty"`
}

// A tally follows the clients' results. Safe for concurrent use.
type tally struct {
	mu       sync.Mutex
	requests Requests
	dead     string               // region that is dead or coming back
	since    time.Time            // when it died
	broken   map[string]time.Time // last failure since then of each of its cities
	streak   map[string]int       // successes in a row, by city
	seen     map[string]result    // last result, by city
}

func newTally() *tally {
	return &tally{broken: map[string]time.Time{}, streak: map[string]int{}, seen: map[string]result{}}
}

// note takes one result.
func (t *tally) note(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests.Total++
	t.seen[r.city.ID] = r
	mine := t.dead != "" && r.city.Region == t.dead
	if r.err != nil {
		t.requests.Failed++
		t.streak[r.city.ID] = 0
		if mine {
			t.broken[r.city.ID] = r.at
		} else {
			t.requests.OtherRegions++
			if len(t.requests.Failures) < 20 {
				t.requests.Failures = append(t.requests.Failures, r.at.Format(time.TimeOnly+".000")+" "+r.city.ID+" "+r.name+": "+r.err.Error())
			}
		}
		return
	}
	t.streak[r.city.ID]++
}

// died begins the time in which failures near that region are its own; lived
// ends it.
func (t *tally) died(region string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead, t.since = region, time.Now()
	clear(t.broken)
	clear(t.streak)
}

func (t *tally) lived() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = ""
}

// recovered notes how long each city of the dead region went on failing.
func (t *tally) recovered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, last := range t.broken {
		t.requests.Recovered.add(max(0, last.Sub(t.since)))
	}
}

// calm says whether every city has had n successes in a row.
func (t *tally) calm(cities []City, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range cities {
		if t.streak[cities[i].ID] < n {
			return false
		}
	}
	return true
}

// reset counts from zero: what came before was the start.
func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = Requests{}
	clear(t.streak)
}

// counts gives the requests so far.
func (t *tally) counts() Requests {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests
}

// last gives each city's last result.
func (t *tally) last() map[string]result {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]result{}
	for k, v := range t.seen {
		out[k] = v
	}
	return out
}
