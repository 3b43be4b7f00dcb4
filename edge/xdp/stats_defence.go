package xdp

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descRulePackets = prometheus.NewDesc("meridian_l4_rule_packets_total",
		"Packets that a rule of the defence matched, by the rule's origin: spec, or node (edge rule add).", []string{"rule", "origin"}, nil)
	descRuleBytes = prometheus.NewDesc("meridian_l4_rule_bytes_total",
		"Octets of the IP packets that a rule matched.", []string{"rule", "origin"}, nil)
	descRuleDropped = prometheus.NewDesc("meridian_l4_rule_dropped_total",
		"Packets that a rule dropped.", []string{"rule", "origin"}, nil)
	descSampled = prometheus.NewDesc("meridian_l4_sampling_seen_total",
		"Packets seen while sampling was on.", nil, nil)
	descSamplesLost = prometheus.NewDesc("meridian_l4_samples_lost_total",
		"Samples beyond the budget, or that were not read in time.", nil, nil)
)

func descsDefence() []*prometheus.Desc {
	return []*prometheus.Desc{descRulePackets, descRuleBytes, descRuleDropped, descSampled, descSamplesLost}
}

// collectDefence reads the metrics of rules and samples; the caller holds the
// lock, and there is a kernel.
func (s *stats) collectDefence(out chan<- prometheus.Metric, count func(*prometheus.Desc, uint64, ...string)) {
	for key, index := range s.rules {
		t, err := s.kernel.tally(index)
		if err != nil {
			out <- prometheus.NewInvalidMetric(descRulePackets, err)
			continue
		}
		count(descRulePackets, t.Packets, key.name, key.origin())
		count(descRuleBytes, t.Octets, key.name, key.origin())
		count(descRuleDropped, t.Dropped, key.name, key.origin())
	}
	seen, lost, err := s.kernel.sampled()
	if err != nil {
		out <- prometheus.NewInvalidMetric(descSampled, err)
		return
	}
	count(descSampled, seen)
	count(descSamplesLost, lost)
}

// sampled sums what the samplers count over all CPUs.
func (k *kernel) sampled() (seen, lost uint64, err error) {
	var perCPU []edgeSampler
	if err := k.Samplers.Lookup(uint32(0), &perCPU); err != nil {
		return 0, 0, fmt.Errorf("read the samplers: %w", err)
	}
	for i := range perCPU {
		seen += perCPU[i].Seen
		lost += perCPU[i].Lost
	}
	return seen, lost, nil
}

// rule reads a rule's tally; zero where the rule is not in the tables yet.
func (s *stats) rule(key ruleKey) (edgeTally, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	index, ok := s.rules[key]
	if !ok || s.kernel == nil {
		return edgeTally{}, nil
	}
	return s.kernel.tally(index)
}

// ruleNames gives the names of the rules by the places of their tallies.
func (s *stats) ruleNames() map[uint32]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[uint32]string, len(s.rules))
	for key, index := range s.rules {
		out[index] = key.name
	}
	return out
}

func (s *stats) traffic() (t Traffic, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = Traffic{Reasons: map[string]uint64{}, VIPs: []VIPTraffic{}}
	if s.kernel == nil {
		return t, nil
	}
	counters, err := s.kernel.counters()
	if err != nil {
		return t, err
	}
	for reason, n := range counters {
		if !strings.HasPrefix(reason, "flow_") && !strings.HasPrefix(reason, "chance_") && !strings.HasPrefix(reason, "cookie_") {
			t.Reasons[reason] = n
		}
	}
	for _, v := range s.vips {
		n, err := s.kernel.traffic(v.index)
		if err != nil {
			return t, err
		}
		t.VIPs = append(t.VIPs, VIPTraffic{v.label(), v.service, n.Packets, n.Octets})
	}
	t.Seen, t.Lost, err = s.kernel.sampled()
	return t, err
}

// gate reads what is known of an attack on a VIP, by its place in vip_stats.
func (k *kernel) gate(index uint32) (g edgeGate, err error) {
	if err := k.Gates.Lookup(index, &g); err != nil {
		return g, fmt.Errorf("read gate %d: %w", index, err)
	}
	return g, nil
}

// attacked says whether the VIP is under attack at this moment.
func (g *edgeGate) attacked() bool { return g.Until >= uint64(monotonic())>>28 }

// perSecond is perWindow the other way round: the highest rate of which that makes
// so many.
func perSecond(inWindow uint64) uint64 { return ((inWindow+1)*uint64(time.Second) - 1) >> 28 }
