package main

import (
	"errors"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"meridian/cli"
	"meridian/dns/answer"
)

// weightedRegions is examples/three-regions.yaml with a weighted service and a
// group.
func weightedRegions(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(threeRegions)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	text := strings.Replace(string(doc), "steering: {policy: proximity}",
		"steering: {policy: failover, regions: [europe, nrt], groups: [{group: europe, policy: weighted, regions: [fra, iad], weights: {fra: 1, iad: 0}}]}", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func supposing(t *testing.T, spec string, s *supposition) (*answer.Explanation, error) {
	t.Helper()
	q, err := parseQuestion(flag.NewFlagSet("explain", flag.ContinueOnError), []string{"www.example.com"}, "91.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return explainOffline(q, spec, s, nil)
}

// What if a region were down, a shift were in force, a weight were another.
func TestSuppositions(t *testing.T) {
	for _, c := range []struct {
		what   string
		s      supposition
		region string
		says   string
	}{
		{"nothing", supposition{}, "fra", "group"},
		{"a region down", supposition{down: cli.List{"fra"}}, "iad", "supposed by --down"},
		{"a weight in a group", supposition{weights: cli.List{"web/europe:fra=0", "web/europe:iad=5"}}, "iad", "weight 5"},
		{"a shift", supposition{shifts: cli.List{"fra:100%:nrt"}}, "nrt", "shift supposed moves 100 %"},
		{"a shift as steering ranks", supposition{shifts: cli.List{"fra:1"}}, "iad", "shift supposed"},
	} {
		e, err := supposing(t, weightedRegions(t), &c.s)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if e.Decision.Regions[0] != c.region || !strings.Contains(e.String(), c.says) {
			t.Errorf("%s: got %v, want %s and %q in\n%s", c.what, e.Decision.Regions, c.region, c.says, e)
		}
	}
}

func TestWrongSuppositions(t *testing.T) {
	for want, s := range map[string]supposition{
		`region "mars" does not exist`:            {down: cli.List{"mars"}},
		"expected SERVICE:REGION=N":               {weights: cli.List{"web"}},
		`service "mail" does not exist`:           {weights: cli.List{"mail:fra=1"}},
		`service "web" has no group "asia"`:       {weights: cli.List{"web/asia:fra=1"}},
		"weights are for policy weighted":         {weights: cli.List{"web:fra=1"}},
		"is not among the group's regions":        {weights: cli.List{"web/europe:nrt=1"}},
		"expected REGION:SHARE":                   {shifts: cli.List{"fra"}},
		`from: region "mars" does not exist`:      {shifts: cli.List{"mars:10%"}},
		"to[0]: is the region that gives clients": {shifts: cli.List{"fra:10%:fra"}},
		"unknown key":                             {spec: []byte("regiones: []")},
	} {
		if _, err := supposing(t, weightedRegions(t), &s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What is supposed goes over the admin API and comes out as it was.
func TestSuppositionsTravel(t *testing.T) {
	s := supposition{down: cli.List{"fra", "iad"}, weights: cli.List{"web:fra=1"}, shifts: cli.List{"fra:25%:iad,nrt"}, spec: []byte("x")}
	q := url.Values{}
	s.values(q)
	back, err := url.ParseQuery(q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got := suppositionOf(back, s.spec); !reflect.DeepEqual(*got, s) || !got.any() || suppositionOf(nil, nil).any() {
		t.Errorf("%+v", got)
	}
}

// A recorded explanation is replayed to the same bytes, and by another Spec is
// not.
func TestReplayOfExplanations(t *testing.T) {
	spec, log := weightedRegions(t), filepath.Join(t.TempDir(), "log.jsonl")
	for _, s := range []supposition{{}, {down: cli.List{"fra"}}, {shifts: cli.List{"fra:50%"}}} {
		e, err := supposing(t, spec, &s)
		if err != nil {
			t.Fatal(err)
		}
		if err := appendRecord(log, e); err != nil {
			t.Fatal(err)
		}
	}
	run := func(file, spec, views string) error {
		out, err := replayLog(file, spec, views, nil)
		if err == nil {
			err = out.err()
		}
		if err == nil && out.Same != 3 {
			t.Errorf("%s: %+v", file, out)
		}
		return err
	}
	if err := run(log, spec, ""); err != nil {
		t.Error(err)
	}
	if err := run(log, threeRegions, ""); err == nil || !strings.Contains(err.Error(), "line 1: the moment is of the Spec with hash") {
		t.Errorf("by another Spec: %v", err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	moments, records := lines[0]+lines[2]+lines[4], lines[1]+lines[3]+lines[5]
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if err := run(write("records.jsonl", records), spec, write("views.jsonl", moments)); err != nil {
		t.Errorf("moments in a file of their own: %v", err)
	}
	wrong := strings.Replace(lines[1], `"answer":"`, `"answer":"AAAA`, 1)
	for want, text := range map[string]string{
		"no moment with hash":                   records,
		"1 of 1 records are answered otherwise": lines[0] + wrong,
		"line 1: unexpected end":                "{",
	} {
		if err := run(write("wrong.jsonl", text), spec, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := runReplay(t.Context(), []string{log}); !errors.Is(err, cli.ErrUsage) {
		t.Errorf("no --spec: %v", err)
	}
}
