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
  - {service: dns, protocol: udp, ports: [53], pools: [{id: main, endpoints: [{address: "10.9.0.1:DNS"}]}]}
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
	for _, c := range []struct{ name, anycast, web, dns, want string }{
		{"fits", "198.51.100.1", "80, 443", "53", ""},
		{"another port", "198.51.100.1", "80", "5353",
			"services[1].pools[0].endpoints[0].address: port 5353 is none of the service's, and layer 4 does not change ports"},
		{"addresses", list(257, "198.51.%d.%d"), "80", "53", "regions[0]: needs room for 257 VIP addresses in layer 4's tables; the limit is 256"},
		{"ports", list(100, "198.51.%d.%d"), ports(10), "53", "regions[0]: needs room for 1100 VIPs by port in layer 4's tables; the limit is 1024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := strings.NewReplacer("ANYCAST", c.anycast, "WEB", c.web, "DNS", c.dns).Replace(limitsSpec)
			_, err := fleet.Compile([]byte(doc), 0, Check)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasSuffix(strings.Split(err.Error(), "\n")[0], c.want)) {
				t.Errorf("error %v, expected %q", err, c.want)
			}
		})
	}
}
