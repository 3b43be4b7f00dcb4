package answer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/fleet"
	"meridian/geo/mmdb"
)

// fleet20 is a fleet of 20 regions, services of a few dozen kinds of steering,
// and ten steered names for each service.
func fleet20(services int) string {
	places := [][2]float64{{50.1, 8.7}, {52.4, 4.9}, {51.5, -0.1}, {48.9, 2.4}, {40.4, -3.7}, {59.3, 18.1}, {52.2, 21.0}, {39.0, -77.5},
		{41.9, -87.6}, {32.8, -96.8}, {37.4, -122.0}, {47.6, -122.3}, {43.7, -79.4}, {-23.5, -46.6}, {35.7, 139.7}, {1.3, 103.8},
		{19.1, 72.9}, {-33.9, 151.2}, {-26.2, 28.0}, {25.2, 55.3}}
	var b strings.Builder
	b.WriteString("regions:\n")
	for i, p := range places {
		fmt.Fprintf(&b, "- {id: r%d, location: {latitude: %v, longitude: %v}, vips: {v4: [192.0.2.%d], v6: [\"2001:db8::%x\"]}}\n", i, p[0], p[1], i+1, i+1)
	}
	b.WriteString("services:\n")
	for i := range services {
		fmt.Fprintf(&b, "- {service: s%d, protocol: http, ports: [80], pools: [{id: p, endpoints: [{address: \"10.0.0.1:80\"}]}], steering: %s}\n", i, kindOf(i))
	}
	b.WriteString("zones:\n- zone: x.test\n  records: |\n    $TTL 300\n    @ SOA ns1 a 1 1 1 1 60\n    @ NS ns1\n    ns1 A 192.0.2.53\n  steered:\n")
	for i := range 10 * services {
		fmt.Fprintf(&b, "  - {name: n%d, service: s%d}\n", i, i/10)
	}
	return b.String()
}

// kindOf gives the steering of a service: mostly by proximity, some of each
// other kind.
func kindOf(i int) string {
	switch i % 20 {
	case 0:
		return fmt.Sprintf("{policy: weighted, weights: {r0: %d, r1: 20, r7: 70}}", 1+i%200/20)
	case 1:
		return "{policy: failover, regions: [r0, r7, r14]}"
	case 2:
		return "{policy: geo, geo: [{continents: [EU], regions: [r0, r1]}, {countries: [US, CA], regions: [r7, r8]}], records: 2}"
	case 3:
		return fmt.Sprintf("{policy: failover, regions: [eu, us], groups: [{group: eu, policy: weighted, regions: [r0, r1, r2], weights: {r0: 50, r1: 30, r2: %d}, min_healthy: 0.6}, {group: us, regions: [r7, r8, r9, r10]}]}", 1+i%100/20)
	case 4:
		return fmt.Sprintf("{bias: {r0: %d}}", i%200)
	}
	return fmt.Sprintf("{records: %d}", 1+i%3)
}

// fullView is a View in which every vantage sees every service of every
// region; the region given is down, as seen by all.
func fullView(s *fleet.Snapshot, revision uint64, down string) *fleet.View {
	v := &fleet.View{Revision: revision, Verdicts: map[fleet.Target]fleet.Verdict{}, Vantages: map[fleet.VantageTarget]fleet.Verdict{},
		Probers: map[string]bool{}, Changed: []fleet.VantageVerdict{}}
	for _, r := range s.Spec.Regions {
		v.Probers[r.ID] = true
		state := fleet.Verdict{State: fleet.Up}
		if r.ID == down {
			state.State = fleet.Down
		}
		for i := range s.Spec.Services {
			t := fleet.Target{Kind: fleet.TargetService, Region: r.ID, Service: s.Spec.Services[i].Service}
			v.Verdicts[t] = state
			if r.ID == "r0" {
				v.Changed = append(v.Changed, fleet.VantageVerdict{VantageTarget: fleet.VantageTarget{Target: t}, Verdict: state})
			}
			for _, from := range s.Spec.Regions {
				k := fleet.VantageTarget{Vantage: from.ID, Target: t}
				v.Vantages[k] = state
				if r.ID == "r0" {
					v.Changed = append(v.Changed, fleet.VantageVerdict{VantageTarget: k, Verdict: state})
				}
			}
		}
	}
	return v
}

// BenchmarkWithView20x10000 is a change of health in a fleet of 20 regions and
// 10,000 steered names of 1,000 services, until it is in every answer: a whole
// region dies, or comes back, for all services, as every vantage sees it.
func BenchmarkWithView20x10000(b *testing.B) {
	for _, told := range []bool{true, false} {
		b.Run(fmt.Sprintf("told what changed %v", told), func(b *testing.B) {
			w := newWorld(b, fleet20(1000))
			source, err := mmdb.Default()
			if err != nil {
				b.Fatal(err)
			}
			views := [2]*fleet.View{fullView(w.Snapshot, 1, ""), fullView(w.Snapshot, 2, "r0")}
			p, err := Compile(id, w, source, views[0], now, nil)
			if err != nil {
				b.Fatal(err)
			}
			berlin := netip.MustParseAddr("85.214.132.117")
			for i := 1; b.Loop(); i++ {
				v := *views[i%2]
				v.Revision = uint64(1 + i)
				if !told {
					v.Changed = nil
				}
				p = p.WithView(&v, now)
			}
			b.StopTimer()
			for i, want := range []string{"192.0.2.1", "192.0.2.2"} {
				q := p.WithView(views[i], now)
				m := new(dns.Msg)
				out := make([]byte, MaxStream)
				n, _ := q.Answer(&Worker{}, pack(b, query("n51.x.test", dns.TypeA)), Client{Addr: berlin}, out)
				if err := m.Unpack(out[:n]); err != nil || ipOf(m) != want {
					b.Errorf("view %d: %v %v, want %s", i, m, err, want)
				}
			}
		})
	}
}

// BenchmarkSettle is what follows: scopes as wide as the new answers go.
func BenchmarkSettle(b *testing.B) {
	w := newWorld(b, fleet20(1000))
	source, err := mmdb.Default()
	if err != nil {
		b.Fatal(err)
	}
	p, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		b.Fatal(err)
	}
	v := fullView(w.Snapshot, 2, "r0")
	for b.Loop() {
		p.WithView(v, now).Settle()
	}
}
