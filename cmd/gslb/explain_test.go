package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"strings"
	"testing"

	"meridian/dns/answer"
)

const threeRegions = "../../examples/three-regions.yaml"

func ask(t *testing.T, args []string, client string, down ...string) *answer.Explanation {
	t.Helper()
	q, err := parseQuestion(flag.NewFlagSet("explain", flag.ContinueOnError), args, client)
	if err != nil {
		t.Fatal(err)
	}
	e, err := explainOffline(q, threeRegions, &supposition{down: down}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Offline, from a Spec alone: where a client is sent, and where if a region
// were down.
func TestExplainOffline(t *testing.T) {
	for _, c := range []struct {
		client string
		down   []string
		region string
		says   string
	}{
		{"91.0.0.1", nil, "fra", "proximity: by distance from Germany, EU"},
		{"133.11.0.0/24", nil, "nrt", "proximity: by distance from Japan, AS"},
		{"2400:4000::1", nil, "nrt", "proximity: by distance from Japan, AS"},
		{"91.0.0.1", []string{"fra"}, "iad", "fra down, supposed by --down"},
		{"91.0.0.1", []string{"fra", "iad", "nrt"}, "fra", "fail_open"},
		{"10.0.0.1", nil, "fra", "the client's place is not known"},
	} {
		e := ask(t, []string{"www.example.com"}, c.client, c.down...)
		if got := e.Decision.Regions[0]; got != c.region {
			t.Errorf("%s with %v down: %s, want %s", c.client, c.down, got, c.region)
		}
		if s := e.String(); !strings.Contains(s, c.says) {
			t.Errorf("%s with %v down: no %q in\n%s", c.client, c.down, c.says, s)
		}
	}
}

func TestExplainJSON(t *testing.T) {
	var b bytes.Buffer
	if err := printExplanation(&b, ask(t, []string{"www.example.com", "aaaa"}, "91.0.0.1"), true); err != nil {
		t.Fatal(err)
	}
	var e answer.Explanation
	if err := json.Unmarshal(b.Bytes(), &e); err != nil || e.Type != "AAAA" || e.Decision.Regions[0] != "fra" {
		t.Errorf("%v %s", err, b.Bytes())
	}
}

func TestExplainSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		args   []string
		client string
	}{
		{nil, "91.0.0.1"},
		{[]string{"a..b"}, "91.0.0.1"},
		{[]string{"www.example.com", "NOTYPE"}, "91.0.0.1"},
		{[]string{"www.example.com"}, ""},
		{[]string{"www.example.com"}, "here"},
	} {
		fs := flag.NewFlagSet("explain", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		if _, err := parseQuestion(fs, c.args, c.client); err == nil {
			t.Errorf("%v for %q was accepted", c.args, c.client)
		}
	}
	q, err := parseQuestion(flag.NewFlagSet("explain", flag.ContinueOnError), []string{"www.example.com"}, "91.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := explainOffline(q, threeRegions, &supposition{down: []string{"mars"}}, nil); err == nil || !strings.Contains(err.Error(), `region "mars" does not exist`) {
		t.Errorf("%v", err)
	}
	if _, err := explainOffline(q, "absent.yaml", nil, nil); err == nil || !strings.Contains(err.Error(), "absent.yaml") {
		t.Errorf("%v", err)
	}
}
