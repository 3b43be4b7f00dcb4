package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"meridian/cli"
	"meridian/edge/xdp"
)

func runMembers(ctx context.Context, args []string) error {
	fs := cli.Flags("edge members [flags]", "edge members --json")
	var c client
	c.register(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "edge members: unexpected argument %q", rest[0])
	}
	var list []xdp.Member
	if err := c.ask(ctx, http.MethodGet, "/members", nil, &list); err != nil {
		return err
	}
	var wrote error
	err = show(*asJSON, list, func(w io.Writer) { wrote = showMembers(w, list, time.Now()) })
	if err == nil {
		err = wrote
	}
	return err
}

// showMembers prints them as a table.
func showMembers(w io.Writer, list []xdp.Member, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "RING\tMEMBER\tADDRESS\tSTATE\tFOR\tWEIGHT\tFLOWS\tCONNECTIONS")
	number := func(n *int) string {
		if n == nil {
			return "-"
		}
		return strconv.Itoa(*n)
	}
	for _, m := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", m.Ring, m.Name, m.Address, m.State, now.Sub(m.Since).Truncate(time.Second), m.Weight,
			number(m.Flows), number(m.Connections))
	}
	return tw.Flush()
}
