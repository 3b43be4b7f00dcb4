// Package cli is what the two programs share on the command line: subcommands,
// help, exit codes and the log.
//
// Roof: imported by cmd/gslb and cmd/edge only.
package cli

//go:generate go run gen/main.go

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Command is one subcommand. Run parses args itself, with Flags and Parse; it
// returns ErrUsage for a wrong call.
type Command struct {
	Name    string
	Summary string
	Hidden  bool // a program's own helper process; not in the help
	Run     func(ctx context.Context, args []string) error
}

// ErrUsage is a wrong call that has been explained already; exit code 2.
var ErrUsage = errors.New("usage")

// Program is a program with subcommands.
type Program struct {
	Name     string
	About    string
	Commands []Command
}

// Main runs the subcommand that the process was called with and exits: 0 for
// success, 1 for failure, 2 for a wrong call. An interrupt or SIGTERM ends ctx.
func (p *Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := p.run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, ErrUsage):
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		os.Exit(1)
	}
}

func (p *Program) run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		p.usage(os.Stdout)
		return nil
	}
	for _, c := range p.Commands {
		if c.Name == args[0] {
			return c.Run(ctx, args[1:])
		}
	}
	fmt.Fprintf(os.Stderr, "%s: unknown command %q; %s --help lists them\n", p.Name, args[0], p.Name)
	return ErrUsage
}

func (p *Program) usage(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nUsage: %s COMMAND [flags]\n\n", p.About, p.Name)
	for _, c := range p.Commands {
		if !c.Hidden {
			fmt.Fprintf(w, "  %-10s %s\n", c.Name, c.Summary)
		}
	}
	fmt.Fprint(w, "\nEach command has --help with an example.\n")
}

// Flags makes the flag set of a command, called as on the synopsis; its help
// shows the synopsis, the flags and an example.
func Flags(synopsis, example string) *flag.FlagSet {
	fs := flag.NewFlagSet(synopsis, flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "Usage: %s\n\n", synopsis)
		fs.PrintDefaults()
		fmt.Fprintf(fs.Output(), "\nExample:\n  %s\n", example)
	}
	return fs
}

// Parse reads the flags. They may stand before and after the arguments, which
// it returns; a wrong one gives ErrUsage.
func Parse(fs *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		err := fs.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return nil, err
		case err != nil:
			return nil, ErrUsage
		case fs.NArg() == 0:
			return rest, nil
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// Usagef explains a wrong call and gives ErrUsage.
func Usagef(fs *flag.FlagSet, format string, args ...any) error {
	fmt.Fprintf(fs.Output(), format+"\n", args...)
	fs.Usage()
	return ErrUsage
}

// List is a flag that may be repeated and may hold several values, separated
// by commas.
type List []string

// String joins the values as they may be given.
func (l *List) String() string { return strings.Join(*l, ",") }

// Set adds one or more values.
func (l *List) Set(s string) error {
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*l = append(*l, v)
		}
	}
	return nil
}

// Logger writes to stderr: text for people, or JSON where a program reads it.
func Logger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is not debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is not text or json", format)
}
