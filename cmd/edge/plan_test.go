package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"meridian/edge/xdp"
)

const planSpec = `
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
	list, err := f.changes(specFile(t, more))
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
	if err := plan(context.Background(), args); err == nil || !strings.Contains(err.Error(), "of its flows would break; --most allows 20 %") {
		t.Errorf("a gateway goes: %v", err)
	}
	args[4] = "60"
	if err := plan(context.Background(), args); err != nil {
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
	f := planFlags{health: "127.0.0.1:1"}
	if _, err := f.changes(file); err == nil || !strings.Contains(err.Error(), "VIPs by port in layer 4's tables; the limit is 1024") {
		t.Errorf("error %v", err)
	}
}

// Without a layer 4 the node says so; from elsewhere it says nothing.
func TestTheNodeAnswersThisMachineAlone(t *testing.T) {
	var l looker
	mux := http.NewServeMux()
	for path, h := range l.handlers() {
		mux.Handle(path, h)
	}
	srv := httptest.NewServer(mux)
	defer srv.Close()
	var e xdp.Explanation
	err := newNodeClient(srv.URL).call(http.MethodGet, "/explain", nil, nil, &e)
	if err == nil || !strings.Contains(err.Error(), "this node has no layer 4") {
		t.Errorf("no layer 4: %v", err)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/explain", nil)) // from 192.0.2.1
	if w.Code != http.StatusForbidden {
		t.Errorf("from elsewhere: %d", w.Code)
	}
	x, err := xdp.New(xdp.Config{Node: "lb", Roles: xdp.Roles{L7: true}})
	if err != nil {
		t.Fatal(err)
	}
	l.layer4.Store(x)
	err = newNodeClient(srv.URL).call(http.MethodGet, "/explain", map[string][]string{"protocol": {"sctp"}}, nil, &e)
	if err == nil || !strings.Contains(err.Error(), `protocol "sctp": expected tcp or udp`) {
		t.Errorf("a wrong protocol: %v", err)
	}
	ask := map[string][]string{"protocol": {"tcp"}, "client": {"203.0.113.5:1"}, "vip": {"192.0.2.1:2"}}
	if err = newNodeClient(srv.URL).call(http.MethodGet, "/explain", ask, nil, &e); err == nil || !strings.Contains(err.Error(), "not attached") {
		t.Errorf("not attached: %v", err)
	}
	f := planFlags{health: srv.URL}
	if _, err := f.changes(specFile(t, planSpec)); err == nil || !strings.Contains(err.Error(), "not attached; or name the Spec in force by --from") {
		t.Errorf("a plan without tables: %v", err)
	}
	if err := newNodeClient("127.0.0.1:1").call(http.MethodGet, "/explain", ask, nil, &e); err == nil || !strings.Contains(err.Error(), "no node answers at 127.0.0.1:1") {
		t.Errorf("nobody there: %v", err)
	}
}
