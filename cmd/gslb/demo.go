//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"meridian/cli"
	"meridian/lab"
)

// demoCommands are the demo and the processes that it starts.
func demoCommands() []cli.Command {
	return []cli.Command{
		{Name: "demo", Summary: "build a small internet on this machine and serve in it", Run: runDemo},
		{Name: "lab-router", Hidden: true, Run: runLabRouter},
		{Name: "lab-backend", Hidden: true, Run: runLabBackend},
	}
}

func runDemo(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb demo [flags] | gslb demo kill|restore|drain|shift REGION [PERCENT]",
		"gslb demo --scenario region-loss --runs 3 --json")
	o := lab.DemoOptions{Out: os.Stdout, Err: os.Stderr}
	fs.StringVar(&o.Scenario, "scenario", "", "run `NAME` alone, print what it measured and end: "+strings.Join(lab.Scenarios(), ", "))
	fs.IntVar(&o.Runs, "runs", 3, "`N` runs of the scenario")
	fs.BoolVar(&o.JSON, "json", false, "print the scenario's figures as JSON, and sentences on stderr")
	fs.StringVar(&o.Logs, "logs", "", "keep the log of every process in `DIR`, which must not hold any yet")
	level := fs.String("log-level", "warn", "log of the demo itself: debug, info, warn or error")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		order, err := lab.ParseOrder(rest)
		if err != nil {
			return cli.Usagef(fs, "gslb demo: %v", err)
		}
		said, err := lab.Tell(ctx, order)
		if err == nil {
			fmt.Println(said)
		}
		return err
	}
	if o.Scenario != "" && !slices.Contains(lab.Scenarios(), o.Scenario) {
		return cli.Usagef(fs, "gslb demo: --scenario: %q is not one of %s", o.Scenario, strings.Join(lab.Scenarios(), ", "))
	}
	if o.Runs < 1 || o.Runs > 1000 {
		return cli.Usagef(fs, "gslb demo: --runs: %d is not between 1 and 1000", o.Runs)
	}
	if o.JSON && o.Scenario == "" {
		return cli.Usagef(fs, "gslb demo: --json needs --scenario")
	}
	if o.Log, err = cli.Logger(*level, "text"); err != nil {
		return cli.Usagef(fs, "gslb demo: %v", err)
	}
	if isTerminal(os.Stdin) {
		o.Keys = os.Stdin
	}
	return lab.Demo(ctx, o)
}

// isTerminal says whether somebody may type there.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func runLabRouter(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb lab-router --config FILE", "gslb lab-router --config router.json")
	file := fs.String("config", "", "configuration `FILE`")
	if _, err := cli.Parse(fs, args); err != nil {
		return err
	}
	cfg, err := lab.ReadRouterConfig(*file)
	if err != nil {
		return err
	}
	return lab.RunRouter(ctx, cfg, labLog(os.Stderr))
}

func runLabBackend(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb lab-backend --name NAME --region REGION --listen ADDR:PORT --cert FILE --key FILE",
		"gslb lab-backend --name one --region fra --listen 127.0.0.1:9443 --cert cert.pem --key key.pem")
	var cfg lab.BackendConfig
	fs.StringVar(&cfg.Name, "name", "", "its `NAME`")
	fs.StringVar(&cfg.Region, "region", "", "its `REGION`")
	fs.StringVar(&cfg.Listen, "listen", "", "`ADDR:PORT` to serve HTTPS at")
	fs.StringVar(&cfg.Cert, "cert", "", "certificate `FILE` in PEM")
	fs.StringVar(&cfg.Key, "key", "", "private key `FILE` in PEM")
	if _, err := cli.Parse(fs, args); err != nil {
		return err
	}
	return lab.RunBackend(ctx, cfg, labLog(os.Stderr))
}

func labLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
