//go:build ignore

// Generate writes docs/conformance.md.
package main

import (
	"log"
	"os"

	"meridian/dns/conformance"
)

func main() {
	doc, err := conformance.Document("../..")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("../../docs/conformance.md", doc, 0o644); err != nil {
		log.Fatal(err)
	}
}
