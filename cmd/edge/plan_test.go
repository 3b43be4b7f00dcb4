package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"meridian/edge/xdp"
)

const planSpec = `
certificates: [{id: web, cert: "file:web.pem", key: "file:web.key"}]
anycast: {v4: [198.51.100.1]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
services: [{service: web, protocol: https, ports: [443], pools: [{id: main, endpoints: [{address: "10.9.0.1:443"}]}]}]
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1}}
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.0.1.1}}
  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.1.2}}
`

func specFile(t *testing.T, doc string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPlanBySpecs(t *testing.T) {
	old := specFile(t, planSpec)
	more := planSpec + "  - {name: gw3, region: fra, roles: [l7], addresses: {v4: 10.0.1.3}}\n"
	f := planFlags{from: old}
	list, err := f.changes(t.Context(), specFile(t, more))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	showPlan(&b, list)
	for _, want := range []string{"region fra, ring gateways/ipip/v4: changed, 2 members, then 3", "none breaks: their gateways get them by the second chance",
		"slots become unsafe", "to   gw3: "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s\nlacks %q", &b, want)
		}
	}
	fewer := strings.Replace(planSpec, "  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.1.2}}\n", "", 1)
	args := []string{specFile(t, fewer), "--from", old, "--json", "--most", "20"}
	if err := runPlan(t.Context(), args); err == nil || !strings.Contains(err.Error(), "of its flows would break; --most allows 20 %") {
		t.Errorf("a gateway goes: %v", err)
	}
	args[5] = "60"
	if err := runPlan(t.Context(), args); err != nil {
		t.Errorf("a gateway goes, and may: %v", err)
	}
}

// A Spec that does not fit is refused by the limits' words before anybody is
// asked.
func TestPlanRefusesWhatDoesNotFit(t *testing.T) {
	var ports []string
	for p := range 1025 {
		ports = append(ports, strconv.Itoa(1000+p))
	}
	file := specFile(t, strings.Replace(planSpec, "ports: [443]", "ports: ["+strings.Join(ports, ", ")+"]", 1))
	var f planFlags
	if _, err := f.changes(t.Context(), file); err == nil || !strings.Contains(err.Error(), "VIPs by port in layer 4's tables; the limit is 1024") {
		t.Errorf("error %v", err)
	}
}

// A node that is not attached yet says so, and what is wrong with a question.
func TestExplainAndPlanAskTheNode(t *testing.T) {
	_, c := newAdmin(t, shortDir(t))
	var e xdp.Explanation
	err := c.ask(t.Context(), http.MethodGet, "/explain?protocol=sctp", nil, &e)
	if err == nil || !strings.Contains(err.Error(), `protocol "sctp": expected tcp or udp`) {
		t.Errorf("a wrong protocol: %v", err)
	}
	err = c.ask(t.Context(), http.MethodGet, "/explain?protocol=tcp&client=203.0.113.5:1&vip=192.0.2.1:2", nil, &e)
	if err == nil || !strings.Contains(err.Error(), "not attached") {
		t.Errorf("not attached: %v", err)
	}
	f := planFlags{client: *c}
	if _, err := f.changes(t.Context(), specFile(t, planSpec)); err == nil || !strings.Contains(err.Error(), "is not in the Spec; or name the Spec in force by --from") {
		t.Errorf("a plan without tables: %v", err)
	}
	nobody := client{data: t.TempDir()}
	if err := nobody.ask(t.Context(), http.MethodGet, "/explain", nil, &e); err == nil || !strings.Contains(err.Error(), "no edge runs on this machine with --data") {
		t.Errorf("nobody there: %v", err)
	}
}
