package l7

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"meridian/edge/l7/overload"
	"meridian/edge/l7/wire"
)

const (
	// maxMirrors bounds the copies of requests under way; further ones are
	// dropped, so that a slow pool costs its copies and nothing else.
	maxMirrors = 256
	// mirrorLimit is how long a copy may take.
	mirrorLimit = 10 * time.Second
)

// mirror sends a copy of the prepared request, if it is one of those to copy
// and its body is here. It does not wait.
func (x *exchange) mirror() {
	if x.way.Share < 1 && rand.Float64() >= x.way.Share || x.websock || x.h.PlainConnect() || x.h.Upgrade != nil {
		return
	}
	counter, name := x.g.metrics.filters.mirrored, x.service.spec.Service // x is another's by then
	count := func(outcome string) { counter.WithLabelValues(name, outcome).Inc() }
	if x.g.sheds(overload.Mirror) {
		count("dropped")
		return
	}
	if !x.body.whole {
		count("body")
		return
	}
	select {
	case x.g.mirrors <- struct{}{}:
	default:
		count("dropped")
		return
	}
	c := &exchange{g: x.g, gen: x.gen, service: x.service, index: x.index, way: x.way, client: x.client, told: x.told,
		span: span{trace: x.span.trace, continued: x.span.continued},
		host: strings.Clone(x.host), id: slices.Clone(x.id), clientText: slices.Clone(x.addressText())}
	h := x.copyHead()
	in := &inner{body: slices.Clone(x.body.kept), room: -1}
	sess := &session{s: x.sess.s, origin: x.sess.origin, tls: x.sess.tls, id: x.sess.id}
	x.g.tasks.run(func() {
		defer func() { <-c.g.mirrors }()
		defer sess.end()
		flag := c.inquire(in, h, c.way.mirror, string(h.Path()), c.g.now().add(mirrorLimit), nil, sess)
		if flag == flagNone {
			count("sent")
		} else {
			count("failed")
		}
	})
}

// copyHead gives the request as endpoints get it, in memory of its own.
func (x *exchange) copyHead() *wire.Head {
	h := &wire.Head{Version: wire.HTTP11, Length: x.h.Length, Trailers: false}
	h.Method = slices.Clone(x.h.Method)
	h.Target = slices.Clone(x.to.targetOr(x.h.Target))
	h.Authority = slices.Clone(x.to.hostOr(x.h.Authority))
	for i := range x.h.Fields {
		h.Add(view(x.h.Fields[i].Name), view(x.h.Fields[i].Value))
	}
	return h
}
