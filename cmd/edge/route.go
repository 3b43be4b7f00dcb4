package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"meridian/cli"
	"meridian/edge/l7/route"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// routed is what edge route tells of one request.
type routed struct {
	Service  string       `json:"service,omitempty"`
	Route    string       `json:"route,omitempty"`
	Does     string       `json:"does"`
	Asked    string       `json:"asked,omitempty"` // what an endpoint is asked, where that is something else
	LookedAt []routedStep `json:"looked_at,omitempty"`
}

type routedStep struct {
	Route string `json:"route"`
	Why   string `json:"why_not,omitempty"`
}

func runRoute(_ context.Context, args []string) error {
	fs := cli.Flags("edge route FILE URL [flags]",
		"edge route fleet.yaml https://www.example.com/api?v=2 --method POST --header 'X-Beta: 1'")
	method := fs.String("method", "GET", "the request's `METHOD`")
	asJSON := fs.Bool("json", false, "print JSON")
	h := new(wire.Head)
	fs.Func("header", "a header field `NAME: VALUE`; more than one may be given", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return fmt.Errorf("expected NAME: VALUE")
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		return nil
	})
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return cli.Usagef(fs, "edge route: expected a Spec's file and a URL")
	}
	s, _, err := readSpec(rest[0])
	if err != nil {
		return err
	}
	h.Method = []byte(*method)
	out, err := routeOf(s.Snapshot.Spec, rest[1], h)
	if err != nil {
		return cli.Usagef(fs, "edge route: %v", err)
	}
	return show(*asJSON, out, func(w io.Writer) { showRouted(w, out) })
}

// routeOf finds what a gateway does with the request of a URL.
func routeOf(spec *fleet.Spec, address string, h *wire.Head) (*routed, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q: expected a URL of http or https", address)
	}
	port := map[string]uint64{"http": 80, "https": 443}[u.Scheme]
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return nil, fmt.Errorf("%q is not a port", p)
		}
	}
	h.Target = []byte(u.RequestURI())
	host, err := route.Host(u.Host)
	if err != nil {
		return nil, err
	}
	path, err := route.Path(string(h.Path()))
	if err != nil {
		return nil, err
	}
	table, err := route.Compile(spec)
	if err != nil {
		return nil, err
	}
	m, outcome, steps := table.Explain(uint16(port), host, path, h)
	out := new(routed)
	for _, st := range steps {
		out.LookedAt = append(out.LookedAt, routedStep{st.Route.Name, st.Why})
	}
	if h.PlainConnect() && (outcome != route.Found || !table.Route(m).Spec.Connect) {
		if m.Service >= 0 {
			out.Service = spec.Services[m.Service].Service
		}
		out.Does = "answers 405: no route lets CONNECT pass"
		return out, nil
	}
	switch outcome {
	case route.NoHost:
		out.Does = "answers 404: no service has this host at this port"
		return out, nil
	case route.ToHTTPS:
		out.Service = spec.Services[m.Service].Service
		out.Does = "redirects (308) to " + string(table.Redirect().Location(nil, u.Scheme, u.Host, path, h.Query()))
		return out, nil
	case route.NoRoute:
		out.Service, out.Does = spec.Services[m.Service].Service, "answers 404: no route"
		return out, nil
	}
	r := table.Route(m)
	out.Service, out.Route = spec.Services[m.Service].Service, r.Name
	out.Does = does(&spec.Services[m.Service], r, u, path, h)
	if w := r.Rewrite; w != nil && !h.PlainConnect() {
		out.Asked = string(w.Target(nil, path, h.Query()))
		if w.Host != "" {
			out.Asked += " of host " + w.Host
		}
	}
	return out, nil
}

func does(s *fleet.Service, r *route.Route, u *url.URL, path string, h *wire.Head) string {
	switch {
	case r.Redirect != nil:
		return fmt.Sprintf("redirects (%d) to %s", r.Redirect.Status, r.Redirect.Location(nil, u.Scheme, u.Host, path, h.Query()))
	case r.Answer != nil:
		return fmt.Sprintf("answers %d by itself", r.Answer.Status)
	case r.Split != nil:
		var shares []string
		for _, p := range r.Spec.Split.Pools {
			shares = append(shares, fmt.Sprintf("%s %d", p.Pool, *p.Weight))
		}
		return fmt.Sprintf("asks a pool by weight: %s (by %s)", strings.Join(shares, ", "), r.Split.By)
	}
	return "asks pool " + s.Pools[r.Pool].ID
}

func showRouted(w io.Writer, r *routed) {
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-9s %s\n", name, text)
		}
	}
	line("service", r.Service)
	line("route", r.Route)
	line("does", r.Does)
	line("asked", r.Asked)
	for _, st := range r.LookedAt {
		why := "matches"
		if st.Why != "" {
			why = "not: " + st.Why
		}
		line("looked at", st.Route+" ("+why+")")
	}
}
