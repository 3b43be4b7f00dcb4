//go:build ignore

// Command gen writes the JSON Schema and the configuration reference.
package main

import (
	"log"
	"os"

	"meridian/fleet"
)

func main() {
	for name, data := range map[string][]byte{
		"../docs/spec.schema.json": fleet.Schema(),
		"../docs/configuration.md": fleet.Reference(),
	} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
