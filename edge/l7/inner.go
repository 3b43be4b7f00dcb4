package l7

import (
	"errors"
	"io"
	"time"

	"meridian/edge/l7/filter"
	"meridian/edge/l7/route"
	"meridian/edge/l7/wire"
)

// inner is the Front of a request of the gateway's own: its body is here, and
// its answer is kept.
type inner struct {
	body []byte    // not yet read
	ans  wire.Head // the final answer's, in memory of its own
	out  []byte    // its body
	room int       // for it, in octets; -1: it is dropped
	cut  bool      // the body broke off, or was too long
}

var errRoom = errors.New("the answer is longer than expected")

// Body implements Front.
func (f *inner) Body(p []byte) (int, error) {
	n := copy(p, f.body)
	if f.body = f.body[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// BodyTrailers implements Front.
func (f *inner) BodyTrailers() *wire.Head { return nil }

// Interim implements Front.
func (f *inner) Interim(*wire.Head) error { return nil }

// Answer implements Front.
func (f *inner) Answer(h *wire.Head, _ bool) error {
	f.ans.Reset()
	f.ans.Version, f.ans.Status, f.ans.Length = h.Version, h.Status, h.Length
	for i := range h.Fields {
		f.ans.Add(view(h.Fields[i].Name), view(h.Fields[i].Value))
	}
	return nil
}

// Write implements Front.
func (f *inner) Write(p []byte) error {
	switch {
	case f.room < 0:
		return nil
	case len(f.out)+len(p) > f.room:
		return errRoom
	}
	f.out = append(f.out, p...)
	return nil
}

// Break implements Front.
func (f *inner) Break() { f.out, f.cut = nil, true }

// Flush, End and Deadlines implement Front.
func (f *inner) Flush() error             { return nil }
func (f *inner) End(*wire.Head) error     { return nil }
func (f *inner) Deadlines(_, _ time.Time) {}

// ownWay is the route of the gateway's own requests.
var ownWay = &route.Route{Pool: -1, Mirror: -1}

// own says whether the request is the gateway's own.
func (x *exchange) own() bool {
	_, ok := x.f.(*inner)
	return ok
}

// inquire asks endpoints of a pool by a request of the gateway's own, and gives
// what went wrong, flagNone for nothing. It retries as the route does, and ends with
// the client, where x has one.
func (x *exchange) inquire(in *inner, h *wire.Head, p *pool, path string, until moment, adds []wire.Field, sess *session) flag {
	sub := exchanges.Get().(*exchange)
	sub.begin(sess, in, h, x.abort)
	sub.h1 = x.h1
	sub.gen, sub.service, sub.index, sub.pool, sub.host, sub.path = x.gen, x.service, x.index, p, x.host, path
	sub.way = &way{Route: ownWay, set: &filter.Set{}, retry: x.way.retry, timeout: until.since(x.g.now()), changes: true}
	sub.client, sub.clientText, sub.told, sub.to.adds = x.client, x.clientText, x.told, adds
	sub.span = span{trace: x.span.trace, continued: x.span.continued, bare: true}
	sub.id = sub.idRoom[:copy(sub.idRoom[:], x.id)]
	sub.again = sub.way.retry.again(h)
	sub.deadline = until
	if sub.takeBody() {
		sub.prepare()
		if sub.ask() {
			sub.relay()
		}
		sub.release()
	}
	sub.retried()
	f := sub.flag
	sub.free()
	return f
}
