package answer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"meridian/fleet"
	"meridian/steer"
)

// Moment is all that decisions depend on besides the Snapshot, its objects,
// the geo database and the query: with them, it makes the same plan again.
type Moment struct {
	Config    string                     `json:"config"`              // hash of the Snapshot
	Geo       string                     `json:"geo,omitempty"`       // the geo database, as it calls itself
	At        time.Time                  `json:"at"`                  // by which shifts have expired or not
	Revision  uint64                     `json:"revision"`            // of the View
	Probers   []string                   `json:"probers,omitempty"`   // vantages with a live prober
	Verdicts  []Seen                     `json:"verdicts,omitempty"`  // of services and anycast addresses, but for those that nothing is known of
	Shifts    []fleet.Shift              `json:"shifts,omitempty"`    // in force or not
	Latencies map[string]map[string]int8 `json:"latencies,omitempty"` // damped, from vantage to region, in steps
}

// Seen is one verdict, of the fleet or of one vantage.
type Seen struct {
	Vantage string           `json:"vantage,omitempty"`
	Kind    fleet.TargetKind `json:"kind"`
	Region  string           `json:"region,omitempty"`
	Service string           `json:"service"`
	State   fleet.State      `json:"state"`
	Forced  bool             `json:"forced,omitempty"`
}

// Hash names the moment by its content.
func (m *Moment) Hash() string {
	b, err := json.Marshal(m)
	if err != nil {
		panic("answer: a Moment holds only types that marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Moment gives the moment of a plan with a fleet.
func (p *Plan) Moment() (*Moment, error) {
	if p.world == nil {
		return nil, fmt.Errorf("the plan has no fleet: its answers depend on zones alone")
	}
	m := &Moment{Config: p.world.Snapshot.Hash, At: p.scene.At(), Shifts: p.world.Shifts, Latencies: p.scene.Latencies()}
	if p.source != nil {
		m.Geo = p.source.String()
	}
	v := p.scene.View()
	if v == nil {
		return m, nil
	}
	m.Revision = v.Revision
	for id, live := range v.Probers {
		if live {
			m.Probers = append(m.Probers, id)
		}
	}
	slices.Sort(m.Probers)
	add := func(vantage string, t fleet.Target, d fleet.Verdict) {
		if (t.Kind == fleet.TargetService || t.Kind == fleet.TargetAnycast) && d.State != fleet.Unknown {
			m.Verdicts = append(m.Verdicts, Seen{vantage, t.Kind, t.Region, t.Service, d.State, d.Forced})
		}
	}
	for t, d := range v.Verdicts {
		add("", t, d)
	}
	for k, d := range v.Vantages {
		add(k.Vantage, k.Target, d)
	}
	slices.SortFunc(m.Verdicts, func(a, b Seen) int {
		return cmp.Or(strings.Compare(a.Vantage, b.Vantage), cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Region, b.Region), strings.Compare(a.Service, b.Service))
	})
	return m, nil
}

// view gives the View that the moment tells of.
func (m *Moment) view() *fleet.View {
	v := &fleet.View{Revision: m.Revision, Verdicts: map[fleet.Target]fleet.Verdict{},
		Vantages: map[fleet.VantageTarget]fleet.Verdict{}, Probers: map[string]bool{}}
	for _, id := range m.Probers {
		v.Probers[id] = true
	}
	for _, s := range m.Verdicts {
		t, d := fleet.Target{Kind: s.Kind, Region: s.Region, Service: s.Service}, fleet.Verdict{State: s.State, Forced: s.Forced}
		if s.Vantage == "" {
			v.Verdicts[t] = d
		} else {
			v.Vantages[fleet.VantageTarget{Vantage: s.Vantage, Target: t}] = d
		}
	}
	return v
}

// AtMoment gives the plan as it was at a moment of the same Snapshot and geo
// database. The version of the zones is the caller's to see to.
func (p *Plan) AtMoment(m *Moment) (*Plan, error) {
	switch {
	case p.world == nil:
		return nil, fmt.Errorf("the plan has no fleet")
	case m.Config != p.world.Snapshot.Hash:
		return nil, fmt.Errorf("the moment is of the Spec with hash %.12s, this is %.12s", m.Config, p.world.Snapshot.Hash)
	case p.source == nil && m.Geo != "" || p.source != nil && m.Geo != p.source.String():
		return nil, fmt.Errorf("the moment is of another geo database: %s", m.Geo)
	}
	out := *p
	w := *p.world
	w.Shifts = m.Shifts
	out.world = &w
	out.scene = steer.Recalled(p.classes, m.Latencies)
	out.steering.cache = nil
	out.steer(m.view(), m.At)
	return out.Settle(), nil
}

// Record is one answer: enough to give it again.
type Record struct {
	Moment string     `json:"moment"` // its Hash
	Client netip.Addr `json:"client"`
	Port   uint16     `json:"port,omitempty"`
	Stream bool       `json:"stream,omitempty"`
	Crypt  bool       `json:"encrypted,omitempty"`
	Idle   int64      `json:"idle_ms,omitempty"`
	Now    uint32     `json:"now,omitempty"` // by which cookies are checked
	Turn   uint32     `json:"turn"`          // by which records rotate
	Query  []byte     `json:"query"`
	Answer []byte     `json:"answer"`
}

// Record notes the query that w has just answered.
func (w *Worker) Record(moment string, query []byte, c Client, answer []byte) Record {
	return Record{Moment: moment, Client: c.Addr, Port: c.Port, Stream: c.Stream, Crypt: c.Encrypted, Idle: c.Idle.Milliseconds(),
		Now: c.Now, Turn: w.scratch.turn, Query: bytes.Clone(query), Answer: bytes.Clone(answer)}
}

// Replay answers the query of a record again, by the plan of its moment: see
// AtMoment. Answers that hold a cookie come out the same only where the plan
// has the secrets of then.
func (p *Plan) Replay(r *Record) []byte {
	w := Worker{scratch: scratch{turn: r.Turn - 1}}
	out := make([]byte, MaxStream)
	n, _ := p.Answer(&w, r.Query, Client{Addr: r.Client, Port: r.Port, Stream: r.Stream, Encrypted: r.Crypt,
		Idle: time.Duration(r.Idle) * time.Millisecond, Now: r.Now}, out)
	return out[:n]
}

// LogLine is one line of a log of answers in JSON: a moment, or a record of
// one that stands before it.
type LogLine struct {
	Moment *Moment `json:"moment,omitempty"`
	Record *Record `json:"record,omitempty"`
}
