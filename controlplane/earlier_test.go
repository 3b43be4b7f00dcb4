package controlplane

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

// withGateways is the Spec with gateways in fra, as NAME:STATE:WEIGHT.
func withGateways(gateways ...string) []byte {
	doc := spec
	for _, g := range gateways {
		f := strings.Split(g, ":")
		doc = strings.Replace(doc, "nodes:\n", fmt.Sprintf("nodes:\n  - {name: %s, region: fra, roles: [l7], state: %s, weight: %s, addresses: {v4: 10.0.1.%s}}\n", f[0], f[1], f[2], f[0][2:]), 1)
	}
	return []byte(doc)
}

// told gives what the control plane says of the gateways that a region had before.
func (r *rig) told(t *testing.T, region string) []string {
	t.Helper()
	o, ok := r.Current().Live.Get(fleet.LiveID(fleet.LiveGateways, region))
	if !ok {
		return nil
	}
	var e fleet.EarlierGateways
	if err := json.Unmarshal(o.Data, &e); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(); err != nil {
		t.Error(err)
	}
	var out []string
	for i, s := range e.Sets {
		if i > 0 && s.Revision <= e.Sets[i-1].Revision {
			t.Errorf("%v is not after %v", s, e.Sets[i-1])
		}
		out = append(out, fmt.Sprint(s.Gateways))
	}
	return out
}

func (r *rig) expectTold(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := r.told(t, "fra"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: told of %v, expected %v", when, got, want)
	}
}

// A gateway that comes is told which there were before it, for as long as their
// connections are awaited.
func TestEarlierGatewaysAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := run(t, newMemory(), &onDisk{})
		defer stop()
		r.submit(t, []byte(spec))
		r.submit(t, withGateways("gw1:active:100", "gw2:active:100"))
		r.expectTold(t, "the first ones")
		r.submit(t, withGateways("gw1:active:100", "gw2:draining:100", "gw3:active:50"))
		r.expectTold(t, "one drains, one comes", "[{gw1 100} {gw2 100}]")
		r.submit(t, withGateways("gw1:active:100", "gw2:disabled:100", "gw3:active:50"))
		r.expectTold(t, "the drained one goes", "[{gw1 100} {gw2 100}]")
		if _, err := r.Submit(t.Context(), Submission{Doc: withGateways("gw1:active:7"), Objects: zoneA(), DryRun: true}); err != nil {
			t.Fatal(err)
		}
		r.expectTold(t, "a dry run", "[{gw1 100} {gw2 100}]")
		if _, err := r.Rollback(t.Context(), 2, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.expectTold(t, "back to the first ones", "[{gw1 100} {gw2 100}]", "[{gw1 100} {gw3 50}]")

		time.Sleep(r.Current().Snapshot.Spec.Layer4.FlowRetire.D() + time.Second)
		r.submit(t, withGateways("gw1:active:100", "gw2:active:10"))
		r.expectTold(t, "their connections have ended", "[{gw1 100} {gw2 100}]")
		for weight := range 2 * maxEarlier {
			r.submit(t, withGateways(fmt.Sprintf("gw1:active:%d", 1+weight)))
		}
		if n := len(r.told(t, "fra")); n != maxEarlier {
			t.Errorf("after many changes told of %d, expected %d", n, maxEarlier)
		}
		r.submit(t, []byte(strings.ReplaceAll(spec, "fra", "lon")))
		r.expectTold(t, "the region is gone")
	})
}

// A set that comes back is the newest then, one of a revision that was not committed
// goes, and what another version wrote is begun anew.
func TestSetsOfEarlierGateways(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	add := func(data []byte, revision uint64, gateway string) []byte {
		return withSet(data, fleet.GatewaySet{Revision: revision, Until: now, Gateways: []fleet.GatewayWeight{{Name: gateway, Weight: 1}}}, now)
	}
	a := add(nil, 1, "a")
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"two":                 {add(a, 2, "b"), "1a 2b"},
		"back":                {add(add(a, 2, "b"), 3, "a"), "2b 3a"},
		"not committed":       {add(add(a, 7, "b"), 7, "c"), "1a 7c"},
		"another version's":   {add([]byte("[]"), 2, "b"), "2b"},
		"broken":              {add([]byte(`{"sets":[{"revision":1,"gateways":[{"name":"a"}]}]}`), 2, "b"), "2b"},
		"their time was over": {withSet(a, fleet.GatewaySet{Revision: 2, Until: now.Add(time.Hour)}, now.Add(time.Second)), "2"},
	} {
		var e fleet.EarlierGateways
		if err := json.Unmarshal(c.data, &e); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range e.Sets {
			name := ""
			for _, g := range s.Gateways {
				name += g.Name
			}
			got = append(got, fmt.Sprint(s.Revision, name))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, expected %s", what, got, c.want)
		}
	}
}
