// Package steer chooses regions for one client under a service's policy, the
// View and the shifts in force, and says why.
//
// A decision has two halves. Classes ranks the candidates by what the Spec and
// the client's place say; it changes with intent only, and the places that it
// ranks alike share a class. Scene lays health and shifts over a ranking; it
// is built anew with each View and is cheap, because services that are alike
// share what is decided.
//
// A service's policy is a tree: its own selection at the root, its groups
// below. A decision walks the tree in the client's order and comes to a list
// of regions; the first of them, up to records, are the answer.
//
// Pure floor: it imports fleet and geo. Everything comes in as an argument,
// the moment included.
package steer
