package xdp

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// stats is what an operator can count. It is safe for concurrent use, and a
// prometheus.Collector that reads the kernel's counters when asked.
type stats struct {
	mu       sync.Mutex
	kernel   *kernel // nil while detached
	mode     Mode
	vips     []vipStats
	rings    map[string]int // members in each group's ring
	members  map[ringState]int
	rules    map[ruleKey]uint32 // places of the rules' tallies
	changes  uint64             // of rings
	failures uint64             // of the reconciler
	checks   map[bool]uint64
	skipped  uint64          // checks that were not made
	told     uint64          // of them, those that the log tells of
	attacked map[string]bool // by a VIP's label; of those with a gate
	cookies  fleet.SynCookieMode
	works    bool // this node's part of them

	threshold int // SYNs a second from which on a VIP is under attack
}

// vipStats says whose traffic an entry of the table vip_stats is.
type vipStats struct {
	frontend
	index uint32
	gate  uint8
}

func newStats() *stats { return &stats{checks: map[bool]uint64{}, attacked: map[string]bool{}} }

func (s *stats) attached(k *kernel, mode Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kernel, s.mode = k, mode
}

// detached ends all reading of k's counters.
func (s *stats) detached(k *kernel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernel != k {
		return // another has taken its place
	}
	s.kernel, s.mode, s.vips, s.rings, s.members, s.rules = nil, "", nil, nil, nil, nil
}

func (s *stats) failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures++
}

func (s *stats) checked(o fleet.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[o.OK]++
}

// skip notes a check that was not made.
func (s *stats) skip() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skipped++
}

// newlySkipped gives how many checks were not made since it was last asked.
func (s *stats) newlySkipped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.skipped - s.told
	s.told = s.skipped
	return n
}

// applied notes what the reconciler has put in place.
func (s *stats) applied(r *reconciler, d *desired) {
	vips := make([]vipStats, 0, len(d.frontends))
	for _, f := range d.frontends {
		v := r.vips[f.key()]
		vips = append(vips, vipStats{f, v.Stats, v.Gate})
	}
	rings := make(map[string]int, len(r.rings))
	for id, e := range r.rings {
		rings[id] = len(e.history.Members())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vips, s.rings, s.members, s.rules = vips, rings, countMembers(r.members), maps.Clone(r.defended.index)
	s.threshold = d.cookies.Threshold
	s.changes += r.swaps
	r.swaps = 0
}

// guarded notes what SYN cookies this node is to make or take, and whether it
// can.
func (s *stats) guarded(mode fleet.SynCookieMode, works bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cookies, s.works = mode, works
}

// watch finds out which VIPs are under attack, and says which have come to be
// since the last time, or have ceased.
func (s *stats) watch(log *slog.Logger) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernel == nil {
		return nil
	}
	attacked := map[string]bool{}
	for _, v := range s.vips {
		if v.gate == uint8(edgeGateModeGATE_NONE) {
			continue
		}
		g, err := s.kernel.gate(v.index)
		if err != nil {
			return err
		}
		label, now := v.label(), g.attacked()
		attacked[label] = now
		switch was := s.attacked[label]; {
		case now && !was:
			log.Warn("flood: more SYNs than the threshold, answered with cookies", "vip", label, "service", v.service,
				"syns_per_second", perSecond(max(g.Syns, g.Before)), "threshold", s.threshold, "usual_packets_per_second", perSecond(g.Usual))
		case was && !now:
			log.Info("flood is over", "vip", label, "service", v.service)
		}
	}
	s.attacked = attacked
	return nil
}

var (
	descPackets = prometheus.NewDesc("meridian_l4_packets_total",
		"Packets by what became of them.", []string{"verdict", "reason"}, nil)
	descFlows = prometheus.NewDesc("meridian_l4_flow_lookups_total",
		"Packets by how their endpoint was found: safe (the ring alone tells), hit, new, unknown (begun before; the gateway passes it on if it is not its own), moved (the flow's endpoint is gone), fragment (after its first), fragment_row (no first was seen), quic (by its connection id); and evicted: flows that had gone on and lost their record to another, since the table was full.", []string{"result"}, nil)
	descChances = prometheus.NewDesc("meridian_l4_chances_total",
		"Packets at unsafe slots, on a gateway, that it does not pass on: mine (of a connection it has, or beginning), none (no former owner is left).", []string{"result"}, nil)
	descCookies = prometheus.NewDesc("meridian_l4_syn_cookies_total",
		"Packets by SYN cookie: valid (a balancer met one, and keeps the flow), stranger (under attack, of no known flow and without one, let through as usual), accepted (a gateway made a connection of it), refused (its kernel would not).", []string{"result"}, nil)
	descAttacked = prometheus.NewDesc("meridian_l4_under_attack",
		"1 while SYNs for a VIP are answered with cookies, because there are so many.", []string{"vip", "service"}, nil)
	descCookieMode = prometheus.NewDesc("meridian_l4_syn_cookies_work",
		"1 if this node can do its part of what the Spec says of SYN cookies, by mode.", []string{"mode"}, nil)
	descVIPPackets = prometheus.NewDesc("meridian_l4_vip_packets_total",
		"Packets for a VIP.", []string{"vip", "service"}, nil)
	descVIPBytes = prometheus.NewDesc("meridian_l4_vip_bytes_total",
		"Octets of IP packets for a VIP, before encapsulation.", []string{"vip", "service"}, nil)
	descRings = prometheus.NewDesc("meridian_l4_ring_members",
		"Members that get new flows.", []string{"group"}, nil)
	descMembers = prometheus.NewDesc("meridian_l4_members",
		"Gateways and endpoints of each ring by state: joining, active, draining, failed (edge members).", []string{"group", "state"}, nil)
	descChanges = prometheus.NewDesc("meridian_l4_ring_changes_total",
		"Rings put in place.", nil, nil)
	descFailures = prometheus.NewDesc("meridian_l4_reconcile_failures_total",
		"Failed attempts to bring the kernel's tables in line.", nil, nil)
	descChecks = prometheus.NewDesc("meridian_l4_checks_total",
		"Checks of gateways and endpoints through the VIP: ok, failed, skipped (not made, since all ports of their kind were in use).", []string{"result"}, nil)
	descAttached = prometheus.NewDesc("meridian_l4_attached",
		"1 while the program is at the device, by mode.", []string{"mode"}, nil)
)

// Register registers the metrics.
func (l *Layer4) Register(r prometheus.Registerer) {
	r.MustRegister(l.stats)
}

// Describe lists the metrics.
func (s *stats) Describe(out chan<- *prometheus.Desc) {
	for _, d := range append(descsDefence(), descPackets, descFlows, descChances, descCookies, descAttacked, descCookieMode, descVIPPackets, descVIPBytes, descRings, descMembers,
		descChanges, descFailures, descChecks, descAttached) {
		out <- d
	}
}

// Collect reads them.
func (s *stats) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(descChanges, s.changes)
	count(descFailures, s.failures)
	for result, n := range map[string]uint64{"ok": s.checks[true], "failed": s.checks[false], "skipped": s.skipped} {
		count(descChecks, n, result)
	}
	if s.kernel == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descAttached, 1, string(s.mode))
	for id, n := range s.rings {
		gauge(descRings, float64(n), id)
	}
	for of, n := range s.members {
		gauge(descMembers, float64(n), of.ring, string(of.state))
	}
	if s.cookies != "" && s.cookies != fleet.CookiesOff {
		gauge(descCookieMode, one(s.works), string(s.cookies))
	}
	s.collectReasons(out, count)
	for _, v := range s.vips {
		if v.gate != uint8(edgeGateModeGATE_NONE) {
			gauge(descAttacked, one(s.attacked[v.label()]), v.label(), v.service)
		}
		t, err := s.kernel.traffic(v.index)
		if err != nil {
			out <- prometheus.NewInvalidMetric(descVIPPackets, err)
			continue
		}
		labels := []string{v.label(), v.service}
		count(descVIPPackets, t.Packets, labels...)
		count(descVIPBytes, t.Octets, labels...)
	}
	s.collectDefence(out, count)
}

// one gives 1 for what is so.
func one(so bool) float64 {
	if so {
		return 1
	}
	return 0
}

// collectReasons reads what became of packets; the caller holds the lock, and
// there is a kernel.
func (s *stats) collectReasons(out chan<- prometheus.Metric, count func(*prometheus.Desc, uint64, ...string)) {
	counters, err := s.kernel.counters()
	if err != nil {
		out <- prometheus.NewInvalidMetric(descPackets, err)
	}
	of := map[string]*prometheus.Desc{"flow": descFlows, "chance": descChances, "cookie": descCookies}
	for reason, n := range counters {
		verdict, rest, _ := strings.Cut(reason, "_")
		if d, beside := of[verdict]; beside {
			count(d, n, rest)
			continue
		}
		count(descPackets, n, verdict, rest)
	}
}

// label names a VIP, as tcp/192.0.2.1:443 or udp/192.0.2.0/28:53; port 0 stands
// for all that are left.
func (f frontend) label() string {
	proto := "tcp"
	if f.proto == protoUDP {
		proto = "udp"
	}
	if f.bits > 0 {
		return fmt.Sprintf("%s/%s:%d", proto, netip.PrefixFrom(f.addr, f.bits), f.port)
	}
	return proto + "/" + netip.AddrPortFrom(f.addr, f.port).String()
}

// counters sums each reason's packets over all CPUs.
func (k *kernel) counters() (map[string]uint64, error) {
	out := make(map[string]uint64, len(k.reasons))
	for i, name := range k.reasons {
		var perCPU []uint64
		if err := k.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read counter %s: %w", name, err)
		}
		for _, n := range perCPU {
			out[name] += n
		}
	}
	return out, nil
}

// traffic sums a VIP's traffic over all CPUs.
func (k *kernel) traffic(index uint32) (edgeTraffic, error) {
	var perCPU []edgeTraffic
	if err := k.VipStats.Lookup(index, &perCPU); err != nil {
		return edgeTraffic{}, fmt.Errorf("read traffic %d: %w", index, err)
	}
	var sum edgeTraffic
	for _, t := range perCPU {
		sum.Packets += t.Packets
		sum.Octets += t.Octets
	}
	return sum, nil
}
