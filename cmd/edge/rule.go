package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"meridian/cli"
	"meridian/edge/xdp"
	"meridian/fleet"
)

func runRule(ctx context.Context, args []string) error {
	fs := cli.Flags("edge rule add --for DURATION NAME KEY=VALUE... | list | del NAME [flags]",
		"edge rule add --for 10m --rate 1000 ntp protocol=udp source_port=123 length=400-1500\n"+
			"  edge rule add --for 10m tool protocol=tcp 'flags=syn,!ack' tcp_options=mss window=1024 source_asn=64500\n"+
			"  edge rule list\n  edge rule del ntp")
	var c client
	c.register(fs)
	length := fs.Duration("for", 0, "how long an added rule holds")
	rate := fs.Int("rate", 0, "let so many packets a `SECOND` through, drop the others")
	count := fs.Bool("count", false, "count alone, drop nothing")
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	wrong := func(format string, args ...any) error { return cli.Usagef(fs, "edge rule: "+format, args...) }
	if len(rest) == 0 {
		return wrong("expected add, list or del")
	}
	switch rest[0] {
	case "list":
		if len(rest) > 1 {
			return wrong("list: unexpected argument %q", rest[1])
		}
		var list []xdp.RuleStatus
		if err := c.ask(ctx, http.MethodGet, "/rules", nil, &list); err != nil {
			return err
		}
		return showRules(os.Stdout, list, *asJSON)
	case "del":
		if len(rest) != 2 {
			return wrong("del: expected a rule's name")
		}
		if err := c.ask(ctx, http.MethodDelete, "/rules/"+url.PathEscape(rest[1]), nil, new(struct{})); err != nil {
			return err
		}
		return show(*asJSON, map[string]string{"deleted": rest[1]}, func(io.Writer) {})
	case "add":
		if len(rest) < 3 || *length <= 0 {
			return wrong("add: expected --for DURATION, a name and what the rule matches")
		}
		doc, err := ruleOf(rest[1], rest[2:], *rate, *count, time.Now().Add(*length))
		if err != nil {
			return wrong("add: %v", err)
		}
		var r fleet.PacketRule
		if err := c.ask(ctx, http.MethodPost, "/rules", doc, &r); err != nil {
			return err
		}
		return show(*asJSON, r, func(w io.Writer) {
			fmt.Fprintf(w, "rule %s holds until %s\n", r.Name, r.Until.Local().Format(time.DateTime))
		})
	}
	return wrong("%q is not add, list or del", rest[0])
}

// ruleOf makes a rule's document of the words after edge rule add.
func ruleOf(name string, words []string, rate int, count bool, until time.Time) ([]byte, error) {
	match := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if _, twice := match[k]; !ok || twice {
			return nil, fmt.Errorf("%q: expected KEY=VALUE, each key once", w)
		}
		match[k] = v
	}
	doc := map[string]any{"name": name, "match": match, "until": until.UTC().Truncate(time.Second)}
	switch {
	case rate != 0 && count:
		return nil, fmt.Errorf("--rate and --count exclude each other")
	case rate != 0:
		doc["mode"], doc["rate"] = fleet.RuleRate, rate
	case count:
		doc["mode"] = fleet.RuleCount
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	if _, err := fleet.ParsePacketRule(b); err != nil {
		return nil, err
	}
	return b, nil
}

func showRules(w io.Writer, list []xdp.RuleStatus, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tFROM\tMODE\tUNTIL\tPACKETS\tDROPPED\tMATCH")
	for _, r := range list {
		mode, until := string(r.Mode), "for ever"
		if r.Mode == fleet.RuleRate {
			mode += " " + strconv.Itoa(r.Rate) + "/s"
		}
		if !r.Until.IsZero() {
			until = r.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", r.Name, r.Origin, mode, until, r.Packets, r.Dropped, words(r.Match))
	}
	return tw.Flush()
}

// words writes what a rule matches as edge rule add takes it.
func words(m fleet.PacketMatch) string {
	b, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	var fields map[string]string
	if err := json.Unmarshal(b, &fields); err != nil {
		return err.Error()
	}
	var out []string
	for _, k := range []string{"protocol", "flags", "source", "source_country", "source_asn", "vip", "source_port", "port", "length", "ttl", "fragment",
		"ip_id", "window", "tcp_options", "payload"} {
		if v, ok := fields[k]; ok {
			out = append(out, k+"="+v)
		}
	}
	return strings.Join(out, " ")
}
