package steer

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meridian/fleet"
	"meridian/geo"
)

// LatencyMap says how far, in milliseconds of round-trip time, clients are
// from regions, by network, AS number or country. It is immutable.
type LatencyMap struct {
	networks  prefixes[latencyRow]
	asns      map[uint32]latencyRow
	countries map[string]latencyRow
	hash      string
	rows      int
}

// latencyRow is region to milliseconds.
type latencyRow map[string]float32

// maxLatency is the greatest number of milliseconds in a map.
const maxLatency = 60000

// ParseLatencyMap reads lines of NETWORK,REGION,MILLISECONDS, where NETWORK is
// a prefix, an AS number (AS64500) or a two-letter country code. A first line
// that begins with "network", empty lines and those that begin with # are
// passed over; of two lines on the same pair the later one stands. Errors name
// the line.
func ParseLatencyMap(data []byte) (*LatencyMap, error) {
	sum := sha256.Sum256(data)
	m := &LatencyMap{asns: map[uint32]latencyRow{}, countries: map[string]latencyRow{}, hash: hex.EncodeToString(sum[:])}
	in := bufio.NewScanner(bytes.NewReader(data))
	for line := 1; in.Scan(); line++ {
		t := strings.TrimSpace(in.Text())
		if t == "" || t[0] == '#' || line == 1 && strings.HasPrefix(t, "network") {
			continue
		}
		if err := m.line(strings.Split(t, ",")); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		m.rows++
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("latency map: %w", err)
	}
	m.networks.done()
	return m, nil
}

func (m *LatencyMap) line(f []string) error {
	if len(f) != 3 {
		return fmt.Errorf("expected network,region,milliseconds")
	}
	network, region := strings.TrimSpace(f[0]), strings.TrimSpace(f[1])
	ms, err := strconv.ParseFloat(strings.TrimSpace(f[2]), 32)
	if err != nil || !(ms >= 0 && ms <= maxLatency) {
		return fmt.Errorf("%q is not a number of milliseconds from 0 to %d", f[2], maxLatency)
	}
	if region == "" {
		return fmt.Errorf("expected a region")
	}
	var row latencyRow
	switch {
	case strings.Contains(network, "/"):
		p, err := netip.ParsePrefix(network)
		if err != nil || p.Addr().Is4In6() {
			return fmt.Errorf("%q is not a prefix", network)
		}
		p = p.Masked()
		if row = m.networks.at[p]; row == nil {
			row = latencyRow{}
			m.networks.add(p, row)
		}
	case strings.HasPrefix(network, "AS") && len(network) > 2:
		n, err := strconv.ParseUint(network[2:], 10, 32)
		if err != nil {
			return fmt.Errorf("%q is not an AS number such as AS64500", network)
		}
		if row = m.asns[uint32(n)]; row == nil {
			row = latencyRow{}
			m.asns[uint32(n)] = row
		}
	default:
		if _, ok := geo.FindCountry(network); !ok {
			return fmt.Errorf("%q is not a prefix, an AS number or a country's code", network)
		}
		if row = m.countries[network]; row == nil {
			row = latencyRow{}
			m.countries[network] = row
		}
	}
	row[region] = float32(ms)
	return nil
}

// find gives what the map says of a place and one region, and by what.
func (m *LatencyMap) find(network netip.Prefix, p geo.Place, region string) (ms float32, by string, ok bool) {
	for network.IsValid() {
		row, at := m.networks.find(network)
		if !at.IsValid() {
			break
		}
		if ms, ok := row[region]; ok {
			return ms, at.String(), true
		}
		if at.Bits() == 0 {
			break
		}
		network = netip.PrefixFrom(at.Addr(), at.Bits()-1).Masked()
	}
	if ms, ok := m.asns[p.ASN][region]; ok && p.ASN != 0 {
		return ms, fmt.Sprintf("AS%d", p.ASN), true
	}
	if ms, ok := m.countries[p.Country][region]; ok {
		return ms, p.Country, true
	}
	return 0, "", false
}

// By distance a round trip takes at least baseMS, and 1 ms for each kmPerMS:
// light in fibre makes 100 km a millisecond there and back, and paths are half
// as long again as the great circle.
const (
	baseMS  = 2
	kmPerMS = 66
)

// cellDegrees is the size of the cells in which clients are told apart where
// latency is estimated.
const cellDegrees = 2

func cell(deg float64) float64 {
	return math.Floor(deg/cellDegrees)*cellDegrees + cellDegrees/2
}

// milliseconds gives what is known of the round-trip time from a place to each
// region whatever the View: from the map as it is, by distance negated, NaN
// where neither is known; nil where nothing is known at all.
func (c *Classes) milliseconds(t *tree, p geo.Place) []float32 {
	out := make([]float32, len(c.regions))
	known := false
	at := p
	at.Latitude, at.Longitude = cell(p.Latitude), cell(p.Longitude)
	for i := range c.regions {
		out[i] = float32(math.NaN())
		if p.Located {
			known = true
			out[i] = -float32(math.Round(baseMS + distance(&c.regions[i], at)/kmPerMS))
		}
		if c.latency == nil || !t.leaves.has(uint8(i)) {
			continue
		}
		if ms, _, ok := c.latency.find(c.network(p), p, c.regions[i].ID); ok {
			known = true
			out[i] = ms
		}
	}
	if !known {
		return nil
	}
	return out
}

// latencies are the round-trip times between regions as their probers measure
// them, damped: each is one of a scale of steps and leaves its step only when
// the measure is well past it. It is immutable.
type latencies struct {
	regions int
	step    []int8 // by vantage × regions + region; unmeasured where not known
}

const (
	unmeasured = -128
	stepRatio  = 1.25 // from one step to the next
	stepHold   = 0.8  // steps that a measure must be away to move; rounding alone would be 0.5
)

func stepOf(ms float64) float64 { return math.Log(max(ms, 0.1)) / math.Log(stepRatio) }

func (l *latencies) ms(vantage, region int) float64 {
	if l == nil {
		return 0
	}
	if s := l.step[vantage*l.regions+region]; s != unmeasured {
		return math.Pow(stepRatio, float64(s))
	}
	return 0
}

// measure gives the damped latencies under a View: for each pair the least of
// all services. before are those that held until now, or nil; they are given
// back where no step has changed.
func (c *Classes) measure(v *fleet.View, before *latencies) *latencies {
	n := len(c.regions)
	if before != nil && before.regions != n {
		before = nil
	}
	if v == nil {
		return before
	}
	least := make([]float64, n*n)
	for k, verdict := range v.Vantages {
		if k.Target.Kind != fleet.TargetService || verdict.Latency <= 0 || verdict.State == fleet.Down {
			continue
		}
		from, ok1 := c.index[k.Vantage]
		to, ok2 := c.index[k.Target.Region]
		if !ok1 || !ok2 || from == to {
			continue
		}
		ms := float64(verdict.Latency) / 1e6
		if at := &least[from*n+to]; *at == 0 || ms < *at {
			*at = ms
		}
	}
	out := &latencies{n, make([]int8, n*n)}
	for i, ms := range least {
		out.step[i] = unmeasured
		if before != nil {
			out.step[i] = before.step[i]
		}
		if ms == 0 {
			continue
		}
		if x := stepOf(ms); out.step[i] == unmeasured || math.Abs(x-float64(out.step[i])) >= stepHold {
			out.step[i] = int8(math.Round(x))
		}
	}
	if before != nil && slices.Equal(before.step, out.step) {
		return before
	}
	return out
}

// estimate gives the round-trip time from a ranking's place to a region: by
// the map; else by way of the vantage for which the sum of the way there and
// its own measure is least; else by distance. The region itself is such a
// vantage only for clients that it is nearest to.
func (l *latencies) estimate(r *Ranking, region int) float64 {
	own := float64(r.ms[region])
	if own >= 0 {
		return own
	}
	best := math.Inf(1)
	if l != nil {
		for v := range r.ms {
			if ms := l.ms(v, region); ms > 0 && r.ms[v] == r.ms[v] {
				best = min(best, math.Abs(float64(r.ms[v]))+ms)
			}
		}
	}
	if own == own && (math.IsInf(best, 1) || r.near.n > 0 && int(r.near.at[0]) == region) {
		best = min(best, -own)
	}
	return best
}

// byLatency orders the members of a node for a ranking, a group by its best
// region; equals go by distance, then by the Spec's order.
func (l *latencies) byLatency(n *node, r *Ranking) []uint8 {
	at := make([]float64, len(n.members))
	order := slices.Clone(n.unmapped)
	for i := range n.members {
		at[i] = math.Inf(1)
		for _, leaf := range n.members[i].leaves {
			at[i] = min(at[i], l.estimate(r, int(leaf)))
		}
	}
	slices.SortStableFunc(order, func(a, b uint8) int { return cmp.Compare(at[a], at[b]) })
	return order
}
