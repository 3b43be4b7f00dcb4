package filter

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"meridian/edge/l7/hop"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Vars are what the variables of values stand for.
type Vars struct {
	Client                    netip.Addr
	Region, Node              string
	Service, Route            string
	Scheme                    string
	Host, Method, Path, Query []byte
	RequestID                 []byte
	Status                    int // of pages
	scratch                   []byte
}

// Reset forgets everything but memory that serves again.
func (v *Vars) Reset() { *v = Vars{scratch: v.scratch[:0]} }

type variable uint8

const (
	text variable = iota
	clientIP
	requestID
	region
	node
	service
	routeName
	host
	method
	path
	query
	scheme
	status
)

var variables = map[string]variable{
	"client_ip": clientIP, "request_id": requestID, "region": region, "node": node, "service": service, "route": routeName,
	"host": host, "method": method, "path": path, "query": query, "scheme": scheme,
}

// part is a piece of a value: a text or a variable.
type part struct {
	is   variable
	text string
}

// template is a value with variables.
type template []part

// parseTemplate reads a value; names are those that it may hold.
func parseTemplate(s string, names map[string]variable) (template, error) {
	var out template
	for s != "" {
		at := strings.IndexByte(s, '{')
		switch {
		case at < 0:
			return append(out, part{text: s}), nil
		case at > 0:
			out = append(out, part{text: s[:at]})
			s = s[at:]
		case strings.HasPrefix(s, "{{"):
			out = append(out, part{text: "{"})
			s = s[2:]
		default:
			name, rest, ok := strings.Cut(s[1:], "}")
			is, known := names[name]
			if !ok || !known {
				return nil, fmt.Errorf("{%s} is unknown; expected one of {%s}, or {{ for a brace",
					name, strings.Join(slices.Sorted(maps.Keys(names)), "}, {"))
			}
			out = append(out, part{is: is})
			s = rest
		}
	}
	return out, nil
}

func (t template) append(b []byte, v *Vars) []byte {
	for i := range t {
		switch t[i].is {
		case text:
			b = append(b, t[i].text...)
		case clientIP:
			if v.Client.IsValid() {
				b = v.Client.AppendTo(b)
			}
		case requestID:
			b = append(b, v.RequestID...)
		case region:
			b = append(b, v.Region...)
		case node:
			b = append(b, v.Node...)
		case service:
			b = append(b, v.Service...)
		case routeName:
			b = append(b, v.Route...)
		case host:
			b = append(b, v.Host...)
		case method:
			b = append(b, v.Method...)
		case path:
			b = append(b, v.Path...)
		case query:
			b = append(b, v.Query...)
		case scheme:
			b = append(b, v.Scheme...)
		case status:
			b = fmt.Append(b, v.Status)
		}
	}
	return b
}

// Changes are changes to a header.
type Changes struct {
	remove []string
	set    []change
	add    []change
}

type change struct {
	id    wire.ID
	name  []byte
	plain string // of the name, to find it
	value template
}

// Apply changes the header: what is removed first, then what is set, then what
// is added, each by name. It allocates only while the head's memory grows.
func (c *Changes) Apply(h *wire.Head, v *Vars) {
	if c == nil {
		return
	}
	for _, name := range c.remove {
		h.Del(name)
	}
	for i := range c.set {
		h.Del(c.set[i].plain)
		c.set[i].put(h, v)
	}
	for i := range c.add {
		c.add[i].put(h, v)
	}
}

func (c *change) put(h *wire.Head, v *Vars) {
	v.scratch = c.value.append(v.scratch[:0], v)
	h.Fields = append(h.Fields, wire.Field{ID: c.id, Name: c.name, Value: h.Keep(v.scratch)})
}

func compileChanges(f *fleet.FieldChanges, at string, errs *fleet.Errors) *Changes {
	if f == nil {
		return nil
	}
	c := new(Changes)
	for i, name := range f.Remove {
		checkName(name, fmt.Sprintf("%s.remove[%d]", at, i), errs)
		c.remove = append(c.remove, name)
	}
	list := func(m map[string]string, at string) []change {
		var out []change
		for _, name := range slices.Sorted(maps.Keys(m)) {
			here := at + "." + name
			checkName(name, here, errs)
			value, err := parseTemplate(m[name], variables)
			if err != nil {
				errs.Addf(here, "%s", err)
			}
			if !validValue(m[name]) {
				errs.Addf(here, "%q cannot be the value of a field", m[name])
			}
			out = append(out, change{id: wire.Lookup([]byte(name)), name: []byte(name), plain: name, value: value})
		}
		return out
	}
	c.set, c.add = list(f.Set, at+".set"), list(f.Add, at+".add")
	return c
}

// checkName refuses what is no field name, those of the connection, and those
// that the gateway speaks for itself by.
func checkName(name, at string, errs *fleet.Errors) {
	id := wire.Lookup([]byte(name))
	switch {
	case !validName(name):
		errs.Addf(at, "%q is not a field name", name)
	case id.HopByHop() || id == wire.ContentLength:
		errs.Addf(at, "%s belongs to the connection", name)
	case id == wire.Host:
		errs.Addf(at, "Host is changed by a route's rewrite.host")
	case strings.EqualFold(name, hop.Field):
		errs.Addf(at, "%s is the gateways' own", hop.Field)
	}
}

// validName says whether s is a token (RFC 9110 section 5.1).
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// validValue says whether s can be a field's value (RFC 9110 section 5.5).
func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == strings.Trim(s, " \t")
}
