package steer

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"

	"meridian/fleet"
)

// tree is one service's steering, names resolved. Services whose steering
// reads the same share one tree. It is immutable.
type tree struct {
	st       *fleet.Steering
	id       int    // trees are numbered from 0
	kind     int    // which rankings it goes by
	nodes    []node // the service's own selection, then its groups, in the Spec's order
	leaves   mask   // regions that an answer can hold
	measured bool   // some node goes by latency
}

// node is one selection: the service's own or a group's.
type node struct {
	name     string // the group's id; empty for the service's own
	sel      *fleet.Selection
	members  []member // candidates, in the Spec's order
	fallback []member
	unmapped []uint8   // positions of all members, for clients of unknown place
	at       [][]uint8 // by region: positions of the members whose first leaf it is
	records  int
	need     int         // members that must be up
	slots    *slotOrders // for policy weighted
	subnets  *subnets    // for policy subnet
}

// member is a candidate: a region, or a group by its node.
type member struct {
	id     string
	region uint8
	node   uint8 // 0: it is a region
	weight int
	bias   float64 // kilometres
	leaves []uint8
}

// index gives the number of a region by its id.
func indexRegions(spec *fleet.Spec) map[string]int {
	out := make(map[string]int, len(spec.Regions))
	for i := range spec.Regions {
		out[spec.Regions[i].ID] = i
	}
	return out
}

// newTree resolves a steering whose references are sound; see Check.
func newTree(spec *fleet.Spec, regions map[string]int, st *fleet.Steering) *tree {
	t := &tree{st: st, nodes: make([]node, 1+len(st.Groups))}
	groups := map[string]int{}
	t.nodes[0] = node{sel: &st.Selection}
	for i := range st.Groups {
		g := &st.Groups[i]
		groups[g.Group] = i + 1
		t.nodes[i+1] = node{name: g.Group, sel: &g.Selection}
	}
	resolve := func(ids []string) []member {
		var out []member
		for _, id := range ids {
			if g, ok := groups[id]; ok {
				out = append(out, member{id: id, node: uint8(g)})
			} else if r, ok := regions[id]; ok {
				out = append(out, member{id: id, region: uint8(r), leaves: []uint8{uint8(r)}})
			}
		}
		return out
	}
	for i := range t.nodes {
		n := &t.nodes[i]
		ids := n.sel.Regions
		if len(ids) == 0 && i == 0 {
			for j := range spec.Regions {
				ids = append(ids, spec.Regions[j].ID)
			}
		}
		n.members, n.fallback = resolve(ids), resolve(n.sel.Fallback)
		for j := range n.members {
			n.members[j].weight, n.members[j].bias = n.sel.Weights[n.members[j].id], n.sel.Bias[n.members[j].id]
		}
		n.need = max(1, int(math.Ceil(n.sel.MinHealthy*float64(len(n.members))-1e-9)))
		t.measured = t.measured || n.sel.Policy == fleet.Latency
	}
	t.settle(0, max(1, st.Records))
	for i := range t.nodes {
		n := &t.nodes[i]
		n.unmapped = n.front(n.sel.Unmapped)
		n.at = make([][]uint8, len(spec.Regions))
		for j := range n.members {
			first := uint8(0)
			if leaves := n.members[j].leaves; len(leaves) > 0 {
				first = leaves[0]
			}
			n.at[first] = append(n.at[first], uint8(j))
		}
		if n.sel.Policy == fleet.Weighted {
			n.slots = weigh(n)
		}
		if n.sel.Policy == fleet.Subnet {
			n.subnets = newSubnets(spec, n)
		}
	}
	for _, r := range t.reach(0) {
		t.leaves.set(r)
	}
	return t
}

// settle hands records down and notes the leaves below each member.
func (t *tree) settle(at uint8, records int) {
	n := &t.nodes[at]
	if n.sel.Records > 0 {
		records = n.sel.Records
	}
	n.records = min(records, maxRecords)
	for _, list := range [][]member{n.members, n.fallback} {
		for i := range list {
			if m := &list[i]; m.node > 0 {
				t.settle(m.node, records)
				m.leaves = t.reach(m.node)
			}
		}
	}
}

// reach lists the regions that a node can come to, each once, in order.
func (t *tree) reach(at uint8) []uint8 {
	var out []uint8
	n := &t.nodes[at]
	for _, list := range [][]member{n.members, n.fallback} {
		for _, m := range list {
			leaves := m.leaves
			if m.node > 0 {
				leaves = t.reach(m.node)
			}
			for _, r := range leaves {
				if !slices.Contains(out, r) {
					out = append(out, r)
				}
			}
		}
	}
	return out
}

// front gives the positions of all members, those named first in that order,
// the others as they are.
func (n *node) front(ids []string) []uint8 {
	out := make([]uint8, len(n.members))
	for i := range out {
		out[i] = uint8(i)
	}
	n.prefer(out, ids)
	return out
}

// prefer moves the members named to the front, in that order.
func (n *node) prefer(order []uint8, ids []string) {
	if len(ids) == 0 {
		return
	}
	at := 0
	for _, id := range ids {
		for i := at; i < len(order); i++ {
			if m := order[i]; n.members[m].id == id {
				copy(order[at+1:i+1], order[at:i])
				order[at] = m
				at++
			}
		}
	}
}

// subnets finds the rule for a network: by prefix, the longest winning, and
// the node's own rules before those of its map.
type subnets struct {
	own, shared prefixes[[]string]
}

func newSubnets(spec *fleet.Spec, n *node) *subnets {
	s := &subnets{own: prefixesOf(n.sel.Subnets)}
	for i := range spec.SubnetMaps {
		if spec.SubnetMaps[i].Map == n.sel.SubnetMap {
			s.shared = prefixesOf(spec.SubnetMaps[i].Subnets)
		}
	}
	return s
}

func prefixesOf(rules []fleet.SubnetRule) prefixes[[]string] {
	var out prefixes[[]string]
	for _, r := range rules {
		for _, p := range r.Prefixes {
			out.add(p, r.Regions)
		}
	}
	out.done()
	return out
}

// find gives the regions for a network, and the prefix that says so.
func (s *subnets) find(p netip.Prefix) ([]string, netip.Prefix) {
	if regions, at := s.own.find(p); at.IsValid() {
		return regions, at
	}
	return s.shared.find(p)
}

// prefixes finds the longest prefix that holds a network.
type prefixes[T any] struct {
	at      map[netip.Prefix]T
	lengths []int // that occur, longest first
}

func (s *prefixes[T]) add(p netip.Prefix, v T) {
	if s.at == nil {
		s.at = map[netip.Prefix]T{}
	}
	s.at[p.Masked()] = v
}

func (s *prefixes[T]) done() {
	seen := map[int]bool{}
	for p := range s.at {
		seen[p.Bits()] = true
	}
	for bits := 128; bits >= 0; bits-- {
		if seen[bits] {
			s.lengths = append(s.lengths, bits)
		}
	}
}

func (s *prefixes[T]) find(p netip.Prefix) (T, netip.Prefix) {
	for _, bits := range s.lengths {
		if !p.IsValid() || bits > p.Bits() {
			continue
		}
		q := netip.PrefixFrom(p.Addr(), bits).Masked()
		if v, ok := s.at[q]; ok {
			return v, q
		}
	}
	var none T
	return none, netip.Prefix{}
}

// rankIntent names what the rankings of a steering depend on, besides the
// regions' places, the maps and the database.
func rankIntent(st *fleet.Steering) string {
	bare := func(s fleet.Selection) fleet.Selection {
		return fleet.Selection{Policy: s.Policy, Regions: s.Regions, Geo: s.Geo, Subnets: s.Subnets, SubnetMap: s.SubnetMap,
			Weights: s.Weights, Bias: s.Bias, Unmapped: s.Unmapped}
	}
	out := fleet.Steering{Selection: bare(st.Selection)}
	for _, g := range st.Groups {
		out.Groups = append(out.Groups, fleet.Group{Group: g.Group, Selection: bare(g.Selection)})
	}
	return text(out)
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("steer: a Spec holds only types that marshal: " + err.Error())
	}
	return string(b)
}
