// Command edge is Meridian's edge node: XDP Maglev balancer, gateway and BGP
// speaker.
//
// Roof: it wires rooms to flags, files and signals; nobody imports it.
package main

import "meridian/cli"

func main() {
	program := &cli.Program{
		Name:  "edge",
		About: "edge is Meridian's edge node: XDP Maglev balancer, TLS gateway and BGP speaker.",
		Commands: []cli.Command{
			{Name: "run", Summary: "run this node's layer 4, layer 7 and BGP", Run: run},
			{Name: "upgrade", Summary: "have the program that is now in the file of edge run take over, without a failed request", Run: runUpgrade},
			{Name: "packet", Summary: "run a capture's packets through layer 4, offline", Run: runPacket},
			{Name: "explain", Summary: "say where a flow goes on this node, and why", Run: runExplain},
			{Name: "why", Summary: "follow one request from its name to the endpoint that answered it, and say why", Run: runWhy},
			{Name: "members", Summary: "list the gateways and endpoints of this node's layer 4, and how it is with each", Run: runMembers},
			{Name: "plan", Summary: "say what a Spec would move and break, before it is applied", Run: runPlan},
			{Name: "route", Summary: "say which route a request takes by a Spec, and why no other", Run: runRoute},
			{Name: "hostsetup", Summary: "print the commands that set up an endpoint's host where edge does not run", Run: hostsetup},
			{Name: "rule", Summary: "add, list and delete rules of layer 4's defence on this node", Run: runRule},
			{Name: "top", Summary: "show what this node's layer 4 gets, from whom, and what becomes of it", Run: runTop},
			{Name: "capture", Summary: "write packets that come to this node's layer 4 to a pcap file", Run: runCapture},
			{Name: "detach", Summary: "take layer 4 off its device after edge run has ended", Run: detach},
		},
	}
	program.Main()
}
