package why

import (
	"encoding/json"
	"net/netip"
	"slices"

	"meridian/edge/l7/balance"
)

// Report is what one gateway did with one request, up to the head of its
// answer. Times are in microseconds.
type Report struct {
	Region   string         `json:"region"`
	Node     string         `json:"node"`
	Revision uint64         `json:"revision"` // of the Snapshot
	ID       string         `json:"request_id"`
	Trace    string         `json:"trace,omitempty"` // the trace's id, where gateways take part in traces
	Client   netip.Addr     `json:"client"`          // whose request it is, as those in front of the gateway tell who may
	Peer     netip.AddrPort `json:"peer"`            // where the connection comes from
	VIP      netip.AddrPort `json:"vip"`
	Proto    string         `json:"proto"`
	RTT      int64          `json:"rtt_us,omitempty"`     // to the peer and back, as TCP has found it; 0: not known
	Arrival  int64          `json:"arrival_us,omitempty"` // from the device to the gateway; 0: not measured
	Slot     *Slot          `json:"slot,omitempty"`       // of layer 4; nil: this node does not know

	Host    string   `json:"host"` // in the routing table's form
	Service string   `json:"service,omitempty"`
	Route   *Route   `json:"route,omitempty"`
	Pool    string   `json:"pool,omitempty"`
	Policy  string   `json:"policy,omitempty"` // how the pool's endpoints are picked
	Filters []Filter `json:"filters,omitempty"`

	Candidates []balance.Candidate `json:"candidates,omitempty"` // before the first try
	More       int                 `json:"more,omitempty"`       // candidates that there was no room for
	Tries      []Try               `json:"tries,omitempty"`

	Status int    `json:"status"`
	Flag   string `json:"flag,omitempty"` // whose fault it was, in the access log's letters
	Timers Timers `json:"timers"`
}

// Slot is where layer 4 has the client's flow.
type Slot struct {
	Service string `json:"service"`
	Ring    string `json:"ring"`
	Slot    int    `json:"slot"`
	Slots   int    `json:"slots"`
	Owner   string `json:"owner,omitempty"`   // of the slot
	GoesTo  string `json:"goes_to,omitempty"` // which may be another: see Reason
	Reason  string `json:"reason"`
}

// Route is the route that a request takes.
type Route struct {
	Name   string  `json:"name,omitempty"`  // "": none takes the request
	Place  string  `json:"place,omitempty"` // in the service
	Asks   string  `json:"asks,omitempty"`  // what the request has that the route asks for
	Passed []Other `json:"passed_over,omitempty"`
}

// Other is a route that goes before the one taken, and does not match.
type Other struct {
	Name string `json:"name"`
	Why  string `json:"why_not"`
}

// Filter is one thing that could have held the request up, and what it did.
type Filter struct {
	Name     string `json:"name"`
	Decision string `json:"decision"`
}

// Try is one try at an endpoint, or at another region's gateways.
type Try struct {
	Endpoint string `json:"endpoint"`
	Region   string `json:"region,omitempty"` // that other region
	Outcome  string `json:"outcome"`
	Status   int    `json:"status,omitempty"` // of its answer, if there was one
	Reused   bool   `json:"reused,omitempty"` // on a connection that was there
	Begin    int64  `json:"begin_us"`         // since the request's begin
	Connect  int64  `json:"connect_us"`       // until it had a connection
	Answer   int64  `json:"answer_us"`        // from then to the answer's head

	Gateway *Report `json:"gateway,omitempty"` // what that other region's gateway tells
}

// Timers say whose time it was. Total is their sum.
type Timers struct {
	Wait    int64 `json:"wait_us"`    // before the last try began
	Connect int64 `json:"connect_us"` // of the last try
	Answer  int64 `json:"answer_us"`  // of the last try
	Total   int64 `json:"total_us"`   // from the request's head to the answer's
}

// MaxOctets bounds a report, so that clients take the field.
const MaxOctets = 6 << 10

// Encode gives the report as one line of ASCII of at most MaxOctets. It leaves
// out what there is no room for: routes passed over, candidates, the last ones
// first, then tries, the first ones first.
func (r *Report) Encode() []byte {
	cut := r.copy()
	for {
		b, err := json.Marshal(cut)
		if err != nil {
			return []byte(`{}`) // no value of these types fails
		}
		if b = ascii(b); len(b) <= MaxOctets {
			return b
		}
		if !cut.shrink() {
			return []byte(`{}`)
		}
	}
}

// copy copies what shrink changes.
func (r *Report) copy() *Report {
	out := *r
	if r.Route != nil {
		route := *r.Route
		out.Route = &route
	}
	out.Tries = slices.Clone(r.Tries)
	for i := range out.Tries {
		if t := &out.Tries[i]; t.Gateway != nil {
			t.Gateway = t.Gateway.copy()
		}
	}
	return &out
}

// shrink leaves something out; false: there is nothing left to leave out.
func (r *Report) shrink() bool {
	if r.Route != nil && len(r.Route.Passed) > 0 {
		r.Route.Passed = r.Route.Passed[:len(r.Route.Passed)/2]
		return true
	}
	if n := len(r.Candidates); n > 0 {
		r.Candidates, r.More = r.Candidates[:n/2], r.More+n-n/2
		return true
	}
	for i := range r.Tries {
		if g := r.Tries[i].Gateway; g != nil && g.shrink() {
			return true
		}
	}
	n := len(r.Tries)
	r.Tries = r.Tries[n-n/2:]
	return n > 0
}

// ascii writes what is beyond ASCII as JSON's escapes.
func ascii(b []byte) []byte {
	plain := true
	for _, c := range b {
		plain = plain && c < 0x7f
	}
	if plain {
		return b
	}
	const digits = "0123456789abcdef"
	var out []byte
	for _, r := range string(b) {
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r < 0x10000:
			out = append(out, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		default:
			out = append(out, '?')
		}
	}
	return out
}
