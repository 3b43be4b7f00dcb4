package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meridian/cli"
	"meridian/controlplane"
	"meridian/controlplane/api"
	"meridian/fleet"
)

func TestCheckNamesFileLineAndPathOfEveryError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	doc := `regions:
- id: fra
  location: {latitude: 50, longitude: 8}
nodes:
- {name: one, region: fre, roles: [dns], addresses: {v4: 10.0.0.1}}
probes: {rise: 101}
`
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	err := runCheck(context.Background(), []string{file})
	want := file + " has 2 errors:\n" +
		file + `:5: nodes[0].region: region "fre" does not exist` + "\n" +
		file + ":6: probes.rise: 101 is not between 1 and 100"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := runCheck(context.Background(), nil); !errors.Is(err, cli.ErrUsage) {
		t.Errorf("without a file: %v", err)
	}
	if err := runCheck(context.Background(), []string{file + ".none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestKeygenNeverOverwrites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.key")
	if err := runKeygen(context.Background(), []string{file}); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(file)
	err := runKeygen(context.Background(), []string{file})
	after, _ := os.ReadFile(file)
	if err == nil || !strings.Contains(err.Error(), "is left as it is") || string(before) != string(after) {
		t.Errorf("second time: %v", err)
	}
}

func TestSharesArePercentOrFraction(t *testing.T) {
	for text, want := range map[string]float64{"25%": .25, "0.25": .25, "100%": 1, "1": 1} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "0", "25", "101%", "-1%", "NaN", "x"} {
		if got, err := parseShare(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestStatusTellsWhatIsWrong(t *testing.T) {
	now := time.Unix(1000, 0)
	st := &standing{
		Status: &api.StatusReply{Status: controlplane.Status{Node: "fra-1", Revision: 7, Hash: "x", Source: "disk", Since: now.Add(-time.Minute),
			Store: controlplane.StoreHealth{Error: "no leader"},
			Nodes: []controlplane.Ack{
				{Node: "fra-1", Revision: 7, Applied: 7, State: controlplane.Acked, At: now.Add(-time.Second), Replica: "fra-1", Online: true},
				{Node: "fra-2", Revision: 7, Applied: 6, State: controlplane.Nacked, At: now.Add(-time.Second), Error: "l7: port is taken"},
				{Node: "fra-3"},
			}}},
		Health: &api.HealthReply{Fleet: &api.FleetHealth{Regions: []api.RegionHealth{{Region: "fra", State: "down", Since: now.Add(-2 * time.Second), Why: "service/web@fra is down (timeout)"}}}},
		Shifts: []fleet.Shift{{ID: "drain-fra", From: "fra", Share: 1, Drain: true}},
	}
	var b strings.Builder
	showStatus(&b, st, now)
	want := `fra-1: revision 7 from disk, for 1m0s
store: AWAY: no leader

REGION  STATE  SINCE  WHY
fra     down   2s     service/web@fra is down (timeout)

NODE   REVISION  ANSWER               CONNECTED  ERROR
fra-1  7         acknowledged 1s ago  to fra-1   
fra-2  6         REFUSED 7 1s ago     no         l7: port is taken
fra-3  none      never seen           no         

SHIFT      FROM  SHARE  ENDS             REASON
drain-fra  fra   100 %  when taken back  
`
	if b.String() != want {
		t.Errorf("got:\n%s", b.String())
	}
}
