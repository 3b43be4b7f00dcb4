package health

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"meridian/fleet"
)

// NodeStatus is what this node has heard of another, or of itself.
type NodeStatus struct {
	Node       string       `json:"node"`
	Region     string       `json:"region"`
	Roles      []fleet.Role `json:"roles"`
	Live       bool         `json:"live"`                 // heard of within the last three periods
	Age        float64      `json:"age_seconds"`          // of its last frame; -1 where never heard of
	Revision   uint64       `json:"revision"`             // of the Snapshot that it has applied
	Hash       string       `json:"hash,omitempty"`       // the first 16 hex digits of that Snapshot's
	Abstaining bool         `json:"abstaining,omitempty"` // a prober that sees everything down
}

// Nodes lists every node that the Snapshot has or that was heard of, by name.
func (h *Health) Nodes() []NodeStatus {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	by := map[string]NodeStatus{}
	if s := h.intent.snapshot; s != nil {
		for _, n := range s.Spec.Nodes {
			by[n.Name] = NodeStatus{Node: n.Name, Region: n.Region, Roles: n.Roles, Age: -1}
		}
	}
	// A node is heard in several capacities, and maybe from two programs.
	newest, roles := map[string]*peer{}, map[string][]fleet.Role{}
	for key, p := range h.peers {
		if best := newest[key.node]; best == nil || p.at.After(best.at) {
			newest[key.node] = p
		}
		if now.Sub(p.at) <= silence {
			roles[key.node] = append(roles[key.node], p.head.Roles...)
		}
	}
	for name, p := range newest {
		all := roles[name]
		if all == nil {
			all = slices.Clone(p.head.Roles)
		}
		slices.Sort(all)
		by[name] = NodeStatus{
			Node: name, Region: p.head.Region, Roles: slices.Compact(all),
			Live: now.Sub(p.at) <= silence, Age: now.Sub(p.at).Seconds(),
			Revision: p.head.Revision, Hash: hex.EncodeToString(p.head.Hash[:]),
			Abstaining: slices.Contains(h.abstain, name),
		}
	}
	out := make([]NodeStatus, 0, len(by))
	for _, n := range by {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b NodeStatus) int { return strings.Compare(a.Node, b.Node) })
	return out
}
