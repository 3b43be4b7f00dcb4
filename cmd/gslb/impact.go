package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"meridian/cli"
	"meridian/dns/answer"
	"meridian/fleet"
)

// sampled is how many clients are looked at to say how many would move.
const sampled = 20000

// impact previews how much traffic a change would move, by the nameserver's
// own code under the present health.
func (s *gslbNode) impact(old, next *fleet.World) any {
	if old == nil {
		return nil
	}
	var view *fleet.View
	if b := s.daemon.Base(); b != nil {
		view = b.Health.View()
	}
	m, err := moves(old, next, s.flags.Geo, view)
	if err != nil {
		return nil
	}
	return m
}

// moves compares where the clients of a geo database go in two Worlds.
func moves(old, next *fleet.World, databases []string, view *fleet.View) ([]answer.Move, error) {
	source, err := openGeo(databases)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	before, err := answer.Compile(answer.Identity{}, old, source, view, now, nil)
	if err != nil {
		return nil, err
	}
	after, err := answer.Compile(answer.Identity{}, next, source, view, now, nil)
	if err != nil {
		return nil, err
	}
	return answer.Moves(before, after, answer.Samples(source, sampled)), nil
}

func runImpact(_ context.Context, args []string) error {
	fs := cli.Flags("gslb impact OLD NEW [--down REGION] [flags]", "gslb impact fleet.yaml fleet-next.yaml --down fra")
	asJSON := fs.Bool("json", false, "print JSON")
	var down, databases cli.List
	fs.Var(&down, "down", "as if `REGION` were down in both; repeatable")
	fs.Var(&databases, "geo", "geo database `FILE` (GeoIP2 schema), one with places, one with AS numbers (default the embedded country database)")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return cli.Usagef(fs, "gslb impact: expected two Specs' files")
	}
	var worlds [2]*fleet.World
	var unread [2]error
	for i, file := range rest {
		if worlds[i], unread[i], err = readZones(file); err != nil {
			return located(file, err)
		}
	}
	view, err := supposed(worlds[0].Snapshot, down)
	if err != nil {
		return err
	}
	m, err := moves(worlds[0], worlds[1], databases, view)
	if err != nil {
		return errors.Join(unread[0], unread[1], err)
	}
	out := adminFlags{json: *asJSON}
	return out.show(os.Stdout, m, func(w io.Writer) { showMoves(w, m) })
}

// showMoves says for each service who would go elsewhere.
func showMoves(w io.Writer, list []answer.Move) {
	for _, m := range list {
		if m.Share == 0 {
			fmt.Fprintf(w, "service %s: no client of %d would go elsewhere\n", m.Service, m.Samples)
			continue
		}
		fmt.Fprintf(w, "service %s: %.1f %% of clients, in %d countries, would go elsewhere\n", m.Service, 100*m.Share, len(m.Countries))
		for _, side := range []struct {
			word   string
			shares map[string]float64
		}{{"from", m.From}, {"to", m.To}} {
			for _, r := range slices.Sorted(maps.Keys(side.shares)) {
				fmt.Fprintf(w, "  %-4s %s: %.1f %%\n", side.word, r, 100*side.shares[r])
			}
		}
		var most []string
		for _, c := range m.Countries[:min(5, len(m.Countries))] {
			country := c.Country
			if country == "" {
				country = "of no country"
			}
			most = append(most, fmt.Sprintf("%s (%.0f %% of its clients)", country, 100*c.Share))
		}
		fmt.Fprintf(w, "  most %s\n", strings.Join(most, ", "))
		for _, e := range m.Examples[:min(3, len(m.Examples))] {
			fmt.Fprintf(w, "  as   %s: %s -> %s\n", e.Client, e.Before, e.After)
		}
	}
}
