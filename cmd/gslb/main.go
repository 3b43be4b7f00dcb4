// Command gslb is Meridian's nameserver, control plane, prober and dashboard.
//
// Roof: it wires rooms to flags, files and signals; nobody imports it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// command is one subcommand. Its run parses args itself with newFlags and
// returns errUsage (exit 2) for a wrong call, any other error for exit 1.
type command struct {
	name    string
	summary string
	hidden  bool
	run     func(ctx context.Context, args []string) error
}

// commands lists the subcommands in the order that help shows them.
var commands = []command{}

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "gslb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		usage(os.Stdout)
		return nil
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.run(ctx, args[1:])
		}
	}
	fmt.Fprintf(os.Stderr, "gslb: unknown command %q; gslb --help lists them\n", args[0])
	return errUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "gslb is Meridian's nameserver, control plane, prober and dashboard.\n\nUsage: gslb COMMAND [flags]\n\n")
	for _, c := range commands {
		if !c.hidden {
			fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
		}
	}
	fmt.Fprint(w, "\nEach command has --help with an example.\n")
}

// newFlags makes the flag set of a command; its help is the synopsis, the
// flags and the example.
func newFlags(name, synopsis, example string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "Usage: gslb %s %s\n\n", name, synopsis)
		fs.PrintDefaults()
		fmt.Fprintf(fs.Output(), "\nExample:\n  %s\n", example)
	}
	return fs
}

// parse reads the flags; a wrong one is errUsage, which main turns into exit 2.
func parse(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return errUsage
	}
	return err
}
