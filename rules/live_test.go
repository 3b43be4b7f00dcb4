package rules

import (
	"fmt"
	"slices"
	"testing"

	"meridian/fleet"
)

// Nodes get the live objects that their roles need, and no others' keys.
func TestLiveObjectsGoToWhomTheyConcern(t *testing.T) {
	var all *fleet.Zones
	for _, id := range []fleet.Name{"gateways/fra", "gateways/nrt", "ech-keys/fleet", "ech-list/fleet", "mark/1", "demand/a.test"} {
		all = all.With([]fleet.Object{LiveObject(id, []byte("{}"))}, nil)
	}
	for role, want := range map[fleet.Role]string{
		fleet.RoleL7:      "[ech-keys/fleet gateways/fra]",
		fleet.RoleDNS:     "[ech-list/fleet mark/1]",
		fleet.RoleL4:      "[]",
		fleet.RoleControl: "[]",
	} {
		got := []string{}
		for o := range LiveFor(&fleet.Node{Name: "n", Region: "fra", Roles: []fleet.Role{role}}, all).All() {
			got = append(got, o.Key.ID)
		}
		slices.Sort(got)
		if fmt.Sprint(got) != want {
			t.Errorf("role %s gets %s, expected %s", role, got, want)
		}
	}
}
