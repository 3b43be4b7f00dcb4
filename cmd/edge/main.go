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
			{Name: "detach", Summary: "take layer 4 off its device after edge run has ended", Run: detach},
		},
	}
	program.Main()
}
