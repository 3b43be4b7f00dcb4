package route

import (
	"fmt"
	"slices"
	"strings"

	"meridian/fleet"
)

// Table finds the service and pool of a request. It is immutable.
type Table struct {
	ports   map[uint16]*port
	streams map[uint16]*hosts[int] // of tcp services, by port: their indices in Spec.Services
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
	Pool    int // index in the service's Pools
}

// Outcome is what a lookup found.
type Outcome uint8

// The outcomes.
const (
	Found   Outcome = iota
	NoHost          // no service of that port has the host
	NoRoute         // the service has no route for the path
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
	routes hosts[[]entry]
}

type entry struct {
	prefix string // canonical, without a final slash; "" matches every path
	pool   int
}

// Compile builds the table of the Spec's http and https services, and of the tcp
// and udp ones whose connections end at the gateways. A Spec that
// passed Check compiles.
func Compile(spec *fleet.Spec) (*Table, error) {
	t := &Table{ports: map[uint16]*port{}, streams: map[uint16]*hosts[int]{}, datagrams: map[uint16]int{}}
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
		svc, err := compileService(s, i)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", s.Service, err)
		}
		for _, n := range s.Ports {
			p := t.ports[n]
			if p == nil {
				p = &port{}
				t.ports[n] = p
				t.list = append(t.list, Port{n, s.Protocol})
			}
			if err := addHosts(&p.services, s.Hosts, svc); err != nil {
				return nil, fmt.Errorf("service %q: %w", s.Service, err)
			}
		}
	}
	return t, nil
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

func compileService(s *fleet.Service, index int) (*service, error) {
	svc := &service{index: index}
	// Each pattern that any route names gets a list of all routes that hold
	// there, so that a lookup reads one list only.
	patterns := []string{""}
	for _, r := range s.Routes {
		patterns = append(patterns, r.Hosts...)
	}
	for _, p := range patterns {
		list, err := routesAt(s, p)
		if err != nil {
			return nil, err
		}
		var names []string
		if p != "" {
			names = []string{p}
		}
		if err := addHosts(&svc.routes, names, list); err != nil {
			return nil, err
		}
	}
	return svc, nil
}

// routesAt lists the routes that hold for hosts of the pattern ("" for hosts
// that no route names): longest path first, then the route whose host says
// more, then the Spec's order.
func routesAt(s *fleet.Service, pattern string) ([]entry, error) {
	type ranked struct {
		entry
		host int
	}
	var list []ranked
	for _, r := range s.Routes {
		says := -1
		if len(r.Hosts) == 0 {
			says = 0
		}
		for _, h := range r.Hosts {
			if covers(h, pattern) {
				says = max(says, weight(h))
			}
		}
		if says < 0 {
			continue
		}
		prefix, err := Path(r.Path)
		if err != nil {
			return nil, fmt.Errorf("route %q: %w", r.Path, err)
		}
		pool := slices.IndexFunc(s.Pools, func(p fleet.Pool) bool { return p.ID == r.Pool })
		if pool < 0 {
			return nil, fmt.Errorf("route %q: pool %q does not exist", r.Path, r.Pool)
		}
		list = append(list, ranked{entry{strings.TrimRight(prefix, "/"), pool}, says})
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		if d := len(b.prefix) - len(a.prefix); d != 0 {
			return d
		}
		return b.host - a.host
	})
	out := make([]entry, len(list))
	for i := range list {
		out[i] = list[i].entry
	}
	return out, nil
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

// Find looks up a host in the form of Host and a path in the form of Path. It
// does not allocate. Where there is a service but no route, Match.Service
// tells which.
func (t *Table) Find(number uint16, host, path string) (Match, Outcome) {
	p := t.ports[number]
	if p == nil {
		return Match{-1, -1}, NoHost
	}
	svc, ok := p.services.find(host)
	if !ok {
		return Match{-1, -1}, NoHost
	}
	list, _ := svc.routes.find(host)
	for i := range list {
		if under(path, list[i].prefix) {
			return Match{svc.index, list[i].pool}, Found
		}
	}
	return Match{svc.index, -1}, NoRoute
}

// AnyHost says whether a service of that port takes every host.
func (t *Table) AnyHost(number uint16) bool {
	p := t.ports[number]
	return p != nil && p.services.has
}

// under says whether path is prefix itself or below it.
func under(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}
