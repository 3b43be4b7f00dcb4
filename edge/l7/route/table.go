package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Table finds the service and pool of a request. It is immutable.
type Table struct {
	ports   map[uint16]*port
	streams map[uint16]*hosts[int] // of tcp services, by port: their indices in Spec.Services
	routes  [][]*Route             // by index in Spec.Services, and in its Routes
	list    []Port

	datagrams     map[uint16]int // of udp services, by port
	datagramPorts []uint16
}

// Port is one port that the gateways serve.
type Port struct {
	Number   uint16
	Protocol fleet.Protocol // http, https or tcp: one a port
}

// Match is where a request goes.
type Match struct {
	Service int // index in Spec.Services
	Pool    int // index in the service's Pools; -1: the route says what to do, or there is none
	Route   int // index in the service's Routes; -1: none
}

// Outcome is what a lookup found.
type Outcome uint8

// The outcomes.
const (
	Found   Outcome = iota
	NoHost          // no service of that port has the host
	NoRoute         // the service has no route for the request
	ToHTTPS         // the service is reached by https
)

// hosts maps host patterns to values of one kind: exact names, domains of
// wildcards, and the value for every other host.
type hosts[T any] struct {
	exact    map[string]T
	wildcard map[string]T // key is the domain without "*."
	any      T
	has      bool // any is set
}

// find prefers the exact host, then the longest wildcard (which stands for one
// label or more), then the value of any host.
func (h *hosts[T]) find(host string) (T, bool) {
	if v, ok := h.exact[host]; ok {
		return v, true
	}
	if len(h.wildcard) > 0 {
		for rest := host; ; {
			_, parent, ok := strings.Cut(rest, ".")
			if !ok {
				break
			}
			if v, ok := h.wildcard[parent]; ok {
				return v, true
			}
			rest = parent
		}
	}
	return h.any, h.has
}

type port struct{ services hosts[*service] }

// service holds its routes for each host that a route names, each list in the
// order in which it is tried.
type service struct {
	index  int
	twin   bool // this is plain HTTP for an https service
	routes hosts[[]entry]
}

// Compile builds the table of the Spec's http and https services, and of the tcp
// and udp ones whose connections end at the gateways. A Spec that
// passed Check compiles.
func Compile(spec *fleet.Spec) (*Table, error) {
	t := &Table{ports: map[uint16]*port{}, streams: map[uint16]*hosts[int]{}, datagrams: map[uint16]int{}, routes: make([][]*Route, len(spec.Services))}
	for i := range spec.Services {
		s := &spec.Services[i]
		switch {
		case s.Forwarding == fleet.Proxy && s.Protocol == fleet.UDP:
			for _, n := range s.Ports {
				t.datagrams[n] = i
				t.datagramPorts = append(t.datagramPorts, n)
			}
		case s.Forwarding == fleet.Proxy:
			if err := t.addStream(s, i); err != nil {
				return nil, fmt.Errorf("service %q: %w", s.Service, err)
			}
		}
		if !s.Protocol.Gateway() {
			continue
		}
		svc, routes, err := compileService(s, i)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", s.Service, err)
		}
		t.routes[i] = routes
		for _, n := range s.Ports {
			if err := addHosts(&t.port(n, s.Protocol).services, s.Hosts, svc); err != nil {
				return nil, fmt.Errorf("service %q: %w", s.Service, err)
			}
		}
	}
	for i := range spec.Services {
		if s := &spec.Services[i]; s.Twin() != 0 {
			if err := addTwin(&t.port(s.Twin(), fleet.HTTP).services, s.Hosts, &service{index: i, twin: true}); err != nil {
				return nil, fmt.Errorf("service %q: %w", s.Service, err)
			}
		}
	}
	return t, nil
}

func (t *Table) port(n uint16, as fleet.Protocol) *port {
	p := t.ports[n]
	if p == nil {
		p = &port{}
		t.ports[n] = p
		t.list = append(t.list, Port{n, as})
	}
	return p
}

// addTwin lets v stand for those of the patterns that no http service takes.
func addTwin(h *hosts[*service], patterns []string, v *service) error {
	var free []string
	for _, p := range patterns {
		if _, taken := h.find(fold(p)); !taken { // the star is a label as any other
			free = append(free, p)
		}
	}
	if len(free) == 0 && (len(patterns) > 0 || h.has) {
		return nil
	}
	return addHosts(h, free, v)
}

func (t *Table) addStream(s *fleet.Service, index int) error {
	for _, n := range s.Ports {
		h := t.streams[n]
		if h == nil {
			h = &hosts[int]{}
			t.streams[n] = h
			t.list = append(t.list, Port{n, s.Protocol})
		}
		if err := addHosts(h, s.Hosts, index); err != nil {
			return err
		}
	}
	return nil
}

// Stream gives the tcp service of a port for a server name in the form of Host,
// as its index in Spec.Services; "" finds the one of any host alone.
func (t *Table) Stream(port uint16, name string) (int, bool) {
	h := t.streams[port]
	if h == nil {
		return 0, false
	}
	return h.find(name)
}

// Datagrams gives the udp service of a port, as its index in Spec.Services.
func (t *Table) Datagrams(port uint16) (int, bool) {
	i, ok := t.datagrams[port]
	return i, ok
}

// DatagramPorts lists the UDP ports to serve, in the Spec's order.
func (t *Table) DatagramPorts() []uint16 { return t.datagramPorts }

// StreamsByName says whether a tcp service of that port has hosts, so that the
// server name is to be known.
func (t *Table) StreamsByName(port uint16) bool {
	h := t.streams[port]
	return h != nil && len(h.exact)+len(h.wildcard) > 0
}

// addHosts lets v stand for the patterns, for every host where there are none.
func addHosts[T any](h *hosts[T], patterns []string, v T) error {
	if h.exact == nil {
		h.exact, h.wildcard = map[string]T{}, map[string]T{}
	}
	if len(patterns) == 0 {
		h.any, h.has = v, true
	}
	for _, p := range patterns {
		name, err := Host(strings.TrimPrefix(p, "*."))
		if err != nil || name == "" {
			return fmt.Errorf("host %q: %w", p, errHost)
		}
		if strings.HasPrefix(p, "*.") {
			h.wildcard[name] = v
		} else {
			h.exact[name] = v
		}
	}
	return nil
}

func compileService(s *fleet.Service, index int) (*service, []*Route, error) {
	svc := &service{index: index}
	var errs fleet.Errors
	var routes []*Route
	entries := make([]entry, len(s.Routes))
	for i := range s.Routes {
		at := fmt.Sprintf("routes[%d]", i)
		entries[i] = compileEntry(&s.Routes[i], i, at, &errs)
		routes = append(routes, compileRoute(s, i, at, &errs))
	}
	if err := errs.Err(); err != nil {
		return nil, nil, err
	}
	// Each pattern that any route names gets a list of all routes that hold
	// there, so that a lookup reads one list only.
	patterns := []string{""}
	for _, r := range s.Routes {
		patterns = append(patterns, r.Hosts...)
	}
	for _, p := range patterns {
		var names []string
		if p != "" {
			names = []string{p}
		}
		if err := addHosts(&svc.routes, names, routesAt(s, entries, p)); err != nil {
			return nil, nil, err
		}
	}
	return svc, routes, nil
}

// compileEntry notes what is wrong with a route's conditions.
func compileEntry(r *fleet.Route, i int, at string, errs *fleet.Errors) entry {
	e := entry{route: i, more: compileConditions(r, at, errs)}
	switch {
	case r.PathRegex != "":
		var err error
		e.kind = pattern
		if e.regex, err = whole(r.PathRegex); err != nil {
			errs.Addf(at+".path_regex", "%s", err)
		}
	case r.PathExact != "":
		e.kind, e.path = exact, plainPath(r.PathExact, at+".path_exact", errs)
	default:
		e.kind, e.path = prefix, strings.TrimRight(plainPath(r.Path, at+".path", errs), "/")
	}
	return e
}

func plainPath(path, at string, errs *fleet.Errors) string {
	p, err := Path(path)
	if err != nil || strings.ContainsAny(path, "?#") || strings.ContainsAny(p, "*") {
		errs.Addf(at, "%q: expected a plain path, without query, fragment, pattern or dot segments", path)
	}
	return p
}

// routesAt lists the routes that hold for hosts of the pattern ("" for hosts
// that no route names): those whose host says more first, then by compare.
func routesAt(s *fleet.Service, entries []entry, pattern string) []entry {
	type ranked struct {
		entry
		host int
	}
	var list []ranked
	for i, r := range s.Routes {
		says := -1
		if len(r.Hosts) == 0 {
			says = 0
		}
		for _, h := range r.Hosts {
			if covers(h, pattern) {
				says = max(says, weight(h))
			}
		}
		if says >= 0 {
			list = append(list, ranked{entries[i], says})
		}
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		return cmp.Or(b.host-a.host, a.compare(&b.entry))
	})
	out := make([]entry, len(list))
	for i := range list {
		out[i] = list[i].entry
	}
	return out
}

// weight ranks host patterns: an exact one says more than any wildcard, a long
// wildcard more than a short one.
func weight(pattern string) int {
	if strings.HasPrefix(pattern, "*.") {
		return len(pattern)
	}
	return 1 << 16
}

// covers says whether every host that sub stands for is one of pattern's.
func covers(pattern, sub string) bool {
	pattern, sub = fold(pattern), fold(sub)
	if pattern == sub {
		return true
	}
	domain, wild := strings.CutPrefix(pattern, "*")
	return wild && strings.HasSuffix(sub, domain) && len(sub) > len(domain)
}

// fold writes a host pattern as the table does.
func fold(pattern string) string { return strings.ToLower(strings.TrimSuffix(pattern, ".")) }

// Ports lists the ports to serve, in the Spec's order.
func (t *Table) Ports() []Port { return t.list }

// Route gives what a Match leads to, nil where there is none.
func (t *Table) Route(m Match) *Route {
	if m.Service < 0 || m.Route < 0 {
		return nil
	}
	return t.routes[m.Service][m.Route]
}

// RouteOf gives a service's route, both by their index in the Spec.
func (t *Table) RouteOf(service, route int) *Route { return t.routes[service][route] }

// Redirect makes the address of an outcome ToHTTPS.
func (t *Table) Redirect() *Redirect { return &toHTTPS }

// Find looks up a host in the form of Host, a path in the form of Path, and
// what else routes go by in the head. Where no route that could match asks for
// more than host and path it does not allocate. Where there is a service but no
// route, Match.Service tells which.
func (t *Table) Find(number uint16, host, path string, h *wire.Head) (Match, Outcome) {
	none := Match{-1, -1, -1}
	p := t.ports[number]
	if p == nil {
		return none, NoHost
	}
	svc, ok := p.services.find(host)
	if !ok {
		return none, NoHost
	}
	if svc.twin {
		return Match{svc.index, -1, -1}, ToHTTPS
	}
	list, _ := svc.routes.find(host)
	for i := range list {
		if e := &list[i]; e.matches(path, h) {
			return Match{svc.index, t.routes[svc.index][e.route].Pool, e.route}, Found
		}
	}
	return Match{svc.index, -1, -1}, NoRoute
}

// AnyHost says whether a service of that port takes every host.
func (t *Table) AnyHost(number uint16) bool {
	p := t.ports[number]
	return p != nil && p.services.has
}
