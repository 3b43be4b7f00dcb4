package route

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// kind is how an entry looks at the path; a lower one goes first.
type kind uint8

const (
	exact kind = iota
	pattern
	prefix
)

// entry is one route as it stands in the list of a host.
type entry struct {
	kind  kind
	path  string         // exact: the path; prefix: without a final slash, "" for every path
	regex *regexp.Regexp // pattern: of the whole path
	route int            // index in the Spec
	more  *conditions    // nil: none
}

// conditions are what a route asks besides host and path.
type conditions struct {
	methods                 []string
	headers, query, cookies []condition
}

func (c *conditions) count() int { return len(c.headers) + len(c.query) + len(c.cookies) }

// condition is about one header field, query parameter or cookie.
type condition struct {
	name  string
	id    wire.ID // of a known header field
	how   how
	value string
	regex *regexp.Regexp
}

type how uint8

const (
	present how = iota
	absent
	equal
	begins
	fits
)

// matches says whether the request is the entry's.
func (e *entry) matches(path string, h *wire.Head) bool {
	switch e.kind {
	case exact:
		if path != e.path {
			return false
		}
	case pattern:
		if !e.regex.MatchString(path) {
			return false
		}
	default:
		if !under(path, e.path) {
			return false
		}
	}
	return e.more == nil || e.more.hold(h)
}

func (c *conditions) hold(h *wire.Head) bool {
	if len(c.methods) > 0 && !slices.Contains(c.methods, string(h.Method)) {
		return false
	}
	for i := range c.headers {
		if !c.headers[i].holdsHeader(h) {
			return false
		}
	}
	for i := range c.query {
		v, ok := Parameter(h.Query(), c.query[i].name)
		if !c.query[i].holds(v, ok) {
			return false
		}
	}
	for i := range c.cookies {
		v, ok := Cookie(h, c.cookies[i].name)
		if !c.cookies[i].holds(v, ok) {
			return false
		}
	}
	return true
}

// holdsHeader: a field that comes more than once counts as its values joined by
// commas (RFC 9110 section 5.3).
func (c *condition) holdsHeader(h *wire.Head) bool {
	var value []byte
	found := false
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.ID != c.id || c.id == wire.Other && !wire.EqualFold(f.Name, c.name) {
			continue
		}
		if found {
			value = append(append(slices.Clip(value), ", "...), f.Value...)
		} else {
			value, found = f.Value, true
		}
	}
	return c.holds(value, found)
}

func (c *condition) holds(v []byte, found bool) bool {
	switch c.how {
	case absent:
		return !found
	case equal:
		return found && string(v) == c.value
	case begins:
		return found && len(v) >= len(c.value) && string(v[:len(c.value)]) == c.value
	case fits:
		return found && c.regex.Match(v)
	}
	return found
}

// whole compiles a regular expression that must fit all of a text. Length and
// growth are bounded by RE2's own limits and by 1000 octets.
func whole(expr string) (*regexp.Regexp, error) {
	if len(expr) > 1000 {
		return nil, fmt.Errorf("expected a regular expression of at most 1000 octets")
	}
	// Alone first: what closes more groups than it opens would fit in the group.
	if _, err := regexp.Compile(expr); err != nil {
		return nil, fmt.Errorf("%q is not a regular expression: %s", expr, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return regexp.Compile(`^(?:` + expr + `)$`)
}

// compileConditions notes what is wrong; nil where a route asks nothing more.
func compileConditions(r *fleet.Route, at string, errs *fleet.Errors) *conditions {
	c := &conditions{methods: r.Methods}
	for i, m := range r.Methods {
		if !token(m) {
			errs.Addf(fmt.Sprintf("%s.methods[%d]", at, i), "%q is not a method", m)
		}
		if slices.Contains(r.Methods[:i], m) {
			errs.Addf(fmt.Sprintf("%s.methods[%d]", at, i), "%q is given twice", m)
		}
	}
	list := func(key string, in []fleet.FieldMatch) []condition {
		var out []condition
		for i := range in {
			out = append(out, compileCondition(&in[i], fmt.Sprintf("%s.%s[%d]", at, key, i), key, errs))
		}
		slices.SortStableFunc(out, func(a, b condition) int { return cmp.Compare(a.name, b.name) })
		return out
	}
	c.headers = list("headers", r.Headers)
	c.query = list("query", r.Query)
	c.cookies = list("cookies", r.Cookies)
	if len(c.methods) == 0 && c.count() == 0 {
		return nil
	}
	return c
}

func compileCondition(m *fleet.FieldMatch, at, key string, errs *fleet.Errors) condition {
	c := condition{name: m.Name}
	if key == "headers" {
		c.name = strings.ToLower(m.Name)
		c.id = wire.Lookup([]byte(m.Name))
	}
	if m.Name == "" || key != "query" && !token(m.Name) {
		errs.Addf(at+".name", "%q is not a name", m.Name)
	}
	if c.id.HopByHop() || c.id == wire.Host {
		errs.Addf(at+".name", "%q belongs to the connection, or is the request's host", m.Name)
	}
	given := 0
	if m.Value != nil {
		given++
		c.how, c.value = equal, *m.Value
	}
	if m.Prefix != "" {
		given++
		c.how, c.value = begins, m.Prefix
	}
	if m.Regex != "" {
		given++
		c.how, c.value = fits, m.Regex
		var err error
		if c.regex, err = whole(m.Regex); err != nil {
			errs.Addf(at+".regex", "%s", err)
		}
	}
	if m.Absent {
		given++
		c.how = absent
	}
	if given > 1 {
		errs.Addf(at, "expected one of value, prefix, regex and absent")
	}
	return c
}

// token says whether s is one (RFC 9110 section 5.6.2).
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// identity names all that decides which requests an entry takes, so that two of
// the same are told.
func (e *entry) identity() string {
	what := fmt.Sprintf("%d %q", e.kind, e.path)
	if e.regex != nil {
		what += e.regex.String()
	}
	if e.more == nil {
		return what
	}
	methods := slices.Sorted(slices.Values(e.more.methods))
	what += fmt.Sprintf(" %q", methods)
	for _, list := range [][]condition{e.more.headers, e.more.query, e.more.cookies} {
		what += " /"
		for _, c := range list {
			what += fmt.Sprintf(" %q %d %q", c.name, c.how, c.value)
		}
	}
	return what
}

// compare orders entries of one host by precedence: exact path, regular
// expressions in the Spec's order, longest prefix; then those with methods,
// then those with more conditions, then the Spec's order.
func (e *entry) compare(o *entry) int {
	if d := cmp.Compare(e.kind, o.kind); d != 0 {
		return d
	}
	if e.kind == prefix {
		if d := len(o.path) - len(e.path); d != 0 {
			return d
		}
	}
	if e.kind == pattern && e.regex.String() != o.regex.String() {
		return e.route - o.route
	}
	methods := func(e *entry) int {
		if e.more != nil && len(e.more.methods) > 0 {
			return 1
		}
		return 0
	}
	conditions := func(e *entry) int {
		if e.more == nil {
			return 0
		}
		return e.more.count()
	}
	return cmp.Or(methods(o)-methods(e), conditions(o)-conditions(e), e.route-o.route)
}
