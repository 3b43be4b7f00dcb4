package maglev

import (
	"fmt"
	"strings"
	"testing"

	"meridian/fleet"
)

const limitsSpec = `
anycast: {v4: [ANYCAST]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
nodes: [{name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1}}]
services:
  - {service: web, protocol: http, ports: [WEB], pools: [{id: main, endpoints: [{address: "10.9.0.1:8080"}]}]}
  - {service: dns, protocol: udp, ports: [53], healthcheck: {CHECK}, pools: [{id: main, endpoints: [{address: "10.9.0.1:DNS"}]}]}
`

func list(n int, format string) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(format, i/250, 1+i%250))
	}
	return strings.Join(out, ", ")
}

func TestCheck(t *testing.T) {
	ports := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprint(1000+i))
		}
		return strings.Join(out, ", ")
	}
	const noPort = "services[1].healthcheck.port: expected the port of a tcp, http or https check; without one the endpoints of a udp service are checked by type dns or udp alone"
	for _, c := range []struct{ name, check, want string }{
		{"udp, unchecked", "interval: 1s", ""},
		{"udp, checked by http", "type: http, port: 8080", ""},
		{"udp, checked by tcp", "port: 53", ""},
		{"udp, checked by queries", "type: dns, name: example.com", ""},
		{"udp, checked by http nowhere", "type: http", noPort},
		{"udp, ready nowhere", "ready_path: /ready", noPort},
	} {
		t.Run(c.name, func(t *testing.T) {
			compiles(t, c.want, "ANYCAST", "198.51.100.1", "WEB", "80", "DNS", "53", "CHECK", c.check)
		})
	}
	for _, c := range []struct{ name, anycast, web, dns, want string }{
		{"fits", "198.51.100.1", "80, 443", "53", ""},
		{"another port", "198.51.100.1", "80", "5353",
			"services[1].pools[0].endpoints[0].address: port 5353 is none of the service's, and layer 4 does not change ports"},
		{"addresses", list(257, "198.51.%d.%d"), "80", "53", "anycast: region fra needs room for 257 VIP addresses in layer 4's tables; the limit is 256"},
		{"ports", list(100, "198.51.%d.%d"), ports(10), "53", "services[1].ports: region fra needs room for 1100 VIPs by port in layer 4's tables; the limit is 1024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			compiles(t, c.want, "ANYCAST", c.anycast, "WEB", c.web, "DNS", c.dns, "CHECK", "")
		})
	}
}

// The limits are what the tables hold, and an error names the field that goes
// beyond them: one ring for each port and family, one place for each endpoint
// whatever the families, one for each address of a gateway.
func TestLimitsAreTheTables(t *testing.T) {
	const head = `
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {VIPS}}]
nodes: [NODES]
services:
`
	both := `v4: [192.0.2.1], v6: ["2001:db8::1"]`
	numbered := func(n int, format string) string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf(format, i/250, 1+i%250)
		}
		return strings.Join(out, ", ")
	}
	ports := func(n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprint(1000 + i)
		}
		return strings.Join(out, ", ")
	}
	tcp := func(ports, endpoints string) string {
		return "  - {service: tcp, protocol: tcp, ports: [" + ports + "], pools: [{id: main, endpoints: [" + endpoints + "]}]}\n"
	}
	const one = `{address: "10.9.0.1:1000"}`
	const web = "  - {service: web, protocol: https, http3: true, ports: [443], pools: [{id: main, endpoints: [{address: '10.9.0.1:443'}]}]}\n"
	gateways := func(n int) string {
		return numbered(n, "{name: gw%[1]d-%[2]d, region: fra, roles: [l7], addresses: {v4: 10.1.%[1]d.%[2]d, v6: 'fd00::%[1]d:%[2]d'}}")
	}
	for _, c := range []struct{ name, vips, nodes, services, want string }{
		{"512 rings", "v4: [192.0.2.1]", "", tcp(ports(512), one), ""},
		{"513 rings", "v4: [192.0.2.1]", "", tcp(ports(513), one), "services[0].ports: region fra needs room for 513 rings in layer 4's tables; the limit is 512"},
		{"512 rings of both families", both, "", tcp(ports(256), one), ""},
		{"514 rings of both families", both, "", tcp(ports(257), one), "services[0].ports: region fra needs room for 514 rings in layer 4's tables; the limit is 512"},
		{"4096 endpoints", both, "", tcp("1000", numbered(4096, `{address: "10.9.%d.%d:1000"}`)), ""},
		{"4097 endpoints", both, "", tcp("1000", numbered(4097, `{address: "10.9.%d.%d:1000"}`)),
			"services[0].pools[0].endpoints[4096]: region fra needs room for 4097 gateways and endpoints in layer 4's tables; the limit is 4096"},
		{"512 gateways", both, gateways(512), web, ""},
		{"513 gateways", both, gateways(513), web, "nodes[512]: region fra needs room for 1026 addresses of nodes with roles l4 and l7 in layer 4's tables; the limit is 1024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := fleet.Compile([]byte(strings.NewReplacer("VIPS", c.vips, "NODES", c.nodes).Replace(head)+c.services), 0, Check)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %.300v, expected %q", err, c.want)
			}
		})
	}
}

// Services at one port go one way, since layer 4 sees no host names.
func TestServicesAtOnePortGoOneWay(t *testing.T) {
	const spec = `
anycast: {v4: [198.51.100.1]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
services:
  - {service: a, protocol: http, ports: [80], hosts: [a.test], pools: [{id: main, endpoints: [{address: "10.9.0.1:80"}]}]}
  - {service: b, protocol: http, ports: [80, 81], hosts: [b.test], B, pools: [{id: main, endpoints: [{address: "10.9.0.1:80"}]}]}
`
	for b, want := range map[string]string{
		"retries: {attempts: 1}":               "",
		"forwarding: gue":                      `services[1].forwarding: gue: service "a" at the same port (tcp/80) has ipip`,
		"ring: large":                          `services[1].ring: large: service "a" at the same port (tcp/80) has normal`,
		"affinity: {by: source}":               `services[1].affinity: is another than service "a"'s, which is at the same port (tcp/80)`,
		"affinity: {by: flow, v4_prefix: 32}":  "",
		"affinity: {v4_prefix: 24}":            "services[1].affinity: v4_prefix and v6_prefix are for by: source",
		"affinity: {by: source, v4_prefix: 4}": "services[1].affinity.v4_prefix: 4 is not between 8 and 32",
		"all_ports: true":                      "services[1].all_ports: is for a tcp or udp service: a gateway listens at ports that it knows",
		"http3: true":                          "services[1].http3: is for an https service, and this is http",
		"healthcheck: {type: dns}":             "services[1].healthcheck.type: dns is for a udp service, and this is http",
		"healthcheck: {send: hello}":           "services[1].healthcheck.send: expected 1 to 512 octets for a udp check, and none for another",
		"healthcheck: {name: example.com}":     "services[1].healthcheck.name: is for a dns check, and this is http",
	} {
		t.Run(b, func(t *testing.T) {
			_, err := fleet.Compile([]byte(strings.Replace(spec, "B", b, 1)), 0, Check)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("error %v, expected %q", err, want)
			}
		})
	}
}

// All ports of a protocol are one service's, beside those of others; and
// prefixes are networks that do not overlap.
func TestAllPortsAndPrefixes(t *testing.T) {
	const spec = `
anycast: {prefixes: [ANY]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {prefixes: [192.0.2.0/28, "2001:db8:1::/64"]}}]
services:
  - {service: web, protocol: tcp, ports: [80], pools: [{id: main, endpoints: [{address: "10.9.0.1:80"}]}]}
  - {service: all, protocol: tcp, all_ports: true, ports: [PORTS], pools: [{id: main, endpoints: [{address: "10.9.0.1:80"}]}]}
  - {service: udp, protocol: udp, all_ports: true, ports: [53], pools: [{id: main, endpoints: [{address: "10.9.0.1:53"}]}]}
`
	for _, c := range []struct{ prefix, ports, also, want string }{
		{"198.51.100.0/24", "80", "", ""},
		{"198.51.100.0/24", "80, 81", "", "services[1].ports: expected one, for checks and probes: the service has all"},
		{"198.51.100.0/24", "81", "", "services[1].pools[0].endpoints[0].address: port 80: expected the service's, [81], where the endpoint is checked"},
		{"198.51.100.0/24", "80", "  - {service: two, protocol: tcp, all_ports: true, ports: [80], pools: [{id: main, endpoints: [{address: '10.9.0.1:80'}]}]}\n",
			"services[3].all_ports: all of tcp is already used by another service"},
		{"192.0.2.8/29", "80", "", "anycast.prefixes[0]: 192.0.2.8/29 overlaps 192.0.2.0/28 at regions[0].vips.prefixes[0]"},
		{"198.51.100.1/24", "80", "", "anycast.prefixes[0]: 198.51.100.1/24 has bits beyond its length; expected 198.51.100.0/24"},
		{"198.51.100.1/32", "80", "", "anycast.prefixes[0]: 198.51.100.1/32 is one address: expected it under v4 or v6"},
		{"0.0.0.0/0", "80", "", "anycast.prefixes[0]: 0.0.0.0/0 cannot be a network of VIPs"},
	} {
		t.Run(c.prefix+" "+c.ports, func(t *testing.T) {
			_, err := fleet.Compile([]byte(strings.NewReplacer("ANY", c.prefix, "PORTS", c.ports).Replace(spec)+c.also), 0, Check)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, expected %q", err, c.want)
			}
		})
	}
}

// compiles compiles limitsSpec with words replaced, and expects an error, or
// none.
func compiles(t *testing.T, want string, words ...string) {
	t.Helper()
	_, err := fleet.Compile([]byte(strings.NewReplacer(words...).Replace(limitsSpec)), 0, Check)
	if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(strings.Split(err.Error(), "\n")[0], want)) {
		t.Errorf("error %v, expected %q", err, want)
	}
}
