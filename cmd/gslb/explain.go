package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"

	"meridian/cli"
	"meridian/dns/answer"
	"meridian/fleet"
	"meridian/geo"
	"meridian/geo/mmdb"
	"meridian/node"
	"meridian/rules"
)

// explainCommands say why clients get the answers that they get, and what
// would become of that.
func explainCommands() []cli.Command {
	return []cli.Command{
		{Name: "explain", Summary: "say where a client is sent, and why", Run: runExplain},
		{Name: "impact", Summary: "say whose clients one Spec sends elsewhere than another", Run: runImpact},
		{Name: "replay", Summary: "answer recorded queries again and compare", Run: runReplay},
	}
}

// question is what is to be explained.
type question struct {
	name   fleet.Name
	qtype  uint16
	client netip.Prefix
}

// explainFlags are those of gslb explain.
type explainFlags struct {
	adminFlags
	supposition
	client, spec string
	live         bool
	record       string
	databases    cli.List
}

func runExplain(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb explain NAME [TYPE] --client ADDRESS [--spec FILE [--live]] [--down REGION] [flags]",
		"gslb explain www.example.com A --client 192.0.2.7 --spec fleet.yaml --down fra")
	var f explainFlags
	fs.StringVar(&f.client, "client", "", "`ADDRESS` or prefix of the client")
	fs.StringVar(&f.spec, "spec", "", "explain offline, from the Spec in `FILE`")
	fs.BoolVar(&f.live, "live", false, "with --spec: as the node would answer by that Spec, under its present health and with its zones")
	fs.StringVar(&f.record, "record", "", "append to `FILE` what gslb replay needs to give the same answer again")
	f.adminFlags.register(fs)
	f.supposition.register(fs)
	fs.Var(&f.databases, "geo", "geo database `FILE` (GeoIP2 schema), one with places, one with AS numbers; offline (default the embedded country database)")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	q, err := parseQuestion(fs, rest, f.client)
	if err != nil {
		return err
	}
	offline := f.spec != "" && !f.live
	switch {
	case f.live && f.spec == "":
		return cli.Usagef(fs, "gslb explain: --live goes with --spec")
	case !offline && len(f.databases) > 0:
		return cli.Usagef(fs, "gslb explain: --geo goes with --spec, and not with --live")
	}
	var e *answer.Explanation
	if offline {
		e, err = explainOffline(q, f.spec, &f.supposition, f.databases)
	} else {
		e, err = f.online(ctx, q)
	}
	if err != nil {
		return err
	}
	if f.record != "" {
		if err := appendRecord(f.record, e); err != nil {
			return err
		}
	}
	e.Moment, e.Record = nil, nil
	return printExplanation(os.Stdout, e, f.json)
}

func parseQuestion(fs *flag.FlagSet, args []string, client string) (question, error) {
	q := question{qtype: dns.TypeA}
	if len(args) < 1 || len(args) > 2 {
		return q, cli.Usagef(fs, "gslb explain: expected a name and at most a type")
	}
	var err error
	if q.name, err = fleet.ParseName(args[0]); err != nil {
		return q, cli.Usagef(fs, "gslb explain: %v", err)
	}
	if len(args) == 2 {
		t, ok := dns.StringToType[strings.ToUpper(args[1])]
		if !ok {
			return q, cli.Usagef(fs, "gslb explain: %q is not a record type", args[1])
		}
		q.qtype = t
	}
	if client == "" {
		return q, cli.Usagef(fs, "gslb explain: --client is needed: the answer depends on who asks")
	}
	if q.client, err = parseClient(client); err != nil {
		return q, cli.Usagef(fs, "gslb explain: --client: %q is not an address or prefix", client)
	}
	return q, nil
}

func parseClient(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.WithZone("").Unmap().Prefix(a.Unmap().BitLen())
}

// online asks a nameserver, which answers by its present health and shifts, or
// by what it is told to suppose.
func (f *explainFlags) online(ctx context.Context, q question) (*answer.Explanation, error) {
	c, err := f.adminFlags.client()
	if err != nil {
		return nil, err
	}
	ask := url.Values{"name": {q.name.String()}, "type": {dns.TypeToString[q.qtype]}, "client": {q.client.String()}}
	f.values(ask)
	if f.record != "" {
		ask.Set("record", "1")
	}
	method, body := http.MethodGet, any(nil)
	if f.spec != "" {
		doc, err := os.ReadFile(f.spec)
		if err != nil {
			return nil, err
		}
		method, body = http.MethodPost, doc
	}
	var e answer.Explanation
	return &e, c.Do(ctx, method, "/explain?"+ask.Encode(), body, &e)
}

// explainOffline runs the nameserver's own code on a Spec file.
func explainOffline(q question, spec string, sup *supposition, databases []string) (*answer.Explanation, error) {
	w, unread, err := readZones(spec)
	if err != nil {
		return nil, err
	}
	source, err := openGeo(databases)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if w, err = sup.world(w, now); err != nil {
		return nil, err
	}
	view, err := sup.view(nil, w.Snapshot)
	if err != nil {
		return nil, err
	}
	p, err := answer.Compile(answer.Identity{}, w, source, view, now, nil)
	if err != nil {
		return nil, errors.Join(unread, err)
	}
	e, err := p.Explain(q.name, q.qtype, q.client)
	if err != nil {
		return nil, err
	}
	return e, e.WithRecord(p)
}

// readZones reads a Spec with its zones. Certificates need not be at hand to
// explain an answer: what else could not be read is given as unread.
func readZones(spec string) (w *fleet.World, unread, err error) {
	doc, objects, unread := node.ReadFile(spec)
	if doc == nil {
		return nil, nil, unread
	}
	s, err := rules.Compile(doc, 0)
	if err != nil {
		return nil, nil, err
	}
	w = &fleet.World{Snapshot: s, Objects: rules.Inline(s)}
	for _, o := range objects {
		w.Objects[o.Key] = o
	}
	return w, unread, nil
}

// openGeo opens the databases given, or the embedded one.
func openGeo(files []string) (geo.Source, error) {
	if len(files) == 0 {
		return mmdb.Default()
	}
	return mmdb.Open(files...)
}

// supposed is a View in which the regions given are down and all others up.
func supposed(s *fleet.Snapshot, down []string) (*fleet.View, error) {
	v := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{}}
	for _, r := range s.Spec.Regions {
		for _, svc := range s.Spec.Services {
			v.Verdicts[fleet.Target{Kind: fleet.TargetService, Region: r.ID, Service: svc.Service}] = fleet.Verdict{State: fleet.Up}
		}
	}
	for _, id := range down {
		if s.Region(id) == nil {
			return nil, fmt.Errorf("--down: region %q does not exist", id)
		}
		for _, svc := range s.Spec.Services {
			v.Verdicts[fleet.Target{Kind: fleet.TargetService, Region: id, Service: svc.Service}] =
				fleet.Verdict{State: fleet.Down, Detail: "supposed by --down"}
		}
	}
	return v, nil
}

func printExplanation(w io.Writer, e *answer.Explanation, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(e)
	}
	_, err := fmt.Fprint(w, e)
	return err
}
