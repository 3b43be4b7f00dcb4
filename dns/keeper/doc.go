// Package keeper keeps the zones that the fleet itself writes: it makes what
// nameservers are given of what operators and updates write. It counts
// serials, looks up the addresses of aliases, keeps keys through roll-overs,
// signs, publishes what parents are to know, and lists zones in catalogs.
//
// It runs where zones are written: in the control plane, or in a node that
// works from a Spec file. Nameservers get finished zones and no keys,
// but for the ZSK of zones with compact denial.
//
// Runtime floor: it imports fleet, identity, dns/zone, dns/sign,
// dns/catalog and dns/answer; cmd and the control plane's rooms meet it by its types or by
// interfaces of their own.
package keeper
