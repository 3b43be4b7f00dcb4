// Package controlplane takes Specs and shifts from operators, checks them,
// keeps them in a Store that all replicas share, and publishes the World that
// follows to the nodes. It holds the ledger of who has acknowledged what.
//
// Every replica works alone: it serves the newest World it knows, from the
// Store or from its own disk, and needs the Store only to change something.
//
// Runtime floor: it imports fleet and rules. The rooms store, xds and api
// below it and the roof import it, nobody else.
package controlplane
