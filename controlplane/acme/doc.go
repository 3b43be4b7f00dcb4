// Package acme has the fleet's certificates issued and renews them, by ACME
// (RFC 8555) with renewal information (RFC 9773) or by an authority of the
// fleet's own. It works at the control plane's leader: what it issues, and what
// authorities are answered on the way, it puts as live objects, and goes on
// once the nodes that are asked have acknowledged them.
//
// certmagic keeps accounts, certificates and keys, in the control plane's
// store, sealed; when to renew and what to try again when is decided here.
//
// Adapter floor: it imports certmagic, acmez, controlplane, fleet and rules;
// only the roof imports it.
package acme
