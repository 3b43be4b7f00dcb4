package filter

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// CORS says what scripts of other origins may do (Fetch standard, section 3.2).
type CORS struct {
	any                     bool
	exact                   []string
	below                   [][2]string // scheme:// and .domain of https://*.domain
	credentials, anyHeaders bool
	methods, headers        string
	expose, maxAge          string
	allowed                 []string
}

func compileCORS(c *fleet.CORS, at string, errs *fleet.Errors) *CORS {
	if c == nil {
		return nil
	}
	out := &CORS{credentials: c.Credentials, methods: strings.Join(c.Methods, ", "), headers: strings.Join(c.Headers, ", "),
		expose: strings.Join(c.Expose, ", "), maxAge: strconv.Itoa(int(c.MaxAge.D().Seconds())), allowed: c.Methods,
		anyHeaders: slices.Contains(c.Headers, "*")}
	for i, o := range c.Origins {
		scheme, host, ok := strings.Cut(o, "://")
		switch domain, wild := strings.CutPrefix(host, "*"); {
		case o == "*":
			out.any = true
		case !ok || host == "" || scheme == "" || strings.ContainsAny(domain, "*/ ") || wild && !strings.HasPrefix(domain, "."):
			errs.Addf(fmt.Sprintf("%s.origins[%d]", at, i), "%q: expected an origin such as https://app.example.com, https://*.example.com, or *", o)
		case wild:
			out.below = append(out.below, [2]string{scheme + "://", domain})
		default:
			out.exact = append(out.exact, o)
		}
	}
	if out.any && out.credentials {
		errs.Addf(at+".credentials", "goes with no origin *: any page could read what its visitors may")
	}
	names := func(key string, list []string) {
		for i, n := range list {
			if !validName(n) {
				errs.Addf(fmt.Sprintf("%s.%s[%d]", at, key, i), "%q is not a name", n)
			}
		}
	}
	names("methods", c.Methods)
	names("headers", c.Headers)
	names("expose", c.Expose)
	return out
}

// allows gives the origin to name in the answer, "" where it is not allowed.
func (c *CORS) allows(origin []byte) string {
	if c.any {
		return "*"
	}
	for _, o := range c.exact {
		if string(origin) == o {
			return o
		}
	}
	for _, b := range c.below {
		if bytes.HasPrefix(origin, []byte(b[0])) && bytes.HasSuffix(origin, []byte(b[1])) && len(origin) > len(b[0])+len(b[1]) &&
			!bytes.ContainsAny(origin[len(b[0]):], "/@ ") {
			return string(origin)
		}
	}
	return ""
}

func field(h *wire.Head, name string) []byte {
	if i := h.Find(name, 0); i >= 0 {
		return h.Fields[i].Value
	}
	return nil
}

// Preflight says whether the request only asks what it may do. It is answered
// 204 with what Answer adds, and reaches no endpoint.
func (c *CORS) Preflight(h *wire.Head) bool {
	return h.Is("OPTIONS") && field(h, "Origin") != nil && field(h, "Access-Control-Request-Method") != nil
}

// Answer adds to an answer what the request's origin may do. What endpoints
// said of it goes.
func (c *CORS) Answer(req, answer *wire.Head) {
	for _, name := range []string{"Allow-Origin", "Allow-Credentials", "Allow-Methods", "Allow-Headers", "Expose-Headers", "Max-Age"} {
		answer.Del("Access-Control-" + name)
	}
	if !c.any {
		addVary(answer, "Origin")
	}
	origin := c.allows(field(req, "Origin"))
	if origin == "" || field(req, "Origin") == nil {
		return
	}
	answer.Add("Access-Control-Allow-Origin", origin)
	if c.credentials {
		answer.Add("Access-Control-Allow-Credentials", "true")
	}
	if !c.Preflight(req) {
		if c.expose != "" {
			answer.Add("Access-Control-Expose-Headers", c.expose)
		}
		return
	}
	answer.Add("Access-Control-Allow-Methods", c.methods)
	answer.Add("Access-Control-Max-Age", c.maxAge)
	headers := c.headers
	if asked := field(req, "Access-Control-Request-Headers"); c.anyHeaders && asked != nil {
		headers = string(asked)
	}
	if headers != "" {
		answer.Add("Access-Control-Allow-Headers", headers)
	}
}
