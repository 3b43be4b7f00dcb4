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

// explainCommands says why a client gets the answer that it gets.
func explainCommands() []cli.Command {
	return []cli.Command{{Name: "explain", Summary: "say where a client is sent, and why", Run: runExplain}}
}

// question is what is to be explained.
type question struct {
	name   fleet.Name
	qtype  uint16
	client netip.Prefix
}

func runExplain(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb explain NAME [TYPE] --client ADDRESS [--spec FILE [--down REGION]] [flags]",
		"gslb explain www.example.com A --client 192.0.2.7 --spec fleet.yaml --down fra")
	client := fs.String("client", "", "`ADDRESS` or prefix of the client")
	spec := fs.String("spec", "", "explain offline, from the Spec in `FILE`")
	var admin adminFlags
	admin.register(fs)
	var down, databases cli.List
	fs.Var(&down, "down", "as if `REGION` were down; repeatable; with --spec")
	fs.Var(&databases, "geo", "geo database `FILE` (GeoIP2 schema), one with places, one with AS numbers; with --spec (default the embedded country database)")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	q, err := parseQuestion(fs, rest, *client)
	if err != nil {
		return err
	}
	if *spec == "" && len(down)+len(databases) > 0 {
		return cli.Usagef(fs, "gslb explain: --down and --geo go with --spec")
	}
	var e *answer.Explanation
	if *spec == "" {
		e, err = explainOnline(ctx, q, &admin)
	} else {
		e, err = explainOffline(q, *spec, down, databases)
	}
	if err != nil {
		return err
	}
	return printExplanation(os.Stdout, e, admin.json)
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

// explainOnline asks a nameserver, which answers by its present health and
// shifts.
func explainOnline(ctx context.Context, q question, admin *adminFlags) (*answer.Explanation, error) {
	c, err := admin.client()
	if err != nil {
		return nil, err
	}
	ask := url.Values{"name": {q.name.String()}, "type": {dns.TypeToString[q.qtype]}, "client": {q.client.String()}}
	var e answer.Explanation
	return &e, c.Do(ctx, http.MethodGet, "/explain?"+ask.Encode(), nil, &e)
}

// explainOffline runs the nameserver's own code on a Spec file.
func explainOffline(q question, spec string, down, databases []string) (*answer.Explanation, error) {
	w, unread, err := readZones(spec)
	if err != nil {
		return nil, err
	}
	source, err := openGeo(databases)
	if err != nil {
		return nil, err
	}
	view, err := supposed(w.Snapshot, down)
	if err != nil {
		return nil, err
	}
	p, err := answer.Compile(answer.Identity{}, w, source, view, time.Now(), nil)
	if err != nil {
		return nil, errors.Join(unread, err)
	}
	return p.Explain(q.name, q.qtype, q.client)
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
