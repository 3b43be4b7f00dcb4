package fleet

import (
	"fmt"
	"time"
)

// State is what is known of a Target.
type State uint8

// The states. Drain is up for what it has and takes no new work.
const (
	Unknown State = iota
	Up
	Down
	Drain
)

// String gives unknown, up, down or drain.
func (s State) String() string {
	return [...]string{"unknown", "up", "down", "drain"}[s&3]
}

// MarshalText gives the same word for JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the same word.
func (s *State) UnmarshalText(b []byte) error {
	for v := Unknown; v <= Drain; v++ {
		if v.String() == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("%q is not a state", b)
}

// Cause is why a check failed, from a fixed list that fits four bits.
type Cause uint8

// The causes.
const (
	CauseNone        Cause = iota
	CauseTimeout           // no answer in time
	CauseRefused           // connection refused
	CauseReset             // connection reset or closed early
	CauseUnreachable       // no route, network or host unreachable
	CauseTLS               // handshake failed or certificate not trusted
	CauseCertExpired       // certificate out of its time
	CauseCertName          // certificate for another name
	CauseStatus            // HTTP status not as expected
	CauseBody              // HTTP body not as expected
	CauseRcode             // DNS answer with another RCODE
	CauseAnswer            // DNS answer without the records expected
	CauseProtocol          // the peer does not speak the protocol
	CauseQuorum            // the vantages' majority
	CauseForced            // an operator's word
	CauseOther
)

var causeNames = [16]string{"ok", "timeout", "refused", "reset", "unreachable", "tls", "cert_expired",
	"cert_name", "status", "body", "rcode", "answer", "protocol", "quorum", "forced", "other"}

// String gives the cause as one word; CauseNone is "ok".
func (c Cause) String() string { return causeNames[c&15] }

// MarshalText gives the same word for JSON.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the same word.
func (c *Cause) UnmarshalText(b []byte) error {
	for i, name := range causeNames {
		if name == string(b) {
			*c = Cause(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a cause", b)
}

// Observation is one probe result: an immutable fact.
type Observation struct {
	Target  Target
	Vantage string        // region of the prober, or name of the observing node
	Check   string        // which of the target's checks: rtt, tcp, https, dns, ready …
	Time    time.Time     // when the check ended
	OK      bool          // whether it passed
	Latency time.Duration // how long it took, for passed checks
	Cause   Cause         // why it failed
	Detail  string        // one line for people, without secrets
}

// Verdict is the debounced conclusion about a Target.
type Verdict struct {
	State   State         `json:"state"`
	Forced  bool          `json:"forced,omitempty"` // by an operator, not by observation
	Since   time.Time     `json:"since"`            // when this State began, on this node's clock
	Cause   Cause         `json:"cause"`
	Latency time.Duration `json:"latency_ns,omitempty"` // smoothed, 0 where not known
	Detail  string        `json:"detail,omitempty"`
}

// VantageTarget is a Target as seen from one vantage region (or node).
type VantageTarget struct {
	Vantage string
	Target  Target
}

// VantageVerdict is the verdict of one vantage, or of the fleet where Vantage
// is empty.
type VantageVerdict struct {
	VantageTarget
	Verdict Verdict
}

// View is all verdicts at one moment. It is immutable: whoever builds one
// hands over its maps and changes them no more. The zero View knows nothing.
type View struct {
	Revision uint64                    // grows by one with each change on this node
	At       time.Time                 // when it was concluded
	Verdicts map[Target]Verdict        // by majority of the live vantages
	Vantages map[VantageTarget]Verdict // as each vantage sees it
	Probers  map[string]bool           // vantage regions with a live prober
	Changed  []VantageVerdict          // what has another State (or is Forced or not) than in the View of Revision-1; nil where that is not known
}

// Get gives the fleet-wide verdict on t; unknown where there is none.
func (v *View) Get(t Target) Verdict {
	if v == nil {
		return Verdict{}
	}
	return v.Verdicts[t]
}

// From gives the verdict on t as seen from one vantage.
func (v *View) From(vantage string, t Target) Verdict {
	if v == nil {
		return Verdict{}
	}
	return v.Vantages[VantageTarget{vantage, t}]
}

// Shift is a temporary, bounded move of clients away from a region: an
// override that an operator lays over steering.
type Shift struct {
	ID      string    `json:"id"`
	From    string    `json:"from"`              // region that gives clients up
	Service string    `json:"service,omitempty"` // only this service; empty for all
	To      []string  `json:"to,omitempty"`      // where they go, in order; empty: as steering ranks
	Share   float64   `json:"share"`             // 0 to 1, of the region's clients
	Drain   bool      `json:"drain,omitempty"`   // also withdraw the region's announcements, softly
	Expires time.Time `json:"expires"`           // zero: until taken back
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
}

// Check says what is wrong with a shift in the fleet of s.
func (sh *Shift) Check(s *Snapshot) error {
	if s.Region(sh.From) == nil {
		return fmt.Errorf("from: region %q does not exist", sh.From)
	}
	if sh.Service != "" && s.Service(sh.Service) == nil {
		return fmt.Errorf("service: %q does not exist", sh.Service)
	}
	if !(sh.Share >= 0 && sh.Share <= 1) {
		return fmt.Errorf("share: %v is not between 0 and 1", sh.Share)
	}
	if sh.Drain && sh.Share != 1 {
		return fmt.Errorf("share: %v: a drain takes all clients, expected 1", sh.Share)
	}
	for i, to := range sh.To {
		if s.Region(to) == nil {
			return fmt.Errorf("to[%d]: region %q does not exist", i, to)
		}
		if to == sh.From {
			return fmt.Errorf("to[%d]: is the region that gives clients up", i)
		}
	}
	return nil
}

// Active says whether the shift holds at now.
func (sh *Shift) Active(now time.Time) bool { return sh.Expires.IsZero() || now.Before(sh.Expires) }
