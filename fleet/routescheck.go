package fleet

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// routes checks references and ranges of routes and filters; what patterns and
// paths mean is for the rooms route and filter.
func (c *checker) routes(s *Service, at string) {
	pools := map[string]bool{}
	for i := range s.Pools {
		pools[s.Pools[i].ID] = true
	}
	pool := func(path, id string) {
		if !pools[id] {
			c.errs.Addf(path, "pool %q does not exist in the service", id)
		}
	}
	if len(s.Routes) > 0 && !s.Protocol.Gateway() {
		c.errs.Addf(at+".routes", "are for an http or https service, and this is %s", s.Protocol)
	}
	if !s.Protocol.Gateway() && !reflect.DeepEqual(s.Filters, Filters{}) {
		c.errs.Addf(at+".filters", "are for an http or https service, and this is %s", s.Protocol)
	}
	for i := range s.Routes {
		path := fmt.Sprintf("%s.routes[%d]", at, i)
		c.route(&s.Routes[i], path, pool)
		if s.Routes[i].Connect {
			c.connect(s, &s.Routes[i], path+".connect")
		}
	}
	c.filters(&s.Filters, at+".filters", pool)
	if s.RedirectHTTP == nil {
		return
	}
	switch path := at + ".redirect_http"; {
	case s.Protocol != HTTPS || !contains(s.Ports, 443):
		c.errs.Addf(path, "is for an https service at port 443")
	case *s.RedirectHTTP && s.twinTaken(c.spec) != "":
		c.errs.Addf(path, "port %d is service %q's, which is not http", twin, s.twinTaken(c.spec))
	}
}

func (s *Service) twinTaken(spec *Spec) string {
	for i := range spec.Services {
		if o := &spec.Services[i]; o.Protocol != HTTP && o.Protocol != UDP && (o.AllPorts || contains(o.Ports, twin)) {
			return o.Service
		}
	}
	return ""
}

func (c *checker) route(r *Route, at string, pool func(path, id string)) {
	var actions []string
	if r.Pool != "" {
		actions = append(actions, "pool")
		pool(at+".pool", r.Pool)
	}
	if r.Split != nil {
		actions = append(actions, "split")
		c.split(r.Split, at+".split", pool)
	}
	if r.Redirect != nil {
		actions = append(actions, "redirect")
		if !contains([]int{301, 302, 303, 307, 308}, r.Redirect.Status) {
			c.errs.Addf(at+".redirect.status", "%d: expected 301, 302, 303, 307 or 308", r.Redirect.Status)
		}
	}
	if r.Answer != nil {
		actions = append(actions, "answer")
		c.ownStatus(at+".answer.status", r.Answer.Status, r.Answer.Body)
		c.body(at+".answer.body", r.Answer.Body)
	}
	switch {
	case len(actions) == 0:
		c.errs.Addf(at, "expected pool, split, redirect or answer")
	case len(actions) > 1:
		c.errs.Addf(at, "expected one of %s", strings.Join(actions, ", "))
	}
	c.path(at+".path", r.Path)
	c.path(at+".path_exact", r.PathExact)
	if n := count(r.Path != "", r.PathExact != "", r.PathRegex != ""); n > 1 {
		c.errs.Addf(at, "expected one of path, path_exact and path_regex")
	}
	if !r.Serves() {
		for i, given := range []bool{r.Rewrite != nil, r.Mirror != nil, r.Timeouts != nil, r.Retries != nil} {
			if given {
				c.errs.Addf(at+"."+[]string{"rewrite", "mirror", "timeouts", "retries"}[i], "is for a route to a pool")
			}
		}
	}
	if m := r.Mirror; m != nil {
		pool(at+".mirror.pool", m.Pool)
		if !(*m.Percent >= 0 && *m.Percent <= 100) {
			c.errs.Addf(at+".mirror.percent", "%v is not between 0 and 100", *m.Percent)
		}
	}
	if r.Retries != nil {
		c.retries(r.Retries, at+".retries")
	}
	if r.Filters != nil {
		c.filters(r.Filters, at+".filters", pool)
	}
}

// connect checks that a route can pass CONNECT on.
func (c *checker) connect(s *Service, r *Route, at string) {
	if !r.Serves() {
		c.errs.Addf(at, "is for a route to a pool")
	}
	if r.Path != "/" {
		c.errs.Addf(at, "CONNECT has no path; expected a route of path /")
	}
	if len(r.Methods) > 0 && !contains(r.Methods, "CONNECT") {
		c.errs.Addf(at, "CONNECT is not among the route's methods (%s)", strings.Join(r.Methods, ", "))
	}
	used := map[string]bool{r.Pool: true}
	if r.Split != nil {
		for _, share := range r.Split.Pools {
			used[share.Pool] = true
		}
	}
	for i := range s.Pools {
		if p := &s.Pools[i]; used[p.ID] && p.Protocol == PoolH2 {
			c.errs.Addf(at, "CONNECT goes to endpoints of HTTP/1.1 alone, and pool %q has protocol h2", p.ID)
		}
	}
}

func (c *checker) split(s *Split, at string, pool func(path, id string)) {
	sum := 0
	for i, share := range s.Pools {
		path := fmt.Sprintf("%s.pools[%d]", at, i)
		pool(path+".pool", share.Pool)
		c.between(path+".weight", *share.Weight, 0, 1_000_000)
		sum += *share.Weight
	}
	if sum <= 0 {
		c.errs.Addf(at+".pools", "expected at least one pool with a weight")
	}
	if s.Cookie != "" && s.By != SplitByCookie {
		c.errs.Addf(at+".cookie", "is for by: cookie, and this is %s", s.By)
	}
}

func (c *checker) retries(r *Retries, at string) {
	c.between(at+".attempts", *r.Attempts, 0, 10)
	c.between(at+".budget_percent", *r.BudgetPercent, 0, 100)
	for i, on := range r.RetryOn {
		if words := []string{"connect_failure", "reset", "timeout", "502", "503", "504", "unavailable"}; !contains(words, on) {
			c.errs.Addf(fmt.Sprintf("%s.retry_on[%d]", at, i), "%q is unknown; expected one of %s", on, strings.Join(words, ", "))
		}
	}
}

// ownStatus checks that of an answer of the gateway's own.
func (c *checker) ownStatus(at string, status int, body string) {
	c.between(at, status, 200, 599)
	if body != "" && (status == 204 || status == 205 || status == 304) {
		c.errs.Addf(at, "%d: such an answer has no body", status)
	}
}

// body checks a text that stands in the Spec or in a file.
func (c *checker) body(at, text string) {
	if text == "file:" || len(text) > MaxPage {
		c.errs.Addf(at, "expected a text, or file:PATH, up to %d octets", MaxPage)
	}
}

func (c *checker) filters(f *Filters, at string, pool func(path, id string)) {
	if m := f.Maintenance; m != nil {
		c.ownStatus(at+".maintenance.status", m.Status, "a line of text")
		c.body(at+".maintenance.body", m.Body)
		c.networks(at+".maintenance.except", m.Except)
	}
	for i, line := range f.Access {
		if a, err := ParseAccess(line); err != nil || a.Key != "" {
			c.errs.Addf(fmt.Sprintf("%s.access[%d]", at, i), "%q is not PREFIX or an address, with ! before it to refuse", line)
		}
	}
	if l := f.Bounds; l != nil {
		positive := func(key string, v int64) {
			if v < 0 {
				c.errs.Addf(at+".bounds."+key, "%d is below 0", v)
			}
		}
		positive("body", l.Body)
		positive("header", int64(l.Header))
		positive("min_rate", int64(l.MinRate))
	}
	if co := f.CORS; co != nil {
		if len(co.Origins) == 0 {
			c.errs.Addf(at+".cors.origins", "expected at least one origin")
		}
		c.within(at+".cors.max_age", co.MaxAge, time.Second, 24*time.Hour)
	}
	c.filterAuth(f, at, pool)
	for i := range f.ErrorPages {
		p, path := &f.ErrorPages[i], fmt.Sprintf("%s.error_pages[%d]", at, i)
		if len(p.Status) == 0 {
			c.errs.Addf(path+".status", "expected at least one status code or class")
		}
		c.expect(&Expect{Status: p.Status}, path)
		c.body(path+".body", p.Body)
	}
	if h := f.HSTS; h != nil {
		c.within(at+".hsts.max_age", h.MaxAge, time.Second, 87600*time.Hour)
		if h.Preload && (!h.IncludeSubdomains || h.MaxAge.D() < 365*24*time.Hour) {
			c.errs.Addf(at+".hsts.preload", "needs include_subdomains and a max_age of at least 8760h")
		}
	}
	if co := f.Compression; co != nil {
		c.between(at+".compression.min_length", co.MinLength, 1, 1<<20)
	}
	if st := f.Stale; st != nil {
		c.within(at+".stale_if_error.for", st.For, time.Second, 168*time.Hour)
		c.between(at+".stale_if_error.size", st.Size, 1<<16, 1<<30)
		c.between(at+".stale_if_error.max_body", st.MaxBody, 1, 16<<20)
	}
}

func (c *checker) filterAuth(f *Filters, at string, pool func(path, id string)) {
	if b := f.BasicAuth; b != nil && !b.Off && b.Users == "" {
		c.errs.Addf(at+".basic_auth.users", "expected file:PATH or env:NAME")
	}
	if j := f.JWT; j != nil {
		if j.Keys == "" && !j.Off {
			c.errs.Addf(at+".jwt.keys", "expected file:PATH or env:NAME")
		}
		c.within(at+".jwt.leeway", j.Leeway, 0, 10*time.Minute)
	}
	if f.BasicAuth != nil && f.JWT != nil && !f.BasicAuth.Off && !f.JWT.Off {
		c.errs.Addf(at+".jwt", "goes with no basic_auth: both are in Authorization")
	}
	if a := f.ForwardAuth; a != nil && !a.Off {
		pool(at+".forward_auth.pool", a.Pool)
		c.path(at+".forward_auth.path", a.Path)
		c.within(at+".forward_auth.timeout", a.Timeout, 10*time.Millisecond, time.Minute)
	}
}

// networks checks addresses and prefixes.
func (c *checker) networks(at string, list []string) {
	for i, s := range list {
		if _, err := ParseNetwork(s); err != nil {
			c.errs.Addf(fmt.Sprintf("%s[%d]", at, i), "%s", err)
		}
	}
}

// ParseNetwork reads an address or a prefix.
func ParseNetwork(s string) (netip.Prefix, error) {
	a, err := ParseAccess(s)
	if err != nil || a.Key != "" || a.Deny {
		return netip.Prefix{}, fmt.Errorf("%q is not an address or a prefix", s)
	}
	return a.From.Masked(), nil
}

func count(list ...bool) int {
	n := 0
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}
