// Command gslb is Meridian's nameserver, control plane, prober and dashboard.
//
// Roof: it wires rooms to flags, files and signals; nobody imports it.
package main

import (
	"slices"

	"meridian/cli"
)

func main() {
	program := &cli.Program{
		Name:     "gslb",
		About:    "gslb is Meridian's nameserver, control plane, prober and dashboard.",
		Commands: slices.Concat(demoCommands(), serveCommands(), explainCommands(), keyCommands(), zoneCommands(), clientCommands()),
	}
	program.Main()
}
