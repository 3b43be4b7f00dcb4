package controlplane

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is what a replica knows of itself and of every node.
type Status struct {
	Node     string    `json:"node"`
	Revision uint64    `json:"revision"`         // served here; 0: none yet
	Hash     string    `json:"hash,omitempty"`   // of the complete Spec
	Since    time.Time `json:"since,omitzero"`   // served since
	Source   string    `json:"source,omitempty"` // store, disk or file
	Stored   uint64    `json:"stored"`           // current in the store, as last seen
	Problem  string    `json:"problem,omitempty"`
	// ZoneProblems are zones that could not be made anew, or that resolvers take
	// for bogus; 100 at most.
	ZoneProblems []ZoneProblem `json:"zone_problems,omitempty"`
	Store        StoreHealth   `json:"store"`
	Nodes        []Ack         `json:"nodes"`
	History      []Revision    `json:"history"`
}

// Status gives the present state.
func (c *ControlPlane) Status() Status {
	c.mu.Lock()
	w := c.world
	st := Status{Node: c.cfg.Node, Since: c.since, Source: c.source, Stored: c.stored.Revision,
		Problem: c.problem, ZoneProblems: zoneProblems(c.stored.Problems), History: c.stored.History, Nodes: []Ack{}}
	c.mu.Unlock()
	st.Store = c.cfg.Store.Health()
	if w != nil {
		st.Revision, st.Hash = w.Snapshot.Revision, w.Snapshot.Hash
		st.Nodes = c.ledger.nodes(w.Snapshot)
	}
	if st.Store.File != "" { // this node alone is served
		st.Source = "file"
		st.Nodes = slices.DeleteFunc(st.Nodes, func(a Ack) bool { return a.Node != c.cfg.Node })
	}
	return st
}

// Ready says whether this replica has a World to serve.
func (c *ControlPlane) Ready() bool { return c.Current() != nil }

type metrics struct {
	nacks, derived, deriveErrors, zoneWrites prometheus.Counter
	ack, derive                              prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		derived:      counter("meridian_controlplane_derived_zones_total", "Zones that this replica has derived: given serials, aliases' addresses and signatures."),
		deriveErrors: counter("meridian_controlplane_derive_errors_total", "Times that zones could not be derived; those derived before stayed."),
		zoneWrites:   counter("meridian_controlplane_zone_writes_total", "Zones that the admin API and updates have written or removed through this replica."),
		derive: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "meridian_controlplane_derive_seconds", Help: "Time to derive what has changed.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30},
		}),
		nacks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "meridian_controlplane_nacks_total", Help: "Revisions that nodes connected here refused.",
		}),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "meridian_controlplane_ack_seconds",
			Help:    "From publishing a revision here to a node's ACK, for nodes connected here.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer, c *ControlPlane) {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	r.MustRegister(m.nacks, m.ack, m.derived, m.deriveErrors, m.zoneWrites, m.derive,
		gauge("meridian_controlplane_revision", "Revision served by this replica.", func() float64 { return float64(c.revision()) }),
		gauge("meridian_controlplane_store_connected", "1 while the store is reachable.", func() float64 {
			if c.cfg.Store.Health().Connected {
				return 1
			}
			return 0
		}),
		gauge("meridian_controlplane_zone_problems", "Zones that could not be made anew, or that resolvers take for bogus, as the leader has told.", func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(c.stored.Problems.Len())
		}),
		gauge("meridian_controlplane_nodes_stale", "Nodes of the Spec that have not acknowledged the revision served here.", func() float64 {
			stale := 0
			for _, a := range c.Status().Nodes {
				if a.Applied != c.revision() {
					stale++
				}
			}
			return float64(stale)
		}),
	)
}
