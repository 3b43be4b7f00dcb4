package route

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Route is what is done with the requests of one route. It is immutable.
type Route struct {
	Index    int          // in the service's Routes
	Name     string       // to show to people
	Spec     *fleet.Route // as written
	Pool     int          // index in the service's Pools; -1: Split, Redirect or Answer
	Split    *Split
	Redirect *Redirect
	Answer   *fleet.FixedAnswer
	Rewrite  *Rewrite
	Mirror   int     // index of the pool that gets copies; -1: none
	Share    float64 // of requests that are copied, 0 to 1
}

// Split is a share of requests for each pool.
type Split struct {
	By     fleet.SplitBy
	Cookie string
	shares []share
	sum    uint64
}

type share struct {
	pool int
	upto uint64 // sum of the weights so far
}

// Pick gives the pool, as its index in the service's Pools, for a number that
// is drawn at random or made by hashing what the share is decided by.
func (s *Split) Pick(draw uint64) int {
	at := draw % s.sum
	for i := range s.shares {
		if at < s.shares[i].upto {
			return s.shares[i].pool
		}
	}
	return s.shares[len(s.shares)-1].pool
}

// Key hashes the cookie, or what else of a request decides its share, to a
// number for Pick (FNV-1a, and a final mix so that its low bits are as good).
func Key(text []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range text {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

// Redirect makes the address that a client is sent to.
type Redirect struct {
	Status       int
	scheme, host string
	path         string
	replace      *replacement
	dropQuery    bool
}

// replacement puts text in place of a path's first octets.
type replacement struct {
	prefix string // as the route's, "" for /
	text   string // without a final slash
}

func (r *replacement) append(b []byte, path string) []byte {
	rest := strings.TrimPrefix(path, r.prefix)
	if r.text == "" && !strings.HasPrefix(rest, "/") {
		b = append(b, '/')
	}
	return append(append(b, r.text...), rest...)
}

// Location appends the address (RFC 9110 section 10.2.2) to b. host is as the
// client wrote it, with its port; path in the form of Path.
func (r *Redirect) Location(b []byte, scheme, host, path string, query []byte) []byte {
	if r.scheme != "" && r.scheme != scheme {
		scheme = r.scheme
		host = withoutPort(host) // the port is the other scheme's
	}
	if r.host != "" {
		host = r.host
	}
	b = append(append(append(b, scheme...), "://"...), host...)
	switch {
	case r.path != "":
		b = append(b, r.path...)
	case r.replace != nil:
		b = r.replace.append(b, path)
	default:
		b = append(b, path...)
	}
	if query != nil && !r.dropQuery && strings.IndexByte(r.path, '?') < 0 {
		b = append(append(b, '?'), query...)
	}
	return b
}

func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return host[:i]
	}
	return host
}

// toHTTPS is the redirect of what comes over plain HTTP to the service's twin
// port. 308 lets clients keep method and body.
var toHTTPS = Redirect{Status: 308, scheme: "https"}

// Rewrite is what endpoints are asked in place of what the client asked.
type Rewrite struct {
	Host        string // "": the client's
	replace     *replacement
	regex       *regexp.Regexp
	replacement string
}

// Target appends the rewritten target to b: path in the form of Path, and the
// query as it came, nil for none. What becomes no path at all, or one with a
// control octet, stays as it was.
func (r *Rewrite) Target(b []byte, path string, query []byte) []byte {
	start := len(b)
	switch {
	case r.replace != nil:
		b = r.replace.append(b, path)
	case r.regex != nil:
		if at := r.regex.FindStringSubmatchIndex(path); at != nil {
			b = append(b, path[:at[0]]...)
			b = r.regex.ExpandString(b, r.replacement, path, at)
			b = append(b, path[at[1]:]...)
		} else {
			b = append(b, path...)
		}
	default:
		b = append(b, path...)
	}
	if _, err := Path(string(b[start:])); err != nil {
		b = append(b[:start], path...)
	}
	if query != nil {
		b = append(append(b, '?'), query...)
	}
	return b
}

// compileRoute notes what is wrong with a route's action.
func compileRoute(s *fleet.Service, i int, at string, errs *fleet.Errors) *Route {
	r := &s.Routes[i]
	out := &Route{Index: i, Name: r.Name, Spec: r, Pool: -1, Answer: r.Answer, Mirror: -1}
	if out.Name == "" {
		out.Name = strconv.Itoa(i)
	}
	pool := func(id string) int {
		return slices.IndexFunc(s.Pools, func(p fleet.Pool) bool { return p.ID == id })
	}
	if r.Pool != "" {
		out.Pool = pool(r.Pool)
	}
	if r.Split != nil {
		out.Split = &Split{By: r.Split.By, Cookie: r.Split.Cookie}
		if sp := out.Split; sp.Cookie != "" && !token(sp.Cookie) {
			errs.Addf(at+".split.cookie", "%q is not a name", sp.Cookie)
		}
		for _, sh := range r.Split.Pools {
			if *sh.Weight > 0 {
				out.Split.sum += uint64(*sh.Weight)
				out.Split.shares = append(out.Split.shares, share{pool(sh.Pool), out.Split.sum})
			}
		}
	}
	if r.Mirror != nil {
		out.Mirror, out.Share = pool(r.Mirror.Pool), *r.Mirror.Percent/100
	}
	if r.Redirect != nil {
		out.Redirect = compileRedirect(r, at+".redirect", errs)
	}
	if r.Rewrite != nil {
		out.Rewrite = compileRewrite(r, at+".rewrite", errs)
	}
	return out
}

func compileRedirect(r *fleet.Route, at string, errs *fleet.Errors) *Redirect {
	d := r.Redirect
	out := &Redirect{Status: d.Status, scheme: d.Scheme, host: d.Host, path: d.Path, dropQuery: d.DropQuery}
	if d.Scheme != "" && d.Scheme != "http" && d.Scheme != "https" {
		errs.Addf(at+".scheme", "%q: expected http or https", d.Scheme)
	}
	if d.Host != "" && !validAuthority(d.Host) {
		errs.Addf(at+".host", "%q: expected a host name or HOST:PORT", d.Host)
	}
	if d.Path != "" && !validTarget(d.Path) {
		errs.Addf(at+".path", "%q: expected a path that begins with /", d.Path)
	}
	if d.Prefix != "" {
		out.replace = replaceOf(r, d.Prefix, at+".prefix", errs)
		if d.Path != "" {
			errs.Addf(at, "expected path or prefix")
		}
	}
	if d.Scheme == "" && d.Host == "" && d.Path == "" && d.Prefix == "" {
		errs.Addf(at, "leads to where it comes from; expected scheme, host, path or prefix")
	}
	return out
}

func compileRewrite(r *fleet.Route, at string, errs *fleet.Errors) *Rewrite {
	w := r.Rewrite
	out := &Rewrite{Host: w.Host, replacement: w.Replacement}
	if w.Host != "" && !validAuthority(w.Host) {
		errs.Addf(at+".host", "%q: expected a host name or HOST:PORT", w.Host)
	}
	if w.Prefix != nil {
		out.replace = replaceOf(r, *w.Prefix, at+".prefix", errs)
	}
	switch {
	case w.Regex == "" && w.Replacement != "":
		errs.Addf(at+".replacement", "is for regex, which is missing")
	case w.Regex != "" && w.Prefix != nil:
		errs.Addf(at, "expected prefix or regex")
	case w.Regex != "":
		if _, err := whole(w.Regex); err != nil {
			errs.Addf(at+".regex", "%s", err)
			break
		}
		out.regex = regexp.MustCompile(w.Regex)
	}
	return out
}

// replaceOf is what goes in place of a route's path prefix.
func replaceOf(r *fleet.Route, text, at string, errs *fleet.Errors) *replacement {
	if r.Path == "" {
		errs.Addf(at, "is for a route with a path prefix")
	}
	if text != "" && !validTarget(text) {
		errs.Addf(at, "%q: expected a path that begins with /", text)
	}
	p, err := Path(r.Path)
	if err != nil {
		return nil // told as the route's path
	}
	return &replacement{strings.TrimRight(p, "/"), strings.TrimRight(text, "/")}
}

// validTarget says whether s is a path, and perhaps a query, that can stand in
// a header field as it is.
func validTarget(s string) bool {
	path, query, _ := strings.Cut(s, "?")
	if strings.ContainsAny(s, "#") {
		return false
	}
	for i := 0; i < len(query); i++ {
		if query[i] <= ' ' || query[i] >= 0x7f {
			return false
		}
	}
	for i := 0; i < len(path); i++ {
		if path[i] >= 0x7f {
			return false
		}
	}
	_, err := Path(path)
	return err == nil && path != "*"
}

func validAuthority(s string) bool {
	h, err := Host(s)
	return err == nil && h != ""
}

// Draw gives the number that a Split is picked by: of the client's address, of
// the cookie that the client has sent, or drawn. set: the client sent none, and
// shall get drawn as its cookie, as 16 hexadecimal digits.
func (s *Split) Draw(h *wire.Head, client netip.Addr, drawn uint64) (n uint64, set bool) {
	switch s.By {
	case fleet.SplitByClient:
		b := client.As16()
		return Key(b[:]), false
	case fleet.SplitByCookie:
		if v, ok := Cookie(h, s.Cookie); ok {
			return Key(v), false
		}
		var buf [16]byte
		return Key(Sticky(buf[:0], drawn)), true
	}
	return drawn, false
}

// Sticky appends the value of the cookie that keeps a client with a pool.
func Sticky(b []byte, drawn uint64) []byte { return fmt.Appendf(b, "%016x", drawn) }
