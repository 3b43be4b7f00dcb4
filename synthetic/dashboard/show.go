package dashboard

import (
	"math"
	"slices"
	"time"

	"meridian/fleet"
)

// Input is what Show works a State out from.
type Input struct {
	Node     string       // this node's name
	World    *fleet.World // nil before the first
	View     *fleet.View  // nil before the first
	Steering []Steering   // at most one for each service
	Nodes    map[string]NodeStatus
	Now      time.Time
}

// Steering is where the clients of one service go.
type Steering struct {
	Service  string
	Chosen   map[string]string // ISO country code to the id of the region that clients there get
	Home     map[string]string // the same with health and shifts left aside; may be nil
	FailOpen bool              // health leaves no region, so all are served
}

// NodeStatus is what this node knows of another, or of itself.
type NodeStatus struct {
	Alive    bool      // it is heard from
	Seen     time.Time // when it was heard from last; zero where not known
	Revision uint64    // Snapshot acknowledged last
	Hash     string    // of that Snapshot; empty where not known
	Error    string    // why it refused a later one
}

// Show works out what the page shows. It is a pure function; Events stays
// empty.
func Show(in Input) State {
	st := State{Node: in.Node, Regions: []Region{}, Services: []Service{}, Matrix: []Matrix{}, Nodes: []Node{},
		Shifts: []Shift{}, Events: []Event{}}
	if in.World != nil && in.World.Snapshot != nil {
		s := in.World.Snapshot
		st.Fleet, st.Revision, st.Hash = s.Spec.Fleet, s.Revision, s.Hash
		st.Shifts = in.shifts()
		for i := range s.Spec.Regions {
			st.Regions = append(st.Regions, in.region(&s.Spec.Regions[i]))
		}
		for i := range s.Spec.Services {
			st.Services = append(st.Services, in.service(&s.Spec.Services[i]))
		}
		for i := range s.Spec.Nodes {
			st.Nodes = append(st.Nodes, in.node(&s.Spec.Nodes[i]))
		}
		st.Matrix = in.matrices()
	}
	st.Headline = headline(&st)
	return st
}

func (in *Input) snapshot() *fleet.Snapshot { return in.World.Snapshot }

func (in *Input) shifts() []Shift {
	out := []Shift{}
	for _, sh := range in.World.Shifts {
		if sh.Active(in.Now) {
			out = append(out, Shift{ID: sh.ID, From: sh.From, To: some(sh.To), Service: sh.Service, Share: sh.Share,
				Drain: sh.Drain, Expires: sh.Expires, Reason: sh.Reason})
		}
	}
	return out
}

func (in *Input) service(s *fleet.Service) Service {
	out := Service{Service: s.Service, Protocol: string(s.Protocol), Hosts: some(s.Hosts),
		Policy: string(s.Steering.Policy), Answer: string(s.Steering.Answer),
		Steered: map[string][]string{}, Moved: map[string]string{}}
	for _, st := range in.Steering {
		if st.Service != s.Service {
			continue
		}
		out.FailOpen = st.FailOpen
		for country, region := range st.Chosen {
			out.Steered[region] = append(out.Steered[region], country)
			if home := st.Home[country]; home != "" && home != region {
				out.Moved[country] = home
			}
		}
	}
	for _, countries := range out.Steered {
		slices.Sort(countries)
	}
	return out
}

func (in *Input) node(n *fleet.Node) Node {
	out := Node{Name: n.Name, Region: n.Region, Roles: []string{}, Admin: string(n.State), State: Unknown}
	for _, r := range n.Roles {
		out.Roles = append(out.Roles, string(r))
	}
	status, ok := in.Nodes[n.Name]
	if !ok {
		return out
	}
	out.State = Down
	if status.Alive {
		out.State = Up
	}
	s := in.snapshot()
	out.Revision, out.Error, out.Seen = status.Revision, status.Error, status.Seen.Truncate(time.Second)
	out.Current = status.Revision == s.Revision && (status.Hash == "" || status.Hash == s.Hash)
	return out
}

// matrices gives one Matrix for each service, then that of the nameservers.
func (in *Input) matrices() []Matrix {
	type key struct {
		dns  bool
		name string
	}
	seen := map[key]int{}
	out := []Matrix{}
	for _, t := range in.snapshot().ProbedTargets("") {
		k, column := key{name: t.Service}, t.Region
		switch t.Kind {
		case fleet.TargetNameserver:
			k = key{true, "dns"}
		case fleet.TargetAnycast:
			column = "anycast"
		}
		i, ok := seen[k]
		if !ok {
			i = len(out)
			seen[k] = i
			out = append(out, Matrix{Name: k.name, DNS: k.dns, Rows: in.rows()})
		}
		out[i].Columns = append(out[i].Columns, column)
		for r := range out[i].Rows {
			row := &out[i].Rows[r]
			row.Cells = append(row.Cells, in.cell(row.Vantage, t))
		}
	}
	return out
}

// rows lists the vantages: the regions with a prober.
func (in *Input) rows() []Row {
	out := []Row{}
	for _, r := range in.snapshot().Spec.Regions {
		if len(in.snapshot().NodesWith(r.ID, fleet.RoleProbe)) > 0 {
			out = append(out, Row{Vantage: r.ID, Live: in.prober(r.ID)})
		}
	}
	return out
}

func (in *Input) prober(region string) bool { return in.View != nil && in.View.Probers[region] }

func (in *Input) cell(vantage string, t fleet.Target) Cell {
	v := in.View.From(vantage, t)
	c := Cell{State: word(v.State), Since: v.Since, Detail: v.Detail}
	if v.State == fleet.Down {
		c.Cause = v.Cause.String()
	} else if v.State != fleet.Unknown {
		c.Latency = millis(v.Latency)
	}
	return c
}

// word gives a verdict's state as the page's word.
func word(s fleet.State) Health {
	return [...]Health{fleet.Unknown: Unknown, fleet.Up: Up, fleet.Down: Down, fleet.Drain: Drained}[s&3]
}

// millis rounds a latency to what a person can use, so that noise alone does
// not change the State.
func millis(d time.Duration) float64 {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return round1(ms)
	}
	return math.Round(ms)
}

func round1(v float64) float64 { return math.Round(v*10) / 10 }

// some makes JSON write an empty list for none.
func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
