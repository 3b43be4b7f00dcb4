//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DemoOptions is what the demo is asked for.
type DemoOptions struct {
	Scenario string // "" to stay and obey, or one of Scenarios
	Runs     int    // of the scenario
	Logs     string // directory to keep every process's log in; "" to keep none
	JSON     bool   // print the scenario's figures as JSON on Out, and sentences on Err

	Keys     io.Reader // orders typed by a visitor; nil where nobody types
	Out, Err io.Writer
	Log      *slog.Logger
}

// Scenarios lists the names of the scenarios.
func Scenarios() []string { return []string{"region-loss", "store-loss"} }

// Demo builds the fleet, serves it to the visitor, or runs a scenario, until
// that or ctx ends; and leaves nothing behind.
func Demo(ctx context.Context, o DemoOptions) (err error) {
	d := &demo{DemoOptions: o, words: o.Out}
	if o.JSON {
		d.words = o.Err
	}
	p, err := newPlace()
	if err != nil {
		return fmt.Errorf("place for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if o.Scenario == "" {
		if d.control, err = listenControl(); err != nil {
			return err
		}
		defer d.control.Close()
	}
	d.say("Preparing the two programs.")
	programs, err := FindPrograms(ctx, p.dir)
	if err != nil {
		return err
	}
	dir, err := p.lab()
	if err != nil {
		return err
	}
	top := d.introduce()
	if d.lab, err = Start(top, dir, programs, o.Log); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.keepLogs(dir, err != nil && ctx.Err() == nil))
		d.say("Taking everything down.")
		err = errors.Join(err, d.lab.Close())
	}()
	if o.Scenario != "" {
		err = d.scenario(ctx)
	} else {
		err = d.stay(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // asked to end
	}
	return err
}

type demo struct {
	DemoOptions
	words   io.Writer    // sentences for people
	control net.Listener // nil with a scenario
	lab     *Lab
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.words, format+"\n", args...) }

// introduce says what will be built.
func (d *demo) introduce() *Topology {
	if os.Geteuid() == 0 {
		d.say(`Building a small internet out of network namespaces: three regions on three continents, each
with a router, two edge nodes, two HTTPS backends and a gslb node; a core of three routers with
real distances between them (BGP and ECMP, by gobgp and the kernel); and clients in six cities.`)
		return World()
	}
	d.say(`You are not root, so the fleet runs on loopback: three regions, each with a gslb node, a gateway and
two HTTPS backends under addresses of 127.0.0.0/8. Without root there is no XDP and no BGP: DNS,
steering, probes, gateways, the store and the dashboard are as in the full demo. For all of it:
sudo gslb demo`)
	return Home()
}

// begin brings the fleet into service: the Spec, then clients.
func (d *demo) begin(ctx context.Context, seen *tally) (stop func(), err error) {
	d.say("Starting the processes; the control plane's three etcd children form a cluster.")
	if err := d.lab.configure(ctx); err != nil {
		return nil, err
	}
	d.say("The Spec is stored and pushed to every node. Clients begin to ask.")
	return d.lab.load(seen)
}

func (d *demo) scenario(ctx context.Context) error {
	seen := newTally()
	s := &scenario{lab: d.lab, say: d.say, seen: seen}
	s.out.Form = "namespaces"
	if d.lab.in == nil {
		s.out.Form = "loopback"
	}
	stop, err := d.begin(ctx, seen)
	if err != nil {
		return err
	}
	defer stop()
	run := s.regionLoss
	if d.Scenario == "store-loss" {
		run = s.storeLoss
	}
	if err := run(ctx, d.Runs); err != nil {
		return err
	}
	if d.JSON {
		enc := json.NewEncoder(d.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(s.out)
	}
	d.tell(&s.out)
	return nil
}

// tell gives the figures as sentences.
func (d *demo) tell(f *Figures) {
	for _, one := range []struct {
		what string
		s    *Series
	}{
		{"DNS answers changed", &f.DNS}, {"Anycast VIPs were re-routed", &f.BGP},
		{"Spec changes were acknowledged by every node", &f.Config},
	} {
		if one.s.N > 0 {
			d.say("%s after p50 %.0f ms, p99 %.0f ms, at most %.0f ms (%d measured).", one.what, one.s.P50, one.s.P99, one.s.Max, one.s.N)
		}
	}
	if f.Queries != nil {
		d.say("Of %d questions to the nameservers %d were lost.", f.Queries.Total, f.Queries.Lost)
	}
	d.say("Of %d requests %d failed, %d of them by clients near other regions.", f.Requests.Total, f.Requests.Failed, f.Requests.OtherRegions)
}

// stay serves the visitor until ctx ends or the visitor quits.
func (d *demo) stay(ctx context.Context) error {
	way, err := openPortal(d.lab, d.Log)
	if err != nil {
		return fmt.Errorf("ports of this machine that lead inside: %w", err)
	}
	defer way.close()
	seen := newTally()
	stop, err := d.begin(ctx, seen)
	if err != nil {
		return err
	}
	defer stop()
	settle, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	if err := d.lab.settled(settle, seen); err != nil {
		return err
	}
	seen.reset()
	d.guide()
	served := make(chan struct{})
	go func() { defer close(served); serveControl(d.control, d.obey) }()
	defer func() { d.control.Close(); <-served }()
	lines := d.typed()
	news := time.NewTicker(time.Second)
	defer news.Stop()
	show := &board{lab: d.lab, say: d.say}
	for {
		show.update(seen)
		select {
		case <-ctx.Done():
			return nil
		case <-news.C:
		case line, ok := <-lines:
			if !ok {
				lines = nil
				continue
			}
			if line == "q" || line == "quit" {
				return nil
			}
			d.command(ctx, line)
		}
	}
}

// obey carries out an order and tells the visitor, whoever gave it.
func (d *demo) obey(ctx context.Context, o Order) (string, error) {
	said, err := d.lab.obey(ctx, o)
	if err != nil {
		return "", err
	}
	d.say("%s", said)
	return said, nil
}

func (d *demo) command(ctx context.Context, line string) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return
	}
	o, err := ParseOrder(words)
	if err == nil {
		_, err = d.obey(ctx, o)
	}
	if err != nil {
		d.say("%v", err)
	}
}

// typed gives the lines that the visitor types; nil where nobody does. Its
// goroutine ends with the input, or with the process.
func (d *demo) typed() <-chan string {
	if d.Keys == nil {
		return nil
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(d.Keys); in.Scan(); {
			lines <- strings.TrimSpace(in.Text())
		}
	}()
	return lines
}

// keepLogs moves the logs out of what is removed, where the visitor asked for
// them or the demo failed.
func (d *demo) keepLogs(dir string, failed bool) error {
	to := d.Logs
	if to == "" && !failed {
		return nil
	}
	if to == "" {
		var err error
		if to, err = os.MkdirTemp("", "meridian-demo-logs-"); err != nil {
			return err
		}
	}
	if err := os.CopyFS(to, os.DirFS(filepath.Join(dir, "logs"))); err != nil {
		return fmt.Errorf("keep the logs: %w", err)
	}
	d.say("The logs of every process are in %s.", to)
	return nil
}
