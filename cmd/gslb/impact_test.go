package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meridian/dns/answer"
)

func worldMoves(t *testing.T, change func(string) string, down ...string) []answer.Move {
	t.Helper()
	doc, err := os.ReadFile(threeRegions)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	next := filepath.Join(dir, "next.yaml")
	if err := os.WriteFile(next, []byte(change(string(doc))), 0o600); err != nil {
		t.Fatal(err)
	}
	old, _, err := readZones(threeRegions)
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := readZones(next)
	if err != nil {
		t.Fatal(err)
	}
	view, err := supposed(old.Snapshot, down)
	if err != nil {
		t.Fatal(err)
	}
	m, err := moves(old, w, nil, view)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What moves is told as a share of the clients of the geo database, by region,
// by country and by example; a service that stays says so.
func TestImpactTellsWhoMoves(t *testing.T) {
	m := worldMoves(t, func(s string) string {
		return strings.Replace(s, "steering: {policy: proximity}", "steering: {policy: failover, regions: [nrt, fra, iad]}", 1)
	})
	var b bytes.Buffer
	showMoves(&b, m)
	web := m[0]
	if web.Share < 0.5 || web.Share > 0.95 || web.From["fra"] == 0 || web.From["iad"] == 0 || web.To["nrt"] < web.Share-1e-9 || len(web.Examples) == 0 {
		t.Errorf("%+v\n%s", web, b.String())
	}
	for _, want := range []string{"would go elsewhere", "from iad", "to   nrt", "US (100 % of its clients)", "-> nrt"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for _, m := range worldMoves(t, func(s string) string { return s }) {
		if m.Share != 0 || len(m.Countries) != 0 {
			t.Errorf("nothing moves, and it says %+v", m)
		}
	}
}
