package fleet

import (
	"fmt"
	"testing"
)

func TestEachEndpointHasOneKindOfObserver(t *testing.T) {
	s, err := Compile([]byte(`
regions: [{id: a, location: {latitude: 1, longitude: 2}, vips: {v4: [192.0.2.1]}}, {id: b, location: {latitude: 3, longitude: 4}, vips: {v4: [192.0.2.2]}}]
services:
- {service: web, protocol: http, ports: [80], pools: [{id: app, endpoints: [{address: "10.1.0.1:80"}, {address: "10.2.0.1:80", region: b}]}]}
- {service: db, protocol: tcp, ports: [5432], pools: [{id: app, endpoints: [{address: "10.1.0.1:5432", region: a}, {address: "10.2.0.1:5432", region: b}]}]}
- {service: log, protocol: udp, ports: [514], pools: [{id: app, endpoints: [{address: "10.1.0.1:514"}]}]}
`), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(s.EndpointTargets("a")), "[endpoint/web/app/10.1.0.1:80@a]"; got != want {
		t.Errorf("gateways: %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(s.DirectTargets("a")), "[endpoint/db/app/10.1.0.1:5432@a endpoint/log/app/10.1.0.1:514@a]"; got != want {
		t.Errorf("layer 4: %s, want %s", got, want)
	}
}
