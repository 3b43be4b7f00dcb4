package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"meridian/cli"
	"meridian/controlplane"
	"meridian/controlplane/api"
	"meridian/node"
)

// summary is what a Spec amounts to.
type summary struct {
	File         string `json:"file"`
	Fleet        string `json:"fleet"`
	Hash         string `json:"hash"`
	Regions      int    `json:"regions"`
	Nodes        int    `json:"nodes"`
	Services     int    `json:"services"`
	Zones        int    `json:"zones"`
	Certificates int    `json:"certificates"`

	Warnings []string `json:"warnings,omitempty"`
}

func runCheck(_ context.Context, args []string) error {
	fs := cli.Flags("gslb check FILE [--json]", "gslb check fleet.yaml")
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	file, err := one(fs, rest, "check", "the Spec's file")
	if err != nil {
		return err
	}
	out := adminFlags{json: *asJSON}
	w, err := node.ReadWorld(file)
	if err != nil {
		if *asJSON {
			_ = out.show(os.Stdout, api.ProblemOf(err), nil)
		}
		return located(file, err)
	}
	s := w.Snapshot.Spec
	sum := summary{file, s.Fleet, w.Snapshot.Hash, len(s.Regions), len(s.Nodes), len(s.Services), len(s.Zones), len(s.Certificates), nil}
	for i := range s.Zones {
		for _, text := range s.Advice(&s.Zones[i]) {
			sum.Warnings = append(sum.Warnings, fmt.Sprintf("zone %s: %s", s.Zones[i].Zone, text))
		}
	}
	return out.show(os.Stdout, sum, func(w io.Writer) {
		fmt.Fprintf(w, "%s is good: fleet %s with %d regions, %d nodes, %d services, %d zones, %d certificates (hash %s)\n",
			file, sum.Fleet, sum.Regions, sum.Nodes, sum.Services, sum.Zones, sum.Certificates, sum.Hash[:12])
		for _, text := range sum.Warnings {
			fmt.Fprintln(w, "warning:", text)
		}
	})
}

func runKeygen(_ context.Context, args []string) error {
	fset := cli.Flags("gslb keygen FILE", "gslb keygen /etc/meridian/fleet.key")
	rest, err := cli.Parse(fset, args)
	if err != nil {
		return err
	}
	file, err := one(fset, rest, "keygen", "the file to write")
	if err != nil {
		return err
	}
	_, err = node.CreateKey(file)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is left as it is: whoever loses a fleet key loses what is sealed with it", file)
	}
	if err != nil {
		return err
	}
	fmt.Printf("wrote %s; copy it to every node of the fleet and nowhere else\n", file)
	return nil
}

// applyFlags are those of apply and diff.
type applyFlags struct {
	adminFlags
	base string
	dry  bool
	wait time.Duration
}

func runApply(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb apply FILE [flags]", "gslb apply fleet.yaml --base 7")
	var f applyFlags
	f.register(fs)
	fs.StringVar(&f.base, "base", "", "`REVISION` that the Spec builds on; refused if another is current (default: whichever is)")
	fs.BoolVar(&f.dry, "dry-run", false, "only say what would change")
	fs.DurationVar(&f.wait, "wait", 5*time.Second, "how long to wait for the nodes' acknowledgements; 0 for not at all")
	return f.submit(ctx, fs, args, "apply")
}

func runDiff(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb diff FILE [flags]", "gslb diff fleet.yaml")
	f := applyFlags{dry: true}
	f.register(fs)
	return f.submit(ctx, fs, args, "diff")
}

func (f *applyFlags) submit(ctx context.Context, fs *flag.FlagSet, args []string, name string) error {
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	file, err := one(fs, rest, name, "the Spec's file")
	if err != nil {
		return err
	}
	var base *uint64
	if f.base != "" {
		n, err := strconv.ParseUint(f.base, 10, 64)
		if err != nil {
			return cli.Usagef(fs, "gslb %s: --base: %q is not a revision", name, f.base)
		}
		base = &n
	}
	doc, objects, err := node.ReadFile(file)
	if err != nil {
		return located(file, err)
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	res, err := c.Submit(ctx, doc, objects, base, f.dry)
	if err != nil {
		return explained(err)
	}
	var acks *acknowledged
	if !f.dry && !res.Unchanged && f.wait > 0 {
		if acks, err = awaitAcks(ctx, c, res, f.wait); err != nil {
			return err
		}
	}
	err = f.show(os.Stdout, struct {
		*controlplane.Result
		Acknowledged *acknowledged `json:"acknowledged,omitempty"`
	}{res, acks}, func(w io.Writer) { showResult(w, res, acks) })
	if err == nil && acks != nil && len(acks.Refused) > 0 {
		return fmt.Errorf("revision %d was refused by %s", res.Revision, strings.Join(acks.Refused, ", "))
	}
	return err
}

func explained(err error) error {
	if p := api.Refused(err); p != nil && p.Current > 0 {
		return fmt.Errorf("%w\nlook at what changed with gslb diff, then apply with --base %d", err, p.Current)
	}
	return err
}

func showResult(w io.Writer, res *controlplane.Result, acks *acknowledged) {
	switch {
	case res.Unchanged || res.DryRun && len(res.Changes) == 0:
		fmt.Fprintf(w, "nothing changes; revision %d stays\n", res.Revision)
		return
	case res.DryRun:
		fmt.Fprintf(w, "against revision %d, nothing was stored:\n", res.Revision)
	default:
		fmt.Fprintf(w, "revision %d is stored:\n", res.Revision)
	}
	showChanges(w, res.Changes, res.Impact)
	if acks == nil {
		return
	}
	fmt.Fprintf(w, "acknowledged by %d of %d nodes", acks.Nodes, acks.Of)
	if acks.Nodes > 0 {
		fmt.Fprintf(w, ", the last after %d ms", acks.LastMs)
	}
	fmt.Fprintln(w)
	if len(acks.Missing) > 0 {
		fmt.Fprintf(w, "not yet by %s\n", strings.Join(acks.Missing, ", "))
	}
}

// acknowledged says who has acknowledged a revision.
type acknowledged struct {
	Nodes   int      `json:"nodes"`
	Of      int      `json:"of"`
	LastMs  int64    `json:"last_ms"` // from acceptance to the last of these acknowledgements
	Refused []string `json:"refused,omitempty"`
	Missing []string `json:"missing,omitempty"`
}

// awaitAcks looks until every connected node has answered, or the limit.
func awaitAcks(ctx context.Context, c *api.Client, res *controlplane.Result, limit time.Duration) (*acknowledged, error) {
	end := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := c.Status(ctx)
		if err != nil {
			return nil, err
		}
		a := acknowledged{Of: len(st.Nodes)}
		waiting := false
		for _, n := range st.Nodes {
			switch {
			case n.Applied >= res.Revision:
				a.Nodes++
				a.LastMs = max(a.LastMs, n.At.Sub(res.Accepted).Milliseconds())
			case n.State == controlplane.Nacked && n.Revision >= res.Revision:
				a.Refused = append(a.Refused, n.Node+": "+n.Error)
			default:
				a.Missing = append(a.Missing, n.Node)
				waiting = waiting || n.Online
			}
		}
		if !waiting {
			return &a, nil
		}
		select {
		case <-end:
			return &a, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func runRollback(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb rollback [REVISION] [flags]", "gslb rollback 7")
	var f adminFlags
	f.register(fs)
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	to := uint64(0)
	if len(rest) > 0 {
		if to, err = strconv.ParseUint(rest[0], 10, 64); err != nil || len(rest) > 1 {
			return cli.Usagef(fs, "gslb rollback: expected at most a revision's number")
		}
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	res, err := c.Rollback(ctx, to)
	if err != nil {
		return err
	}
	return f.show(os.Stdout, res, func(w io.Writer) { showResult(w, res, nil) })
}
