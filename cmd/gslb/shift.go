package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"meridian/cli"
	"meridian/controlplane"
	"meridian/controlplane/api"
	"meridian/fleet"
)

func runShift(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb shift --from REGION --share PERCENT% --for DURATION [flags]",
		"gslb shift --from fra --to iad --share 25% --for 30m --reason 'link upgrade'")
	var f adminFlags
	f.register(fs)
	var q api.ShiftRequest
	var to cli.List
	fs.StringVar(&q.From, "from", "", "`REGION` that gives clients up")
	fs.Var(&to, "to", "`REGION,...` that take them, in order (default as steering ranks)")
	fs.StringVar(&q.Service, "service", "", "only the clients of `SERVICE`")
	share := fs.String("share", "", "how many of the region's clients, as 25% or 0.25")
	length := fs.Duration("for", 0, "how long")
	fs.StringVar(&q.ID, "id", "", "`ID` of the shift, to replace or take back (default drawn)")
	fs.StringVar(&q.Reason, "reason", "", "why, for people")
	dry := fs.Bool("dry-run", false, "only say what would change")
	remove := fs.String("remove", "", "take the shift of that `ID` back")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "gslb shift: unexpected argument %q", rest[0])
	}
	c, err := f.client()
	if *remove != "" {
		if err == nil {
			err = c.Unshift(ctx, *remove)
		}
		if err != nil {
			return err
		}
		return f.show(os.Stdout, map[string]string{"removed": *remove}, func(w io.Writer) { fmt.Fprintf(w, "shift %s is taken back\n", *remove) })
	}
	var wrong error
	if q.Share, wrong = parseShare(*share); wrong != nil {
		return cli.Usagef(fs, "gslb shift: --share: %v", wrong)
	}
	if q.From == "" || *length <= 0 {
		return cli.Usagef(fs, "gslb shift: expected --from REGION and --for DURATION")
	}
	if err != nil {
		return err
	}
	q.To, q.For = to, fleet.Duration(*length)
	res, err := c.Shift(ctx, q, *dry)
	if err != nil {
		return err
	}
	return f.show(os.Stdout, res, func(w io.Writer) { showShift(w, res) })
}

// parseShare reads 25% or 0.25.
func parseShare(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v > 0 && v <= 1) {
		return 0, fmt.Errorf("%q is not a share such as 25%% or 0.25", s)
	}
	return v, nil
}

func showShift(w io.Writer, res *controlplane.ShiftResult) {
	sh := res.Shift
	verb := "moves"
	if res.DryRun {
		verb = "would move"
	}
	until := "until it is taken back"
	if !sh.Expires.IsZero() {
		until = "until " + sh.Expires.Local().Format(time.DateTime)
	}
	fmt.Fprintf(w, "shift %s %s %g %% of %s's clients away %s\n", sh.ID, verb, sh.Share*100, sh.From, until)
	showChanges(w, nil, res.Impact)
}

// drainID is the id of the shift that drains a region.
func drainID(region string) string { return "drain-" + region }

func runDrain(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb drain REGION [flags]", "gslb drain fra --reason maintenance")
	var f adminFlags
	f.register(fs)
	length := fs.Duration("for", 0, "how long (default until gslb undrain)")
	reason := fs.String("reason", "", "why, for people")
	dry := fs.Bool("dry-run", false, "only say what would change")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	region, err := one(fs, rest, "drain", "a region")
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	res, err := c.Shift(ctx, api.ShiftRequest{ID: drainID(region), From: region, Share: 1, Drain: true, For: fleet.Duration(*length), Reason: *reason}, *dry)
	if err != nil {
		return err
	}
	return f.show(os.Stdout, res, func(w io.Writer) { showShift(w, res) })
}

func runUndrain(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb undrain REGION [flags]", "gslb undrain fra")
	var f adminFlags
	f.register(fs)
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	region, err := one(fs, rest, "undrain", "a region")
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	shifts, err := c.Shifts(ctx)
	if err != nil {
		return err
	}
	var done []string
	for _, sh := range shifts { // however they were made
		if sh.From == region && sh.Drain {
			if err := c.Unshift(ctx, sh.ID); err != nil {
				return err
			}
			done = append(done, sh.ID)
		}
	}
	if len(done) == 0 {
		return errors.New("region " + region + " is not drained")
	}
	return f.show(os.Stdout, map[string]any{"region": region, "removed": done}, func(w io.Writer) {
		fmt.Fprintf(w, "region %s takes clients again\n", region)
	})
}
