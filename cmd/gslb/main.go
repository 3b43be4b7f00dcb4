// Command gslb is Meridian's nameserver, control plane, prober and dashboard.
//
// Roof: it wires rooms to flags, files and signals; nobody imports it.
package main

import "meridian/cli"

// commands lists the subcommands in the order that help shows them.
var commands = append(explainCommands(), demoCommands()...)

func main() {
	program := &cli.Program{
		Name:     "gslb",
		About:    "gslb is Meridian's nameserver, control plane, prober and dashboard.",
		Commands: commands,
	}
	program.Main()
}
