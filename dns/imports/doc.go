// Package imports turns what other nameservers and services are configured
// with into a fragment of a Spec and zone files: named.conf (BIND), PowerDNS
// with its Lua records, gdnsd, and the JSON of Route 53. What has no
// counterpart is never dropped in silence: each piece gets a Note that says
// what it is and why.
//
// Pure floor: bytes in, Result out; files are read through a function that is
// handed in. It imports fleet and dns/zone. The roof imports it.
package imports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Files reads a file that another one names.
type Files func(name string) ([]byte, error)

// Note is one piece that could not be brought over as it was.
type Note struct {
	At   string `json:"at"`   // FILE:LINE, or the object
	What string `json:"what"` // the piece
	Why  string `json:"why"`  // and what became of it
}

// String gives the note as a line.
func (n Note) String() string { return fmt.Sprintf("%s: %s: %s", n.At, n.What, n.Why) }

// Spec is the fragment of a Spec: what an import can know of one.
type Spec struct {
	Regions  []fleet.Region  `json:"regions,omitempty"`
	Nodes    []fleet.Node    `json:"nodes,omitempty"`
	Services []fleet.Service `json:"services,omitempty"`
	Zones    []fleet.Zone    `json:"zones,omitempty"`
	DNS      *DNS            `json:"dns,omitempty"`
}

// DNS is the part of fleet.DNS that an import can know.
type DNS struct {
	Keys []fleet.TSIGKey `json:"keys,omitempty"`
}

// Result is what an import came to.
type Result struct {
	Spec    Spec
	Zones   map[string][]byte // master files, by the name that the Spec has them under
	Secrets map[string][]byte // keys, likewise
	Notes   []Note
}

func newResult() *Result {
	return &Result{Zones: map[string][]byte{}, Secrets: map[string][]byte{}}
}

func (r *Result) note(at, what, why string, args ...any) {
	n := Note{at, what, fmt.Sprintf(why, args...)}
	if !slices.Contains(r.Notes, n) {
		r.Notes = append(r.Notes, n)
	}
}

// zone adds a zone with its content, which is checked; what is wrong with it
// is noted, and it is brought over nevertheless.
func (r *Result) zone(at string, z fleet.Zone, text []byte) *fleet.Zone {
	z.File = zoneFileName(z.Zone)
	r.Zones[z.File] = text
	if _, err := zone.Load(z.Zone, text, z.File); err != nil {
		r.note(at, "zone "+string(z.Zone), "cannot be served as it is: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	r.Spec.Zones = append(r.Spec.Zones, z)
	return &r.Spec.Zones[len(r.Spec.Zones)-1]
}

// Complete adds what a Spec must have and none of the sources tells: a region
// and a node, so that it can be checked and served as it is.
func (r *Result) Complete() {
	if len(r.Spec.Regions) == 0 {
		r.Spec.Regions = []fleet.Region{{ID: "home", Location: fleet.Location{}}}
		r.note("spec.yaml", "region home", "every Spec has a region: give it a name and a place")
	}
	if len(r.Spec.Nodes) == 0 {
		r.Spec.Nodes = []fleet.Node{{Name: "one", Region: r.Spec.Regions[0].ID, Roles: []fleet.Role{fleet.RoleDNS},
			Addresses: fleet.NodeAddrs{V4: netip.AddrFrom4([4]byte{127, 0, 0, 1})}}}
		r.note("spec.yaml", "node one", "stands for the nameserver (gslb serve --node one --spec spec.yaml): set your nodes and their addresses")
	}
}

// zoneFileName is where a zone's file goes: zones/NAME.zone, with what may not
// stand in a file's name replaced.
func zoneFileName(n fleet.Name) string {
	if n == "." {
		return "zones/root.zone"
	}
	name := strings.Map(func(c rune) rune {
		if c == '/' || c == '\\' || c < ' ' {
			return '_'
		}
		return c
	}, strings.TrimSuffix(string(n), "."))
	return "zones/" + name + ".zone"
}

// Document gives the fragment as YAML.
func (s *Spec) Document() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("imported spec: %w", err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(fleet.YAMLSafe(b), &n); err != nil { // JSON is YAML, in the types' order
		return nil, fmt.Errorf("imported spec: %w", err)
	}
	if len(n.Content) == 0 || !prune(n.Content[0]) {
		return []byte("# nothing\n"), nil
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return nil, fmt.Errorf("imported spec: %w", err)
	}
	return out.Bytes(), nil
}

// prune drops empty parts and sets the style of people; it says whether
// anything is left.
func prune(n *yaml.Node) bool {
	n.Style = 0
	switch n.Kind {
	case yaml.MappingNode:
		var kept []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			n.Content[i].Style = 0
			if prune(n.Content[i+1]) {
				kept = append(kept, n.Content[i], n.Content[i+1])
			}
		}
		n.Content = kept
		return len(kept) > 0
	case yaml.SequenceNode:
		scalars := true
		for _, c := range n.Content {
			prune(c)
			scalars = scalars && c.Kind == yaml.ScalarNode
		}
		if scalars {
			n.Style = yaml.FlowStyle
		}
		return len(n.Content) > 0
	}
	return n.Tag != "!!null" && n.Value != ""
}

// ordered gives a map's keys in order.
func ordered[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
