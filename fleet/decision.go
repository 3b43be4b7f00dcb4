package fleet

import (
	"net/netip"
	"time"
)

// Decision is where one client is sent, and why.
type Decision struct {
	Service string        `json:"service"`
	Policy  string        `json:"policy"`
	Answer  AnswerKind    `json:"answer"`
	Regions []string      `json:"regions"` // chosen, best first; empty only when failing closed
	Ranked  []string      `json:"ranked"`  // every candidate in the policy's order, health left aside
	TTL     time.Duration `json:"ttl_ns"`
	Sliced  bool          `json:"sliced"` // depends on the client's /24 or /48 as well as its class
	Reasons []Reason      `json:"reasons"`
}

// ReasonCode is the type of one step towards a Decision.
type ReasonCode string

// The reasons, in the order in which a decision meets them.
const (
	ReasonPolicy    ReasonCode = "policy"     // which policy ranked the candidates
	ReasonDefault   ReasonCode = "default"    // the client's place is not known
	ReasonRank      ReasonCode = "rank"       // a candidate's place in the order
	ReasonDown      ReasonCode = "down"       // a candidate left out: its verdict is down
	ReasonUnknown   ReasonCode = "unknown"    // a candidate kept although nothing is known of it
	ReasonShift     ReasonCode = "shift"      // a candidate passed over by a Shift
	ReasonNoVIP     ReasonCode = "no_vip"     // a candidate without an address of the kind
	ReasonAnycast   ReasonCode = "anycast"    // the anycast address fails for the client's vantage: regional instead
	ReasonAllDown   ReasonCode = "all_down"   // health leaves none
	ReasonFailOpen  ReasonCode = "fail_open"  // so all are served as if healthy
	ReasonFailClose ReasonCode = "fail_close" // so no address is served
	ReasonFallback  ReasonCode = "fallback"   // so what the policy names for the case is served
	ReasonSpill     ReasonCode = "spill"      // a region passed over: it has no room for this client
	ReasonChosen    ReasonCode = "chosen"     // a region in the answer
)

// Reason is one typed step towards a Decision. The steps of a tree of groups
// stand in the order in which it is walked, those of a group one deeper than
// what named it.
type Reason struct {
	Code   ReasonCode `json:"code"`
	Region string     `json:"region,omitempty"` // a region, or a group where a group is ranked
	Detail string     `json:"detail,omitempty"`
	Group  string     `json:"group,omitempty"` // the group that the step belongs to; empty for the service's own policy
	Depth  int        `json:"depth,omitempty"` // of the group in the tree
}

// Advertisement is one prefix to announce, and why.
type Advertisement struct {
	Prefix      netip.Prefix
	Communities []uint32 // RFC 1997 values; 0xFFFF0000 is GRACEFUL_SHUTDOWN (RFC 8326)
	MED         uint32
	Prepend     int // times the own ASN is repeated
	Reason      string
}
