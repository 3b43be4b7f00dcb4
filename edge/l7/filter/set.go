package filter

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"meridian/edge/l7/route"
	"meridian/fleet"
)

// Set is all that is done with the requests of one route and their answers. Nil
// parts are off. It is immutable, but for what Basic remembers.
type Set struct {
	Maintenance *Maintenance
	Access      *Access
	Bounds      fleet.Bounds
	CORS        *CORS
	Basic       *Basic
	JWT         *JWT
	Forward     *fleet.ForwardAuth
	ForwardPool int // index in the service's Pools
	Request     *Changes
	Answer      *Changes
	HSTS        string // "": none
	Compression *Compression
	Stale       *fleet.Stale
	pages       []*Page
}

// Plain says that nothing is to be done before an endpoint is asked.
func (s *Set) Plain() bool {
	return s.Maintenance == nil && s.Access == nil && s.Bounds.Body == 0 && s.Bounds.Header == 0 && len(s.Bounds.Methods) == 0 && s.Bounds.MinRate == 0 &&
		s.CORS == nil && s.Basic == nil && s.JWT == nil && s.Forward == nil && s.Request == nil
}

// Maintenance answers in place of endpoints.
type Maintenance struct {
	Status     int
	RetryAfter string
	Page       Plain // Body nil: a line of text
	except     Networks
}

// Holds says whether it is in force for a client.
func (m *Maintenance) Holds(client netip.Addr) bool { return m != nil && !m.except.Has(client) }

// compiler makes Sets; objects is nil where only the Spec is checked.
type compiler struct {
	objects map[fleet.ObjectKey]fleet.Object
	errs    *fleet.Errors
	salt    [32]byte
	pools   []fleet.Pool
	https   bool
}

// object gives an object's content; false, and nothing noted, where only the
// Spec is checked.
func (c *compiler) object(kind fleet.ObjectKind, id string) ([]byte, bool) {
	if c.objects == nil {
		return nil, false
	}
	o, ok := c.objects[fleet.ObjectKey{Kind: kind, ID: id}]
	if !ok {
		c.errs.Addf(string(kind), "%s is not among the objects", id)
	}
	return o.Data, ok
}

// Sets are those of a service: one for each route, and the service's own, by
// which requests without a route are answered.
type Sets struct {
	Routes  []*Set // by index in the service's Routes; those without filters of their own share the service's
	Service *Set
	Answers []*Plain // by index in the service's Routes; nil where the route has no answer of its own
}

// Compile makes the Sets of an http or https service. salt is drawn at random.
func Compile(s *fleet.Service, objects map[fleet.ObjectKey]fleet.Object, salt [32]byte) (*Sets, error) {
	var errs fleet.Errors
	if objects == nil {
		objects = map[fleet.ObjectKey]fleet.Object{}
	}
	out := compile(s, "", &compiler{objects: objects, errs: &errs, salt: salt})
	return out, errs.Err()
}

func compile(s *fleet.Service, at string, c *compiler) *Sets {
	c.pools, c.https = s.Pools, s.Protocol == fleet.HTTPS
	out := &Sets{Service: c.set(&s.Filters, at+"filters")}
	for i := range s.Routes {
		set := out.Service
		if own := s.Routes[i].Filters; own != nil {
			m := merged(&s.Filters, own)
			set = c.set(&m, fmt.Sprintf("%sroutes[%d].filters", at, i))
		}
		out.Routes = append(out.Routes, set)
		var answer *Plain
		if a := s.Routes[i].Answer; a != nil {
			body := c.text(a.Body, fmt.Sprintf("%sroutes[%d].answer.body", at, i))
			answer = &Plain{contentType(a.ContentType, body), []byte(body)}
		}
		out.Answers = append(out.Answers, answer)
	}
	return out
}

// merged puts each key of own in place of the service's.
func merged(service, own *fleet.Filters) fleet.Filters {
	m := *service
	put(&m.Maintenance, own.Maintenance)
	put(&m.Bounds, own.Bounds)
	put(&m.CORS, own.CORS)
	if own.BasicAuth != nil || own.JWT != nil { // both are in Authorization: one goes in place of the other
		m.BasicAuth, m.JWT = own.BasicAuth, own.JWT
	}
	put(&m.ForwardAuth, own.ForwardAuth)
	put(&m.RequestFields, own.RequestFields)
	put(&m.AnswerFields, own.AnswerFields)
	put(&m.HSTS, own.HSTS)
	put(&m.Compression, own.Compression)
	put(&m.Stale, own.Stale)
	if len(own.Access) > 0 {
		m.Access = own.Access
	}
	if len(own.ErrorPages) > 0 {
		m.ErrorPages = own.ErrorPages
	}
	return m
}

func put[T any](to **T, own *T) {
	if own != nil {
		*to = own
	}
}

func (c *compiler) set(f *fleet.Filters, at string) *Set {
	s := &Set{Access: compileAccess(f.Access), CORS: compileCORS(f.CORS, at+".cors", c.errs),
		Request: compileChanges(f.RequestFields, at+".request_fields", c.errs), Answer: compileChanges(f.AnswerFields, at+".answer_fields", c.errs),
		Compression: compileCompression(f.Compression, at+".compression", c.errs), pages: c.pages(f.ErrorPages, at+".error_pages")}
	if f.Stale != nil && !f.Stale.Off {
		s.Stale = f.Stale
	}
	if m := f.Maintenance; m != nil && m.On {
		s.Maintenance = &Maintenance{Status: m.Status, except: networks(m.Except)}
		if m.RetryAfter > 0 {
			s.Maintenance.RetryAfter = strconv.Itoa(int(max(m.RetryAfter.D().Seconds(), 1)))
		}
		if m.Body != "" {
			body := c.text(m.Body, at+".maintenance.body")
			s.Maintenance.Page = Plain{contentType("", body), []byte(body)}
		}
	}
	if f.Bounds != nil {
		s.Bounds = *f.Bounds
		for i, m := range f.Bounds.Methods {
			if !validName(m) {
				c.errs.Addf(fmt.Sprintf("%s.bounds.methods[%d]", at, i), "%q is not a method", m)
			}
		}
	}
	c.auth(s, f, at)
	s.HSTS = c.hsts(f.HSTS)
	return s
}

func (c *compiler) auth(s *Set, f *fleet.Filters, at string) {
	if b := f.BasicAuth; b != nil && !b.Off {
		if b.Field != "" {
			checkName(b.Field, at+".basic_auth.field", c.errs)
		}
		if !validValue(b.Realm) {
			c.errs.Addf(at+".basic_auth.realm", "%q cannot stand in a field", b.Realm)
		}
		if data, ok := c.object(fleet.ObjectSecret, string(b.Users)); ok {
			basic, err := NewBasic(data, c.salt)
			if err != nil {
				c.errs.Addf(at+".basic_auth.users", "%s", err)
			} else {
				basic.Realm, basic.Keep, basic.Field = b.Realm, b.Keep, b.Field
				s.Basic = basic
			}
		}
	}
	if j := f.JWT; j != nil && !j.Off {
		for _, field := range slices.Sorted(maps.Keys(j.Claims)) {
			checkName(field, at+".jwt.claims."+field, c.errs)
		}
		if data, ok := c.object(fleet.ObjectSecret, string(j.Keys)); ok {
			var err error
			if s.JWT, err = NewJWT(j, data); err != nil {
				c.errs.Addf(at+".jwt.keys", "%s", err)
			}
		}
	}
	if a := f.ForwardAuth; a != nil && !a.Off {
		s.Forward = a
		s.ForwardPool = slices.IndexFunc(c.pools, func(p fleet.Pool) bool { return p.ID == a.Pool })
		if _, err := route.Path(a.Path); err != nil {
			c.errs.Addf(at+".forward_auth.path", "%q: %s", a.Path, err)
		}
		for i, name := range a.Copy {
			checkName(name, fmt.Sprintf("%s.forward_auth.copy[%d]", at, i), c.errs)
		}
	}
}

// hsts is on for https unless the Spec says otherwise (RFC 6797 section 6.1).
func (c *compiler) hsts(h *fleet.HSTS) string {
	if !c.https || h != nil && h.Off {
		return ""
	}
	if h == nil {
		return "max-age=86400"
	}
	out := fmt.Sprintf("max-age=%d", int64(h.MaxAge.D().Seconds()))
	if h.IncludeSubdomains {
		out += "; includeSubDomains"
	}
	if h.Preload {
		out += "; preload"
	}
	return out
}

// Check notes filters that gateways could not work with.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	for i := range spec.Services {
		if s := &spec.Services[i]; s.Protocol.Gateway() {
			compile(s, fmt.Sprintf("services[%d].", i), &compiler{errs: errs})
		}
	}
}

// Objects gives, for each object that filters name, what its content must
// parse as.
func Objects(spec *fleet.Spec) map[fleet.ObjectKey]func(data []byte) error {
	out := map[fleet.ObjectKey]func([]byte) error{}
	note := func(f *fleet.Filters) {
		if f == nil {
			return
		}
		if f.BasicAuth != nil && f.BasicAuth.Users != "" {
			out[fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(f.BasicAuth.Users)}] = func(data []byte) error { _, err := parseUsers(data); return err }
		}
		if f.JWT != nil && f.JWT.Keys != "" {
			out[fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(f.JWT.Keys)}] = func(data []byte) error { _, err := parseKeys(data); return err }
		}
	}
	for i := range spec.Services {
		note(&spec.Services[i].Filters)
		for j := range spec.Services[i].Routes {
			note(spec.Services[i].Routes[j].Filters)
		}
	}
	return out
}

// Shapes says that answers of endpoints change, or may.
func (s *Set) Shapes() bool {
	return s.HSTS != "" || s.Answer != nil || s.CORS != nil || s.Compression != nil || s.Stale != nil || len(s.pages) > 0
}
