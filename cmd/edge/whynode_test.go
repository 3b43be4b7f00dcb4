package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"meridian/internal/testkit"
)

// From a client's machine, edge why tells of all that a request meets: the
// nameserver and its steering, layer 4 and its slot, the gateway, its route and
// candidates, the endpoint, and how long each took.
func TestWhyByANameserverAndLayer4(t *testing.T) {
	u, user := newForwarded(t, "l4, l7, dns", `layer4: {latency_of: 1}
zones:
- zone: test
  records: |
    @   SOA ns hostmaster 1 1h 15m 30d 5m
    @   NS  ns.other.
  steered: [{name: demo, service: plain}]
`)
	gslb, data := filepath.Join(u.dir, "gslb"), filepath.Join(u.dir, "dns")
	if out, err := exec.Command(testkit.Program(t, "go"), "build", "-o", gslb, "../gslb").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	key := filepath.Join(u.dir, "fleet.key")
	serve := exec.Command(gslb, "serve", "--node", "n", "--data", data, "--spec", u.spec, "--fleet-key", key, "--listen", "10.9.0.2:53", "--admin", "10.9.0.2:8053", "--gossip", "off")
	var log bytes.Buffer
	serve.Stdout, serve.Stderr = &log, &log
	if err := u.start(serve); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
		if t.Failed() {
			t.Logf("gslb: %s", &log)
		}
	})
	u.until("the admin API has its token", func() bool {
		_, err := os.Stat(filepath.Join(data, "admin.token"))
		return err == nil
	})
	ask := func(more ...string) ([]byte, error) {
		cmd := exec.Command(u.good, append([]string{"why", fmt.Sprintf("http://demo.test:%d/page", u.plain), "--fleet-key", key, "--resolver", "10.9.0.2",
			"--admin", "http://10.9.0.2:8053", "--token-file", filepath.Join(data, "admin.token")}, more...)...)
		var out, trouble bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &trouble
		if err := user.Start(cmd); err != nil {
			return nil, err
		}
		if err := cmd.Wait(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, &trouble)
		}
		return out.Bytes(), nil
	}
	var out []byte
	u.until("edge why tells", func() (ok bool) {
		var err error
		out, err = ask("--json")
		return err == nil
	})
	var s story
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	client := netip.MustParseAddr("10.9.0.1")
	if s.DNS == nil || s.DNS.Resolver != "10.9.0.2:53" || len(s.DNS.Addresses) != 1 || s.Address.String() != u.at(u.plain) || len(s.Trouble) != 0 {
		t.Fatalf("%s", out)
	}
	if d := s.Steered; d == nil || d.Decision == nil || d.Decision.Service != "plain" || fmt.Sprint(d.Decision.Regions) != "[fra]" || d.Decision.Policy == "" {
		t.Errorf("steering: %s", out)
	}
	r := s.Report
	if r.Node != "n" || r.Region != "fra" || r.Client != client || r.Peer.Addr() != client || r.VIP != s.Address || r.Service != "plain" || r.Route == nil || r.Route.Place != "services[0].routes[0]" || len(r.Filters) == 0 {
		t.Errorf("gateway: %s", out)
	}
	if r.Slot == nil || r.Slot.Service != "plain" || r.Slot.Owner != "n" || r.Slot.Slots < 2 || r.Slot.Ring == "" {
		t.Errorf("layer 4: %s", out)
	}
	if len(r.Candidates) != 1 || r.Candidates[0].Name != u.endpoint || r.Candidates[0].Score <= 0 || len(r.Tries) != 1 || r.Tries[0].Endpoint != u.endpoint || r.Tries[0].Status != 200 {
		t.Errorf("endpoint: %s", out)
	}
	// Client to layer 4 to gateway to endpoint.
	if s.Timings.DNS <= 0 || s.Timings.Connect <= 0 || s.Timings.Answer <= 0 || r.RTT <= 0 || r.Arrival <= 0 || r.Tries[0].Connect+r.Tries[0].Answer <= 0 || r.Timers.Total <= 0 {
		t.Errorf("latencies: %s", out)
	}
	text, err := ask()
	for _, want := range []string{"resolver", "steering", "VIP", "layer 4", "gateway", "route", "balance", "try 1", "timers", "hops"} {
		if err != nil || !strings.Contains(string(text), "\n"+want+" ") {
			t.Errorf("no %q in %s, %v", want, text, err)
		}
	}
	if !strings.Contains(string(text), "layer 4 to gateway: ") || strings.Contains(string(text), "not measured") {
		t.Errorf("no time from layer 4 to the gateway in %s", text)
	}
}
