// Package identity derives from one fleet key all that the nodes of a fleet
// need to trust each other: the key that encrypts gossip, the key that seals
// objects at rest, and a certificate authority for mutual TLS, from which each
// process mints its own certificate. Nothing needs to be handed round but the
// key itself.
//
// Pure floor: it imports the standard library only and does no I/O; keys,
// time and random octets are arguments. Runtimes, adapters and the roof import
// it.
package identity
