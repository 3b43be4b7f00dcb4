package l7

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Telemetry takes what is to be exported of requests; edge/l7/otlp does. Take
// never blocks, and s is the taker's.
type Telemetry interface{ Take(s *Seen) }

// Seen is one request as it is exported.
type Seen struct {
	Trace  wire.Trace // Parent is the span's own id; the zero Trace: it has none
	Parent [8]byte    // the span of the client's; all zero: the trace begins here
	State  string     // Tracestate
	Span   bool       // export a span, and one for each try
	Record bool       // export a record of the access log

	Start, End                   time.Time
	ID, Service, Route           string
	Pool, Endpoint               string
	Method, Scheme, Host, Path   string
	Version                      wire.Version
	Client                       netip.Addr     // as those in front of the gateway tell who may
	Peer, VIP                    netip.AddrPort // the connection's own, and what it is for
	Status, Attempts             int
	Sent                         int64
	Wait, Connect, Answer, Relay time.Duration
	Flag                         string
	Tries                        []SeenTry // where Span
}

// SeenTry is one try at an endpoint.
type SeenTry struct {
	ID         [8]byte
	Endpoint   string
	Region     string // whose gateways were asked; "": an endpoint was
	Start, End time.Time
	Status     int    // 0: no answer
	Failure    string // "": none
}

// tracing is a generation's; nil where the Spec has none, and then fields of
// traces pass as any others.
type tracing struct {
	spec *fleet.Tracing
}

// span is an exchange's part in a trace.
type span struct {
	trace     wire.Trace // Parent is the gateway's own span
	parent    [8]byte
	continued bool
	bare      bool     // tries have no spans of their own
	try       [8]byte  // the span of the try under way, where the trace is sampled
	room      [64]byte // of Traceparent's text
	tries     []SeenTry
}

// trusts says whether the trace of who has made the connection is continued.
func (x *exchange) trusts() bool {
	switch x.gen.tracing.spec.Trust {
	case fleet.TrustAll:
		return true
	case fleet.TrustProxies:
		return x.sess.proxied || x.gen.proxies.Trusts(x.sess.client.Addr())
	}
	return false
}

// beginTrace continues the client's trace where it may be believed, else begins
// one. Whether it is sampled is known before anything is put down.
func (x *exchange) beginTrace() {
	if x.trusts() && x.joinTrace() {
		return
	}
	s := &x.span
	drawID(s.trace.ID[:8])
	drawID(s.trace.ID[8:])
	drawID(s.trace.Parent[:])
	one := x.gen.tracing.spec.Sample
	s.trace.Sampled = one > 0 && rand.IntN(one) == 0
}

// joinTrace continues the trace that the request names; false: it names none, or
// more than one.
func (x *exchange) joinTrace() bool {
	t, ok := wire.ParseTrace(x.h.Get(wire.Traceparent))
	if !ok || x.h.Count(wire.Traceparent) != 1 {
		return false
	}
	x.span.trace, x.span.parent, x.span.continued = t, t.Parent, true
	drawID(x.span.trace.Parent[:])
	return true
}

// drawID gives eight octets, not all zero.
func drawID(to []byte) {
	v := rand.Uint64() | 1
	for i := range to {
		to[i] = byte(v >> (8 * i))
	}
}

// dropsTrace says whether prepare takes the field away: Traceparent always is
// the gateway's own, Tracestate goes with the trace that it is about.
func (x *exchange) dropsTrace(f *wire.Field) bool {
	return x.gen.tracing != nil && (f.ID == wire.Traceparent || f.ID == wire.Tracestate && !x.span.continued)
}

// speakTrace tells the endpoint whose child its span is: that of the first try.
func (x *exchange) speakTrace() {
	if x.gen.tracing != nil {
		x.h.AddBytes(wire.Traceparent, x.tryTrace())
	}
}

// tryTrace gives the text for a try: its parent is the try's span, or, where there
// is none, the gateway's.
func (x *exchange) tryTrace() []byte {
	t := x.span.trace
	if x.span.each() {
		drawID(x.span.try[:])
		t.Parent = x.span.try
	}
	return wire.AppendTrace(x.span.room[:0], &t)
}

// each says whether each try has a span.
func (s *span) each() bool { return s.trace.Sampled && !s.bare }

// nextSpan gives a try after the first one its span, which its endpoint is told.
func (x *exchange) nextSpan() {
	if x.tries < 2 || !x.span.each() {
		return
	}
	x.tryTrace() // in place: the request's field lies there
	if !x.pool.h2 {
		x.request = x.appendRequest(x.request[:0])
	}
}

// seeTry puts down a try of a sampled request.
func (x *exchange) seeTry(f *failure, answered bool, region string) {
	t := SeenTry{ID: x.span.try, Endpoint: x.endpoint, Region: region, Start: x.g.time(x.began), End: x.g.time(x.g.now())}
	switch {
	case answered || f.flag == flagUpstreamStatus:
		t.Status = x.ans.Status
	default:
		t.Failure = f.flag.String()
	}
	x.span.tries = append(x.span.tries, t)
}

// export gives the request away, where it is sampled or to be logged.
func (x *exchange) export(end moment) {
	spec := x.gen.tracing.spec
	to, sampled := x.g.cfg.Telemetry, x.span.trace.Sampled
	logged := spec.Logs > 0 && x.g.recordTurn.Add(1)%uint64(spec.Logs) == 0
	if to == nil || !sampled && !logged {
		return
	}
	s := &Seen{Trace: x.span.trace, Parent: x.span.parent, Span: sampled, Record: logged, Start: x.g.time(x.start), End: x.g.time(end),
		ID: string(x.id), Endpoint: x.endpoint, Method: strings.Clone(x.method), Scheme: x.scheme(), Host: strings.Clone(x.host), Path: string(x.h.Path()),
		Version: x.h.Version, Client: x.client, VIP: x.sess.vip, Status: x.status, Attempts: x.tries, Sent: x.sent, Flag: x.flag.String(), Tries: x.span.tries}
	if x.service != nil {
		s.Service = x.service.spec.Service
	}
	if x.way != nil {
		s.Route = x.way.Name
	}
	if x.pool != nil {
		s.Pool = x.pool.id
	}
	s.Peer, _ = x.sess.ends()
	if x.span.continued {
		s.State = string(x.h.Get(wire.Tracestate))
	}
	t := x.timers(end)
	s.Wait, s.Connect, s.Answer, s.Relay = t.wait, t.connect, t.answer, t.relay
	to.Take(s)
}
