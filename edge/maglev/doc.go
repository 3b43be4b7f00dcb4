// Package maglev builds weighted Maglev rings: tables that spread hashes over
// members by weight, evenly, and change little when a member comes or goes
// (Eisenbud et al., "Maglev", NSDI 2016).
//
// It also holds the limits of the layer-4 balancer and the rules that a Spec
// keeps because of them, since package rules, which is pure, cannot import the
// balancer itself.
//
// Pure room: it does no I/O, reads no clock and starts no goroutine. It imports
// fleet. Imported by edge/xdp, edge/l7 and rules.
package maglev
