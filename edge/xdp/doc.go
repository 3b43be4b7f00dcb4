// Package xdp is layer 4 of an edge node: it brings VIPs, rings and endpoints
// into the tables of a program at the node's device, checks each gateway
// through the VIP, and takes what fails out of the rings.
//
// One program serves a device, whatever the node's roles (see bpf/). With role
// l4 it balances: VIP, flow table or Maglev ring, endpoint, then a tunnel (IPv4
// or IPv6 in either) or the endpoint's MAC address, and out by the device that
// the route to the endpoint says.
// With role l7 it unpacks what the region's balancers send, so that the kernel
// sees the client's packet at the VIP, which [Addresses] puts on the loopback
// device; replies go straight to the client. Everything else passes.
//
// A gateway passes packets of connections that it does not have on to earlier
// owners of their slot (bpf/chance.h). Balancers keep flows only where the ring
// does not tell all (bpf/choose.h); they drop what the Spec's defence says
// (bpf/defend.h) and meet SYN floods with cookies that the gateways take
// (bpf/gate.h, bpf/accept.bpf.c). All of that can be run offline, explained and
// planned, and agrees with a plain reference in Go (reference_test.go).
//
// The ways to the endpoints (next hop, MTU) come from the kernel's routes and
// neighbours by netlink, ahead of the packets. The lookup that BPF offers
// instead, bpf_fib_lookup, wants forwarding on at the device, which would make
// a router of every node, and knows no MAC address for l2_dsr until somebody
// has asked for it.
//
// Adapter: it holds the kernel's interfaces (cilium/ebpf, netlink, raw
// sockets) and the TCP/IP stack of the checks. It imports fleet, geo,
// edge/maglev, edge/defence and edge/quiclb. Imported by cmd and lab only.
package xdp
