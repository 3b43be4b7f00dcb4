// Package node is the agent in both programs: it takes the World from a Source
// (the control plane, or a Spec file), applies it in order to everything that
// depends on it, all or nothing, and keeps the last good one on disk, so that
// the node starts and serves with the control plane away.
//
// Runtime floor: it imports fleet, identity and rules; the roof imports it.
package node
