package server

import (
	"testing"

	"meridian/fleet"
	"meridian/geo/mmdb"
)

// A change of health is in the answers at once, and scopes follow; a plan that
// has come since takes them over, or is left alone where it decides otherwise.
func TestScopesSettleAfterAChangeOfHealth(t *testing.T) {
	source, err := mmdb.Default()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *Config) { c.Geo = source })
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	dead := &fleet.View{Revision: 1, Verdicts: map[fleet.Target]fleet.Verdict{
		{Kind: fleet.TargetService, Region: "fra", Service: "web"}: {State: fleet.Down}}}
	old := s.Plan()
	s.SetView(dead)
	if s.Plan() == old {
		t.Fatal("the View was not taken")
	}
	s.settle()
	if !s.Plan().Settled() {
		t.Error("scopes have not settled")
	}
	if p := s.Plan(); p.WithScopes(old) != p {
		t.Error("a plan takes over scopes of other decisions")
	}
}
