package xdp

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/server"
	"meridian/fleet"
)

// Where tallies begin (bpf/consts.h).
const (
	tallyTypes = 16
	tallyOther = tallyTypes + 258
	tallyZones = 512
)

// Answered gives what the program has answered, through all images.
func (p *Path) Answered() server.Answered {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := server.Answered{Types: map[uint16]uint64{}, Zones: map[fleet.Name]uint64{}}
	if p.kernel == nil {
		return a
	}
	sums, err := p.kernel.tallied()
	if err != nil {
		p.cfg.Log.Error("reading what the kernel answered", "error", err)
		return a
	}
	for i := range a.Rcodes {
		a.Rcodes[i] = sums[i]
		a.Queries += sums[i]
	}
	counters, err := p.kernel.counters()
	if err != nil {
		p.cfg.Log.Error("reading what the kernel answered", "error", err)
	}
	flood := counters["drop_flood"] // what they would have been answered nobody knows
	a.Queries += flood
	a.Limited, a.Slipped = counters["drop_limited"]+flood, counters["tx_truncated"]
	for t, n := range sums[tallyTypes:tallyOther] {
		if n > 0 {
			a.Types[uint16(t)] = n
		}
	}
	for i, name := range p.zones.list() {
		if n := sums[tallyZones+i]; n > 0 && i > 0 {
			a.Zones[name] = n
		}
	}
	return a
}

// tallied sums the tallies over all CPUs.
func (k *kernel) tallied() ([]uint64, error) {
	out := make([]uint64, k.Tallies.MaxEntries())
	for i := range out {
		var perCPU []uint64
		if err := k.Tallies.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read tally %d: %w", i, err)
		}
		for _, n := range perCPU {
			out[i] += n
		}
	}
	return out, nil
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

// holds is what the kernel's maps hold, for those who watch.
type holds struct{ names, left, waiting, blocks, garbage int }

// note notes what the image in use holds.
func (p *Path) note() {
	im := p.image
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds = holds{len(im.nodes), im.without, len(im.waiting), im.arena.used(), im.arena.garbage()}
}

var (
	descPackets = prometheus.NewDesc("meridian_dns_kernel_packets_total",
		"Packets that came to the device with --xdp, by what became of them.", []string{"verdict", "reason"}, nil)
	descAttached = prometheus.NewDesc("meridian_dns_kernel_attached",
		"1 while queries are answered in the kernel, by mode.", []string{"mode"}, nil)
	descNames = prometheus.NewDesc("meridian_dns_kernel_names",
		"Names that the kernel has answers for.", nil, nil)
	descLeft = prometheus.NewDesc("meridian_dns_kernel_zones_left",
		"Zones that have no room in the kernel.", nil, nil)
	descBlocks = prometheus.NewDesc("meridian_dns_kernel_answer_bytes",
		"Memory that answers take in the kernel.", nil, nil)
	descWaiting = prometheus.NewDesc("meridian_dns_kernel_zones_waiting",
		"Zones that have changed, and are answered by the sockets until the kernel has their answers.", nil, nil)
	descMended = prometheus.NewDesc("meridian_dns_kernel_zones_changed_total",
		"Zones whose answers in the kernel took the place of others, without the rest being made anew.", nil, nil)
	descGarbage = prometheus.NewDesc("meridian_dns_kernel_garbage_bytes",
		"Of the memory of answers, what is of no use until they are made anew.", nil, nil)
	descSwaps = prometheus.NewDesc("meridian_dns_kernel_images_total",
		"Times that the kernel's answers were made anew.", nil, nil)
	descFails = prometheus.NewDesc("meridian_dns_kernel_failures_total",
		"Failed attempts to bring the kernel in line.", nil, nil)
)

// Register registers the metrics of what the kernel does; what it answers is
// counted with the sockets' queries.
func (p *Path) Register(r prometheus.Registerer) { r.MustRegister((*collector)(p)) }

type collector Path

// Describe lists the metrics.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPackets, descAttached, descNames, descLeft, descBlocks, descGarbage, descWaiting, descMended, descSwaps, descFails} {
		out <- d
	}
}

// Collect reads them.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out <- prometheus.MustNewConstMetric(descSwaps, prometheus.CounterValue, float64(c.swaps))
	out <- prometheus.MustNewConstMetric(descMended, prometheus.CounterValue, float64(c.mended))
	out <- prometheus.MustNewConstMetric(descFails, prometheus.CounterValue, float64(c.fails))
	if c.mode != "" {
		out <- prometheus.MustNewConstMetric(descAttached, prometheus.GaugeValue, 1, string(c.mode))
	}
	if c.kernel == nil {
		return
	}
	for d, n := range map[*prometheus.Desc]int{descNames: c.holds.names, descLeft: c.holds.left, descWaiting: c.holds.waiting,
		descBlocks: c.holds.blocks * (32 << 10), descGarbage: c.holds.garbage} {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	counters, err := c.kernel.counters()
	if err != nil {
		out <- prometheus.NewInvalidMetric(descPackets, err)
		return
	}
	for reason, n := range counters {
		verdict, rest, _ := strings.Cut(reason, "_")
		out <- prometheus.MustNewConstMetric(descPackets, prometheus.CounterValue, float64(n), verdict, rest)
	}
}
