package route

import (
	"fmt"
	"slices"
	"strings"

	"meridian/edge/l7/wire"
)

// Step is one route that a lookup has looked at.
type Step struct {
	Route *Route
	Why   string // why it does not match; "" for the one that does
	Asks  string // what that one asks for
}

// Explain is Find with the routes that were looked at, in the order of their
// precedence, up to the one that matches.
func (t *Table) Explain(number uint16, host, path string, h *wire.Head) (Match, Outcome, []Step) {
	m, outcome := t.Find(number, host, path, h)
	if m.Service < 0 || outcome == ToHTTPS {
		return m, outcome, nil
	}
	svc, _ := t.ports[number].services.find(host)
	list, _ := svc.routes.find(host)
	var steps []Step
	for i := range list {
		e := &list[i]
		s := Step{Route: t.routes[svc.index][e.route], Why: e.why(path, h)}
		if s.Why == "" {
			s.Asks = e.asks(s.Route.Spec.Hosts)
		}
		if steps = append(steps, s); s.Why == "" {
			break
		}
	}
	return m, outcome, steps
}

// why says what keeps a request from the entry, "" for nothing.
func (e *entry) why(path string, h *wire.Head) string {
	alone := *e
	if alone.more = nil; !alone.matches(path, nil) {
		return "path " + e.pathText()
	}
	if e.more == nil {
		return ""
	}
	if len(e.more.methods) > 0 && !slices.Contains(e.more.methods, string(h.Method)) {
		return fmt.Sprintf("method: one of %q", e.more.methods)
	}
	for i := range e.more.headers {
		if c := &e.more.headers[i]; !c.holdsHeader(h) {
			return "header " + c.text()
		}
	}
	for i := range e.more.query {
		c := &e.more.query[i]
		if v, ok := Parameter(h.Query(), c.name); !c.holds(v, ok) {
			return "query " + c.text()
		}
	}
	for i := range e.more.cookies {
		c := &e.more.cookies[i]
		if v, ok := Cookie(h, c.name); !c.holds(v, ok) {
			return "cookie " + c.text()
		}
	}
	return ""
}

// asks says what requests must have to be the entry's.
func (e *entry) asks(hosts []string) string {
	out := "path " + e.pathText()
	if len(hosts) > 0 {
		out = "host " + strings.Join(hosts, " or ") + ", " + out
	}
	if e.more == nil {
		return out
	}
	if len(e.more.methods) > 0 {
		out += ", method " + strings.Join(e.more.methods, " or ")
	}
	for _, of := range []struct {
		kind string
		list []condition
	}{{"header", e.more.headers}, {"query", e.more.query}, {"cookie", e.more.cookies}} {
		for i := range of.list {
			out += ", " + of.kind + " " + of.list[i].text()
		}
	}
	return out
}

func (e *entry) pathText() string {
	switch e.kind {
	case exact:
		return e.path
	case pattern:
		return e.regex.String()
	}
	return e.path + "/…"
}

func (c *condition) text() string {
	return c.name + [...]string{present: " is there", absent: " is not there", equal: " is ", begins: " begins with ", fits: " fits "}[c.how] + c.value
}
