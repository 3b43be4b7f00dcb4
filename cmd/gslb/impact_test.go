package main

import (
	"maps"
	"testing"

	"meridian/dns/answer"
)

// What moves is told as a share of clients, a country that moves in part
// counted in part.
func TestMovedCountsSharesOfCountries(t *testing.T) {
	before := []answer.Steering{{Country: "DE", Region: "fra"}, {Country: "JP", Region: "nrt"}, {Country: "BR", Region: "iad"}, {Country: "FR", Region: "fra"}}
	after := []answer.Steering{{Country: "DE", Region: "fra", Shares: map[string]float64{"fra": 0.75, "iad": 0.25}},
		{Country: "JP", Region: "nrt"}, {Country: "BR", Region: "iad"}, {Country: "FR", Region: "iad"}}
	m := moved("web", before, after)
	if m.Share != 0.313 || m.Countries != 2 || m.Of != 4 ||
		!maps.Equal(m.From, map[string]float64{"fra": 1.25}) || !maps.Equal(m.To, map[string]float64{"iad": 1.25}) {
		t.Errorf("%+v", m)
	}
	if same := moved("web", after, after); same.Share != 0 || same.Countries != 0 {
		t.Errorf("nothing moves, and it says %+v", same)
	}
}
