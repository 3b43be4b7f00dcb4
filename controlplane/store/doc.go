// Package store keeps the control plane's intent in etcd: an etcd server run
// as a supervised child process of the own program (its library may end the
// process it lives in, which must never be the one that answers queries), or
// an external one, and the client that implements controlplane.Store on both.
//
// Adapter floor: it imports etcd, fleet, identity and controlplane; only the
// roof imports it.
package store
