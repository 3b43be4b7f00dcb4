//go:build !linux

package main

import (
	"context"
	"errors"

	"meridian/cli"
)

// demoCommands says that the demo needs Linux, for its namespaces and for the
// addresses of its loopback alike.
func demoCommands() []cli.Command {
	return []cli.Command{{Name: "demo", Summary: "build a small internet on this machine and serve in it (Linux only)",
		Run: func(context.Context, []string) error { return errors.New("the demo needs Linux") }}}
}
