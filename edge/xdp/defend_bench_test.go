package xdp

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkProgramDefended gives the kernel's time for one packet by what
// stands in its way, as BenchmarkProgram does; compare with its IPIP. All
// packets pass.
func BenchmarkProgramDefended(b *testing.B) {
	m := newMachine(b, programSpec, "lb", Roles{L4: true})
	m.edgeObjects.Close()
	k, err := load(Key{7}, defaultFlows, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { k.Close() })
	m.kernel, m.rec = k, newReconciler(k, Key{7})
	networks := func(n int) string { // every second /24 from the sources on, so that each is in a block of its own
		var out []string
		for i := range n {
			a := 203<<16 + 2*i + 1
			out = append(out, fmt.Sprintf("%d.%d.%d.0/24", a>>16, a>>8&0xff, a&0xff))
		}
		return strings.Join(out, ", ")
	}
	rules := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("{name: r%d, match: {protocol: tcp, source: 198.18.%d.0/24, port: 443}}", i, i))
		}
		return strings.Join(out, ", ")
	}
	var details []string // that look into each packet, and do not match
	for i := range 8 {
		details = append(details, fmt.Sprintf(`{name: d%d, match: {protocol: tcp, window: 65535, tcp_options: none, payload: "%d:00"}}`, i, i))
	}
	tunnel := fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, ack)))
	for _, c := range []struct{ name, section string }{
		{"nothing", "{static: false}"},
		{"static", "{}"},
		{"networks=100000", "{block: {prefixes: [" + networks(100_000) + "]}}"},
		{"rules=1", "{static: false, rules: [" + rules(1) + "]}"},
		{"rules=8", "{static: false, rules: [" + rules(8) + "]}"},
		{"rules=48", "{static: false, rules: [" + rules(48) + "]}"},
		{"details=8", "{static: false, rules: [" + strings.Join(details, ", ") + "]}"},
		{"per_source", "{static: false, limits: {per_source: 1000000}}"},
		{"per_vip", "{static: false, limits: {per_vip: 100000000}}"},
		{"sampling=1000", "{static: false, sampling: {rate: 1000}}"},
		{"all", "{block: {prefixes: [" + networks(100_000) + "]}, rules: [" + rules(8) + "], limits: {per_source: 1000000, per_vip: 100000000}, sampling: {rate: 1000}}"},
	} {
		m.defend(b, c.section)
		for _, flows := range []uint32{1, 65536} {
			if flows == 1 && strings.Contains(c.section, "per_source") {
				continue // one source sends more than it may
			}
			b.Run(fmt.Sprintf("%s/flows=%d", c.name, flows), func(b *testing.B) { benchmark(b, m, tunnel, flows-1, 3, 20) })
		}
	}
}
