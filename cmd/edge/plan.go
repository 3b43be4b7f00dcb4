package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"meridian/cli"
	"meridian/edge/xdp"
	"meridian/fleet"
	"meridian/identity"
	"meridian/node"
	"meridian/rules"
)

// planFlags are those of edge plan.
type planFlags struct {
	client
	from, fleetKey string
	most           float64
	json           bool
}

func runPlan(ctx context.Context, args []string) error {
	fs := cli.Flags("edge plan FILE [--from OLD] [flags]",
		"edge plan fleet-next.yaml                    # on a layer-4 node: with its health and its flows\n"+
			"  edge plan fleet-next.yaml --from fleet.yaml  # anywhere, for all regions, by the Specs alone")
	var f planFlags
	f.register(fs)
	fs.StringVar(&f.from, "from", "", "compare with the Spec in `FILE` in place of what the running node has")
	fs.StringVar(&f.fleetKey, "fleet-key", "", "with --from: `FILE` of the fleet's key, for its very slots; without it the numbers differ a little")
	fs.Float64Var(&f.most, "most", 100, "fail if more than `PERCENT` of a ring's flows would break")
	fs.BoolVar(&f.json, "json", false, "print JSON")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return cli.Usagef(fs, "edge plan: expected a Spec's file")
	}
	if f.most < 0 || f.most > 100 {
		return cli.Usagef(fs, "edge plan: --most: expected 0 to 100")
	}
	list, err := f.changes(ctx, rest[0])
	if err != nil {
		return err
	}
	if err := show(f.json, list, func(w io.Writer) { showPlan(w, list) }); err != nil {
		return err
	}
	for i := range list {
		if c := &list[i]; 100*c.BrokenShare() > f.most {
			return fmt.Errorf("region %s, ring %s: %.1f %% of its flows would break; --most allows %g %%", c.Region, c.Ring, 100*c.BrokenShare(), f.most)
		}
	}
	return nil
}

// changes compares by the Specs, or has the running node do it. A Spec that does
// not fit is refused by the rules' words either way.
func (f *planFlags) changes(ctx context.Context, file string) ([]xdp.RingChange, error) {
	next, doc, err := readSpec(file)
	if err != nil {
		return nil, err
	}
	if f.from == "" {
		var list []xdp.RingChange
		err := f.ask(ctx, http.MethodPost, "/plan", doc, &list)
		if err != nil {
			return nil, fmt.Errorf("%w; or name the Spec in force by --from", err)
		}
		return list, nil
	}
	old, _, err := readSpec(f.from)
	if err != nil {
		return nil, err
	}
	key, err := flowKeys(f.fleetKey)
	if err != nil {
		return nil, err
	}
	return xdp.Changes(old, next, key)
}

// readSpec reads a Spec's file and checks it by every room's rules.
func readSpec(file string) (*fleet.World, []byte, error) {
	doc, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	snap, err := rules.Compile(doc, 0)
	if err != nil {
		var errs []error
		for _, e := range fleet.FieldErrors(err) {
			errs = append(errs, fmt.Errorf("%s: %w", file, e))
		}
		if len(errs) == 0 {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		return nil, nil, errors.Join(errs...)
	}
	return &fleet.World{Snapshot: snap}, doc, nil
}

// fleetOf gives the identity of the fleet whose key is in a file; nil without one.
func fleetOf(file string) (*identity.Identity, error) {
	if file == "" {
		return nil, nil
	}
	key, err := node.LoadKey(file)
	if err != nil {
		return nil, err
	}
	return identity.New(key)
}

// flowKeys gives each region's key of the flow hash, by the fleet's key in a file;
// without one, all zeros.
func flowKeys(file string) (func(region string) xdp.Key, error) {
	id, err := fleetOf(file)
	if err != nil {
		return nil, err
	}
	return func(region string) xdp.Key {
		if id == nil {
			return xdp.Key{}
		}
		return xdp.Key(id.FlowKey(region))
	}, nil
}

// showPlan says of each ring what moves, what breaks, and where it goes.
func showPlan(w io.Writer, list []xdp.RingChange) {
	same := 0
	for i := range list {
		c := &list[i]
		if c.State == "same" {
			same++
			continue
		}
		fmt.Fprintf(w, "region %s, ring %s: %s, %d members, then %d\n", c.Region, c.Ring, c.State, c.Before, c.After)
		if c.State == "new" {
			continue
		}
		fmt.Fprintf(w, "  %d of %d slots get another owner: %.1f %% of flows would move without second chance\n", c.Moved, c.Slots, 100*c.Share())
		switch {
		case c.Gone > 0:
			fmt.Fprintf(w, "  %.1f %% of flows break, for their member is gone; drain it first\n", 100*c.BrokenShare())
		case c.Moved > 0 && c.Chance:
			fmt.Fprintf(w, "  none breaks: their gateways get them by the second chance\n")
		case c.Moved > 0:
			fmt.Fprintf(w, "  none breaks that this region's balancers have in their flow tables\n")
		}
		if c.Chance && c.Unsafe > 0 {
			fmt.Fprintf(w, "  %d slots become unsafe: their new flows are kept in the flow table\n", c.Unsafe)
		}
		if c.Flows != nil {
			fmt.Fprintf(w, "  flow records of this node at the slots that move: %d\n", *c.Flows)
		}
		if c.Broken != nil {
			fmt.Fprintf(w, "  flow records of this node with members that go: %d\n", *c.Broken)
		}
		showSlots(w, "from", c.Lost)
		showSlots(w, "to", c.Gained)
	}
	if same > 0 {
		fmt.Fprintf(w, "%d rings stay as they are\n", same)
	}
}

// showSlots lists the members with the most slots, and how many more there are.
func showSlots(w io.Writer, word string, by map[string]int) {
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		if by[a] != by[b] {
			return by[b] - by[a]
		}
		return strings.Compare(a, b)
	})
	const shown = 8
	for _, name := range names[:min(shown, len(names))] {
		fmt.Fprintf(w, "  %-4s %s: %d slots\n", word, name, by[name])
	}
	if len(names) > shown {
		fmt.Fprintf(w, "  %-4s %d more\n", word, len(names)-shown)
	}
}
