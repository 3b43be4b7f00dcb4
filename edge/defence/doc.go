// Package defence works out what layer 4 does against floods: which networks
// are let through or blocked, and whether a Spec fits the tables.
//
// Pure floor: it imports fleet and geo. edge/xdp carries it out; rules asks it
// about Specs.
package defence
