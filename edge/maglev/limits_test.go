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
	const noPort = "services[1].healthcheck.port: expected the port of a tcp, http or https check; without one the endpoints of a udp service are not checked"
	for _, c := range []struct{ name, check, want string }{
		{"udp, unchecked", "interval: 1s", ""},
		{"udp, checked by http", "type: http, port: 8080", ""},
		{"udp, checked by tcp", "port: 53", ""},
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
		{"addresses", list(257, "198.51.%d.%d"), "80", "53", "regions[0]: needs room for 257 VIP addresses in layer 4's tables; the limit is 256"},
		{"ports", list(100, "198.51.%d.%d"), ports(10), "53", "regions[0]: needs room for 1100 VIPs by port in layer 4's tables; the limit is 1024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			compiles(t, c.want, "ANYCAST", c.anycast, "WEB", c.web, "DNS", c.dns, "CHECK", "")
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
