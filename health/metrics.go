package health

import (
	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// counters are the metrics that are counted as things happen; the others are
// read off the View when they are asked for.
type counters struct {
	frames     *prometheus.CounterVec
	flips      *prometheus.CounterVec
	stray      prometheus.Counter
	unresolved prometheus.Gauge
	abstaining prometheus.Gauge
}

func newCounters() counters {
	return counters{
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_health_frames_total",
			Help: "Health frames by what became of them: sent, taken, old, malformed, own_name, too_many."}, []string{"result"}),
		flips: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_health_flips_total",
			Help: "Changes of the fleet's verdict between known states, by kind of target."}, []string{"kind"}),
		stray: prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_health_stray_observations_total",
			Help: "Observations on targets that the Snapshot does not have this node watch."}),
		unresolved: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meridian_health_unresolved_observers",
			Help: "Live observers whose list of targets belongs to a Snapshot that this node does not know."}),
		abstaining: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meridian_health_abstaining_probers",
			Help: "Probers without a vote because they see every other region down."}),
	}
}

// Register offers the metrics; call it once for each registry.
func (h *Health) Register(r prometheus.Registerer) {
	c := &h.count
	r.MustRegister(c.frames, c.flips, c.stray, c.unresolved, c.abstaining, viewCollector{h})
}

type viewCollector struct{ h *Health }

var (
	descTargets = prometheus.NewDesc("meridian_health_targets",
		"Targets by kind and the fleet's verdict, as this node sees it.", []string{"kind", "state"}, nil)
	descAge = prometheus.NewDesc("meridian_health_frame_age_seconds",
		"Time since the last frame of a node.", []string{"node"}, nil)
	descRevision = prometheus.NewDesc("meridian_health_view_revision",
		"Number of changes of the View since this node started.", nil, nil)
)

func (viewCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descTargets
	ch <- descAge
	ch <- descRevision
}

func (c viewCollector) Collect(ch chan<- prometheus.Metric) {
	view := c.h.View()
	ch <- prometheus.MustNewConstMetric(descRevision, prometheus.GaugeValue, float64(view.Revision))
	type key struct {
		kind  fleet.TargetKind
		state fleet.State
	}
	n := map[key]int{}
	for _, t := range c.h.targets() {
		n[key{t.Kind, view.Get(t).State}]++
	}
	for k, count := range n {
		ch <- prometheus.MustNewConstMetric(descTargets, prometheus.GaugeValue, float64(count), kindName(k.kind), k.state.String())
	}
	for _, s := range c.h.Nodes() {
		if s.Age >= 0 {
			ch <- prometheus.MustNewConstMetric(descAge, prometheus.GaugeValue, s.Age, s.Node)
		}
	}
}

func (h *Health) targets() []fleet.Target {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.intent.targets
}

func kindName(k fleet.TargetKind) string {
	switch k {
	case fleet.TargetService:
		return "service"
	case fleet.TargetAnycast:
		return "anycast"
	case fleet.TargetNameserver:
		return "nameserver"
	case fleet.TargetGateway:
		return "gateway"
	case fleet.TargetEndpoint:
		return "endpoint"
	}
	return "unknown"
}
