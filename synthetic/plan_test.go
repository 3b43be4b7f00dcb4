package synthetic

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

const planDoc = `
regions:
- {id: a, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1, 192.0.2.11], v6: ["2001:db8::1"]}}
- {id: b, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.2]}}
anycast: {v6: ["2001:db8:ca57::1"]}
nodes:
- {name: a-1, region: a, roles: [dns, probe], addresses: {v4: 10.0.0.1, v6: "2001:db8:1::1"}}
- {name: a-2, region: a, roles: [dns], addresses: {v4: 10.0.0.3}}
- {name: b-1, region: b, roles: [dns, probe], addresses: {v4: 10.0.0.2}}
services:
- {service: log, protocol: udp, ports: [514], pools: [{id: app, endpoints: [{address: "10.1.0.1:514"}]}]}
- {service: db, protocol: tcp, ports: [5432, 5433], pools: [{id: app, endpoints: [{address: "10.1.0.1:5432"}]}]}
- {service: web, protocol: https, ports: [443], hosts: ["*.example.org"], pools: [{id: app, endpoints: [{address: "10.1.0.1:80"}]}]}
zones: [{zone: example.org, records: "@ 300 IN SOA ns1 host 1 2 3 4 5"}]
dns: {listen: [":5300"]}
probes: {path: /well}
`

func compiled(t *testing.T, doc string) *fleet.World {
	t.Helper()
	s, err := fleet.Compile([]byte(doc), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: s}
}

// text writes a plan one check to a line, sorted.
func text(plan []check) string {
	var lines []string
	for _, c := range plan {
		l := fmt.Sprintf("%s %s every %s:", c.key.target, c.key.name, c.interval)
		for _, p := range c.probes {
			l += fmt.Sprintf(" %s %s", p.Check, p.Address)
			if p.Host+p.Path+string(p.Name) != "" {
				l += " " + p.Host + p.Path + string(p.Name)
			}
		}
		lines = append(lines, l)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func TestPlanOfANodeWithBothFamilies(t *testing.T) {
	plan, err := planOf(compiled(t, planDoc), "a-1", "a")
	if err != nil {
		t.Fatal(err)
	}
	want := `anycast/db rtt6 every 250ms: rtt [2001:db8:ca57::1]:5432
anycast/db tcp6 every 1s: tcp [2001:db8:ca57::1]:5432
anycast/db tcp6:5433 every 1s: tcp [2001:db8:ca57::1]:5433
anycast/log rtt6 every 250ms: rtt [2001:db8:ca57::1]:5432
anycast/web https6 every 1s: https [2001:db8:ca57::1]:443 meridian-probe.example.org/well
anycast/web rtt6 every 250ms: rtt [2001:db8:ca57::1]:443
anycast/web tcp6 every 1s: tcp [2001:db8:ca57::1]:443
dns@a dns4 every 1s: dns 10.0.0.1:5300 example.org. dns 10.0.0.3:5300 example.org.
dns@a dns6 every 1s: dns [2001:db8:1::1]:5300 example.org.
dns@b dns4 every 1s: dns 10.0.0.2:5300 example.org.
service/db@a rtt4 every 250ms: rtt 192.0.2.1:5432
service/db@a rtt4#2 every 250ms: rtt 192.0.2.11:5432
service/db@a rtt6 every 250ms: rtt [2001:db8::1]:5432
service/db@a tcp4 every 1s: tcp 192.0.2.1:5432
service/db@a tcp4#2 every 1s: tcp 192.0.2.11:5432
service/db@a tcp4#2:5433 every 1s: tcp 192.0.2.11:5433
service/db@a tcp4:5433 every 1s: tcp 192.0.2.1:5433
service/db@a tcp6 every 1s: tcp [2001:db8::1]:5432
service/db@a tcp6:5433 every 1s: tcp [2001:db8::1]:5433
service/db@b rtt4 every 250ms: rtt 192.0.2.2:5432
service/db@b tcp4 every 1s: tcp 192.0.2.2:5432
service/db@b tcp4:5433 every 1s: tcp 192.0.2.2:5433
service/log@a rtt4 every 250ms: rtt 192.0.2.1:5432
service/log@a rtt4#2 every 250ms: rtt 192.0.2.11:5432
service/log@a rtt6 every 250ms: rtt [2001:db8::1]:5432
service/log@b rtt4 every 250ms: rtt 192.0.2.2:5432
service/web@a https4 every 1s: https 192.0.2.1:443 meridian-probe.example.org/well
service/web@a https4#2 every 1s: https 192.0.2.11:443 meridian-probe.example.org/well
service/web@a https6 every 1s: https [2001:db8::1]:443 meridian-probe.example.org/well
service/web@a rtt4 every 250ms: rtt 192.0.2.1:443
service/web@a rtt4#2 every 250ms: rtt 192.0.2.11:443
service/web@a rtt6 every 250ms: rtt [2001:db8::1]:443
service/web@a tcp4 every 1s: tcp 192.0.2.1:443
service/web@a tcp4#2 every 1s: tcp 192.0.2.11:443
service/web@a tcp6 every 1s: tcp [2001:db8::1]:443
service/web@b https4 every 1s: https 192.0.2.2:443 meridian-probe.example.org/well
service/web@b rtt4 every 250ms: rtt 192.0.2.2:443
service/web@b tcp4 every 1s: tcp 192.0.2.2:443
`
	if got := text(plan); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestPlanLeavesOutFamiliesTheNodeHasNot(t *testing.T) {
	plan, err := planOf(compiled(t, planDoc), "b-1", "b")
	if err != nil {
		t.Fatal(err)
	}
	if got := text(plan); strings.Contains(got, "6 every") || !strings.Contains(got, "service/web@a https4") {
		t.Errorf("got\n%s", got)
	}
}

// A service may be asked otherwise than its protocol says: HTTPS or gRPC
// behind layer 4, another path, or no more than a handshake.
func TestPlanAsksAsTheServiceSays(t *testing.T) {
	for probe, want := range map[string]string{
		"{type: grpc, name: shop.Cart}":         "service/db@b grpc4:5433 every 1s: grpc 192.0.2.2:5433 shop.Cart",
		"{type: grpcs, host: grpc.example.org}": "service/db@b grpcs4 every 1s: grpcs 192.0.2.2:5432 grpc.example.org",
		"{type: https, path: /deep, host: h}":   "service/db@b https4 every 1s: https 192.0.2.2:5432 h/deep",
		"{type: http}":                          "service/db@b http4 every 1s: http 192.0.2.2:5432 /well",
	} {
		doc := strings.Replace(planDoc, "ports: [5432, 5433],", "ports: [5432, 5433], probe: "+probe+",", 1)
		plan, err := planOf(compiled(t, doc), "b-1", "b")
		if err != nil {
			t.Fatal(err)
		}
		if got := text(plan); !strings.Contains(got, want+"\n") || !strings.Contains(got, "service/db@b tcp4 ") {
			t.Errorf("%s gives\n%s", probe, got)
		}
	}
	plan, err := planOf(compiled(t, strings.Replace(planDoc, "protocol: https,", "protocol: https, probe: {type: tcp},", 1)), "b-1", "b")
	if got := text(plan); err != nil || strings.Contains(got, "https4") || !strings.Contains(got, "service/web@a tcp4") {
		t.Errorf("%v, got\n%s", err, got)
	}
}

func TestPlanNeedsItsAuthorities(t *testing.T) {
	w := compiled(t, strings.Replace(planDoc, "path: /well", "path: /well, ca: \"file:ca.pem\"", 1))
	if _, err := planOf(w, "a-1", "a"); err == nil || !strings.Contains(err.Error(), "probes.ca: the authorities are missing") {
		t.Errorf("got %v", err)
	}
	key := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: "file:ca.pem"}
	w.Objects = map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: []byte("nothing"), File: "ca.pem"}}
	if _, err := planOf(w, "a-1", "a"); err == nil || !strings.Contains(err.Error(), "ca.pem holds no certificate") {
		t.Errorf("got %v", err)
	}
}

func TestPaceWaitsAsLongAsAnswersTake(t *testing.T) {
	ms := time.Millisecond
	p := newPace(250*ms, 2*time.Second)
	if got := p.wait(); got != firstWait {
		t.Errorf("before the first answer it waits %s", got)
	}
	answer := func(d time.Duration, n int) time.Duration {
		for range n {
			p.learn(fleet.ProbeResult{OK: true, Latency: d})
		}
		return p.wait()
	}
	if got := answer(240*ms, 40); got != 400*ms {
		t.Errorf("for a steady 240 ms it waits %s, want round trip, a quarter and slack", got)
	}
	if got := answer(5*ms, 80); got != leastWait {
		t.Errorf("for 5 ms it waits %s, want the least", got)
	}
	for i := range 40 {
		answer(time.Duration(100+i%2*200)*ms, 1)
	}
	if got := p.wait(); got < 450*ms || got > 900*ms {
		t.Errorf("for answers between 100 and 300 ms it waits %s", got)
	}
	for range patience {
		p.learn(fleet.ProbeResult{})
	}
	if got := p.wait(); got != 2*time.Second {
		t.Errorf("after failures it waits %s, want all that it may", got)
	}
	if got := answer(5*ms, 80); got != leastWait {
		t.Errorf("after recovery it waits %s", got)
	}
}

func TestChecksAreSpread(t *testing.T) {
	plan, err := planOf(compiled(t, planDoc), "a-1", "a")
	if err != nil {
		t.Fatal(err)
	}
	var quarters [4]int
	for _, c := range plan {
		s := c.key.spread("a-1")
		if s < 0 || s >= 1 || s != c.key.spread("a-1") {
			t.Fatalf("share %v", s)
		}
		quarters[int(s*4)]++
	}
	for _, n := range quarters {
		if n < len(plan)/16 {
			t.Errorf("the quarters of the interval hold %v checks", quarters)
		}
	}
}

func TestOverdueFailureIsNoNews(t *testing.T) {
	var o order
	first, second, third := o.start(), o.start(), o.start()
	if !o.counts(second, true) || o.counts(first, false) || !o.counts(third, false) || !o.counts(first, true) {
		t.Error("only failures of probes younger than the youngest that passed count")
	}
}
