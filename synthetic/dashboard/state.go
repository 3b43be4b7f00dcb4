package dashboard

import "time"

// State is all that the page shows at one moment, in the form in which the
// browser gets it. It is immutable once handed over.
type State struct {
	Fleet    string    `json:"fleet"`
	Node     string    `json:"node"`     // whose page and whose view this is
	Revision uint64    `json:"revision"` // of the Snapshot; 0 where it came from a file
	Hash     string    `json:"hash"`     // of the Snapshot
	Headline Headline  `json:"headline"`
	Regions  []Region  `json:"regions"` // in the Spec's order
	Services []Service `json:"services"`
	Matrix   []Matrix  `json:"matrix"`
	Nodes    []Node    `json:"nodes"`
	Shifts   []Shift   `json:"shifts"`
	Events   []Event   `json:"events"` // the latest, oldest first
}

// Health is the state of a region or of the fleet, in one word.
type Health string

// The words, from best to worst. Drained regions are meant to be so.
const (
	Up       Health = "up"
	Drained  Health = "drain"
	Unknown  Health = "unknown"
	Degraded Health = "degraded"
	Down     Health = "down"
)

// Headline is the one sentence that a glance must catch.
type Headline struct {
	State  Health    `json:"state"`
	Text   string    `json:"text"`
	Detail string    `json:"detail"`
	Since  time.Time `json:"since,omitzero"`
}

// Region is one site.
type Region struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	City     string    `json:"city"`
	Country  string    `json:"country"`
	Lat      float64   `json:"lat"`
	Lon      float64   `json:"lon"`
	X        float64   `json:"x"` // place on the map's plane, see Project
	Y        float64   `json:"y"`
	Capacity int       `json:"capacity"`
	State    Health    `json:"state"`
	Cause    string    `json:"cause"` // a fleet.Cause; empty while up
	Since    time.Time `json:"since,omitzero"`
	Note     string    `json:"note"`      // why the state is not up, for people
	FailedBy []string  `json:"failed_by"` // vantage regions that see one of its services fail
	Prober   bool      `json:"prober"`    // a live prober stands in it
	Tiers    []Tier    `json:"tiers"`
}

// Tier counts the parts of one tier of a region; those neither up nor down
// are unknown.
type Tier struct {
	Tier  string `json:"tier"` // dns, l4, l7 or endpoints
	Up    int    `json:"up"`
	Down  int    `json:"down"`
	Total int    `json:"total"`
}

// Service is one service and where its clients are steered.
type Service struct {
	Service  string              `json:"service"`
	Protocol string              `json:"protocol"`
	Hosts    []string            `json:"hosts"`
	Policy   string              `json:"policy"`
	Answer   string              `json:"answer"`
	FailOpen bool                `json:"fail_open"` // no region is left, so all are answered
	Steered  map[string][]string `json:"steered"`   // region to the ISO codes of its clients' countries
	Moved    map[string]string   `json:"moved"`     // countries that go elsewhere than the policy alone would send them: to the region it names
}

// Matrix is one target of every region as every prober sees it.
type Matrix struct {
	Name    string   `json:"name"`    // the service; "dns" for the nameservers
	DNS     bool     `json:"dns"`     // it is that of the nameservers
	Columns []string `json:"columns"` // region ids; "anycast" last where the service has such an address
	Rows    []Row    `json:"rows"`
}

// Row is one vantage's line, with a Cell for each column.
type Row struct {
	Vantage string `json:"vantage"`
	Live    bool   `json:"live"` // the prober is heard from
	Cells   []Cell `json:"cells"`
}

// Cell is what one vantage says of one target.
type Cell struct {
	State   Health    `json:"state"`
	Latency float64   `json:"latency_ms"` // smoothed round trip or check; 0 where not known
	Cause   string    `json:"cause"`
	Detail  string    `json:"detail"`
	Since   time.Time `json:"since,omitzero"`
}

// Node is one machine and what it runs.
type Node struct {
	Name     string    `json:"name"`
	Region   string    `json:"region"`
	Roles    []string  `json:"roles"`
	Admin    string    `json:"admin"`    // active, draining or disabled
	State    Health    `json:"state"`    // up, down or unknown
	Revision uint64    `json:"revision"` // acknowledged last
	Current  bool      `json:"current"`  // it runs the Snapshot shown here
	Error    string    `json:"error"`    // why it refused a revision
	Seen     time.Time `json:"seen,omitzero"`
}

// Shift is one override of steering in force.
type Shift struct {
	ID      string    `json:"id"`
	From    string    `json:"from"`
	To      []string  `json:"to"`
	Service string    `json:"service"`
	Share   float64   `json:"share"`
	Drain   bool      `json:"drain"`
	Expires time.Time `json:"expires,omitzero"`
	Reason  string    `json:"reason"`
}

// Event is one line of the timeline.
type Event struct {
	ID     uint64    `json:"id"` // grows by one; set by the Feed
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`   // health, steering, config, shift or bgp
	State  Health    `json:"state"`  // what it says of its target; empty for a neutral event
	Region string    `json:"region"` // may be empty
	Target string    `json:"target"` // a fleet.Target's text form; may be empty
	From   string    `json:"from"`
	To     string    `json:"to"`
	Cause  string    `json:"cause"`
	Text   string    `json:"text"` // the whole as one sentence
}

// Source gives the page its data. Its methods are called from several
// goroutines.
type Source interface {
	// State gives the current State; it is asked ten times a second at most.
	State() State
	// Subscribe has changed called after each change, until cancel is. It
	// must not block.
	Subscribe(changed func()) (cancel func())
}
