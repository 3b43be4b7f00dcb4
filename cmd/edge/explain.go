package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"meridian/cli"
	"meridian/edge/xdp"
)

func runExplain(ctx context.Context, args []string) error {
	fs := cli.Flags("edge explain tcp|udp CLIENT:PORT VIP:PORT [flags]", "edge explain tcp 203.0.113.5:4711 192.0.2.10:443")
	var c client
	c.register(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 3 {
		return cli.Usagef(fs, "edge explain: expected a protocol, the client's and the VIP's ADDRESS:PORT")
	}
	if _, err := xdp.ParseFlow(rest[0], rest[1], rest[2]); err != nil {
		return cli.Usagef(fs, "edge explain: %v", err)
	}
	var e xdp.Explanation
	ask := url.Values{"protocol": {rest[0]}, "client": {rest[1]}, "vip": {rest[2]}}
	if err := c.ask(ctx, http.MethodGet, "/explain?"+ask.Encode(), nil, &e); err != nil {
		return err
	}
	return show(*asJSON, &e, func(w io.Writer) { showExplanation(w, &e) })
}

// showExplanation prints what is known of a flow, and then what follows of it.
func showExplanation(w io.Writer, e *xdp.Explanation) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("flow", "%s", e.Flow)
	if e.VIP != "" {
		line("VIP", "%s, service %s, ring %s", e.VIP, e.Service, e.Ring)
		safe := "unsafe"
		if e.Safe {
			safe = "safe"
		}
		line("slot", "%d of %d, %s (hash %s)", e.Slot, e.Slots, safe, e.Hash)
	}
	if e.Owner != nil {
		line("owner", "%s", placeText(e.Owner))
	}
	for i := range e.Former {
		line("before", "%s", placeText(&e.Former[i]))
	}
	switch r := e.Record; {
	case r != nil && r.Endpoint == "":
		line("record", "of an endpoint that is gone, last packet %d s ago", r.Idle)
	case r != nil:
		line("record", "with %s, last packet %d s ago", r.Endpoint, r.Idle)
	case e.VIP != "" && !e.Safe:
		line("record", "none")
	}
	if e.GoesTo != nil {
		line("goes to", "%s", placeText(e.GoesTo))
	}
	line("because", "%s", e.Reason)
}

func placeText(p *xdp.Place) string {
	text := fmt.Sprintf("%s at %s, %s", p.Name, p.Address, p.Forwarding)
	if p.Outer != "" {
		text += " in " + p.Outer
	}
	if p.Forwarding != "local" {
		next := p.NextHop
		if next == "" {
			next = "not known"
		}
		text += ", next hop " + next
		if p.Device != 0 {
			text += fmt.Sprintf(" by device %d", p.Device)
		}
	}
	if p.MTU > 0 {
		text += fmt.Sprintf(", MTU %d", p.MTU)
	}
	switch {
	case !p.Keeps:
		text += ", has no flows any more"
	case !p.TakesNew:
		text += ", takes no new flows"
	}
	return text
}
