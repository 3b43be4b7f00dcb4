package l7

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"meridian/edge/l7/route"
	"meridian/edge/l7/wire"
)

// httpsPort is the port that a service which redirects from plain HTTP has.
const httpsPort = 443

// heed takes a trusted proxy's word about the client.
func (x *exchange) heed() {
	client, scheme := x.gen.proxies.Client(x.client, x.h)
	x.told = scheme
	if client != x.client {
		x.client = client
		x.clientText = client.AppendTo(x.shaped.address[:0])
	}
}

// addressText gives the client's address as text.
func (x *exchange) addressText() []byte {
	if x.clientText != nil {
		return x.clientText
	}
	return x.sess.text
}

// admit asks the route's filters whether the request may go on; false: the
// client was answered.
func (x *exchange) admit() bool {
	set := x.way.set
	switch {
	case set.Maintenance.Holds(x.client):
		x.maintain()
		return false
	case !set.Access.Allows(x.client):
		return x.deny("access", http.StatusForbidden, "not allowed from this address")
	case len(set.Bounds.Methods) > 0 && !slices.Contains(set.Bounds.Methods, x.method) && !(set.CORS != nil && set.CORS.Preflight(x.h)):
		x.denied("bounds", "method not allowed")
		x.ans.Add("Allow", strings.Join(set.Bounds.Methods, ", "))
		x.say(http.StatusMethodNotAllowed, "405 method not allowed\n")
		return false
	case set.Bounds.Header > 0 && headerSize(x.h) > set.Bounds.Header:
		return x.deny("bounds", http.StatusRequestHeaderFieldsTooLarge, "header too large")
	case x.h.Length > x.maxBody():
		return x.deny("bounds", http.StatusRequestEntityTooLarge, "body too large")
	case set.CORS != nil && set.CORS.Preflight(x.h):
		x.note("cors", "answered the preflight", "")
		x.ans.Reset()
		x.sayAs(http.StatusNoContent, "", "")
		return false
	}
	if set.Access != nil {
		x.note("access", "allowed", "")
	}
	return (set.Basic == nil || x.basic()) && (set.JWT == nil || x.token()) && (x.way.forward == nil || x.forwardAuth())
}

// deny refuses what a filter does not let pass, and counts it.
func (x *exchange) deny(by string, status int, text string) bool {
	x.denied(by, text)
	x.refuse(status, flagDenied, text)
	return false
}

// denied counts a request that a filter does not let pass. Its answer has not begun.
func (x *exchange) denied(by, why string) {
	x.g.metrics.filters.refused.WithLabelValues(x.service.spec.Service, by).Inc()
	x.note(by, "refused: ", why)
	x.flag = flagDenied
	x.ans.Reset()
}

func headerSize(h *wire.Head) int {
	n := 0
	for i := range h.Fields {
		n += len(h.Fields[i].Name) + len(h.Fields[i].Value)
	}
	return n
}

func (x *exchange) maintain() {
	m := x.way.set.Maintenance
	x.denied("maintenance", strconv.Itoa(m.Status))
	if m.RetryAfter != "" {
		x.ans.AddID(wire.RetryAfter, m.RetryAfter)
	}
	if m.Page.Body == nil {
		x.say(m.Status, "down for maintenance\n")
		return
	}
	x.sayAs(m.Status, m.Page.Type, view(m.Page.Body))
}

// act does what a route says that has no single pool; false: the client was
// answered.
func (x *exchange) act() bool {
	switch w := x.way; {
	case w.Split != nil:
		if !x.foreign { // for whom its own region has drawn
			x.draw(w.Split)
		}
		x.pool = x.service.pools[w.Split.Pick(x.drawn)]
		x.note("split", "pool ", x.pool.id)
		return true
	case w.Redirect != nil:
		x.redirect(w.Redirect)
	default:
		x.noteStatus("fixed_answer", "answered ", w.Answer.Status)
		x.ans.Reset()
		x.sayAs(w.Answer.Status, typeOf(w.answer.Body, w.answer.Type), view(w.answer.Body))
	}
	return false
}

// draw takes the number by which a split picks the pool.
func (x *exchange) draw(s *route.Split) {
	random := rand.Uint64()
	n, set := s.Draw(x.h, x.client, random)
	if x.drawn = n; set {
		x.shaped.sticky = route.Sticky(x.shaped.stickyRoom[:0], random)
	}
}

func typeOf(body []byte, kind string) string {
	if len(body) == 0 {
		return ""
	}
	return kind
}

// redirect sends the client elsewhere.
func (x *exchange) redirect(r *route.Redirect) {
	if x.host == "" {
		x.refuse(http.StatusBadRequest, flagBadRequest, "no host")
		return
	}
	room := make([]byte, 0, 256)
	x.ans.Reset()
	location := string(r.Location(room, x.scheme(), view(x.h.Authority), x.path, x.h.Query()))
	x.note("redirect", "to ", location)
	x.ans.AddID(wire.Location, location)
	x.sayAs(r.Status, "", "")
}

// ask is what endpoints are asked in place of what the client asks.
type ask struct {
	target []byte // nil: the client's
	host   []byte // likewise
	name   string // of TLS, where the host is another; "": the client's
	adds   []wire.Field
}

func (a *ask) targetOr(client []byte) []byte {
	if a.target != nil {
		return a.target
	}
	return client
}

func (a *ask) hostOr(client []byte) []byte {
	if a.host != nil {
		return a.host
	}
	return client
}

// change makes of the prepared request what the route's rewrite and filters
// say.
func (x *exchange) change() {
	h, set := x.h, x.way.set
	if r := x.way.Rewrite; r != nil && x.method != http.MethodConnect && len(h.Target) > 0 && h.Target[0] == '/' {
		x.to.target = r.Target(x.to.target[:0], x.path, h.Query())
		if r.Host != "" {
			x.to.host = octets(r.Host)
			x.to.name, _ = route.Host(r.Host)
		}
	}
	if x.foreign { // its own region's gateway has done the rest
		return
	}
	if set.Basic != nil && !set.Basic.Keep || set.JWT != nil && !set.JWT.Keep {
		h.Del("Authorization")
	}
	if x.gen.tells {
		h.AddBytes(wire.Forwarded, forwardedElement(x))
	}
	h.Fields = append(h.Fields, x.to.adds...)
	set.Request.Apply(h, x.vars(0))
}
