package l7

import (
	"net/netip"
	"strconv"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/why"
	"meridian/edge/l7/wire"
)

// slotter says where layer 4 has a client's flow; nil: it does not know.
type slotter func(udp bool, client, vip netip.AddrPort) *why.Slot

// account begins the report that the caller asks for, where its token is good.
// Of all others the field is dropped, with what else speaks for the gateway.
func (x *exchange) account(token []byte) {
	if !why.Valid(x.g.cfg.WhyKey, x.host, token, time.Now()) {
		x.g.metrics.whyRefused.Inc()
		return
	}
	x.g.metrics.whyTold.Inc()
	r := &why.Report{Region: x.g.cfg.Region, Node: x.g.cfg.Node, Revision: x.gen.world.Snapshot.Revision,
		ID: string(x.id), Client: x.sess.client, VIP: x.sess.vip, Proto: x.h.Version.String(), Host: x.host}
	if f := x.g.cfg.Slot; f != nil {
		r.Slot = f(x.h.Version == wire.HTTP3, x.sess.client, x.sess.vip)
	}
	x.report = r
}

// note puts down what a filter decided, where somebody wants to know.
func (x *exchange) note(name, decision, of string) {
	if x.report != nil {
		x.report.Filters = append(x.report.Filters, why.Filter{Name: name, Decision: decision + of})
	}
}

// candidates puts down between whom the first pick is.
func (x *exchange) candidates(a balance.Ask) {
	if x.report.Policy == "" {
		x.report.Policy = string(x.service.spec.RoutingPolicy)
		x.report.Candidates = x.pool.balancer.Explain(a, &x.tried)
	}
}

// tellTry puts down what became of a try.
func (x *exchange) tellTry(f *failure, answered bool) {
	now := x.g.now()
	t := why.Try{Endpoint: x.endpoint, Reused: x.reused && x.connected != 0, Begin: x.began.since(x.start).Microseconds(), Outcome: f.text}
	switch {
	case answered:
		t.Outcome, t.Status = "answered", x.ans.Status
	case f.flag == flagUpstreamStatus:
		t.Outcome, t.Status = "answered, but is to be tried again", x.ans.Status
	case f.flag == flagClientGone:
		t.Outcome = "the client has gone"
	}
	if x.connected == 0 {
		t.Connect = now.since(x.began).Microseconds()
	} else {
		t.Connect = x.connected.since(x.began).Microseconds()
		t.Answer = now.since(x.connected).Microseconds()
	}
	x.report.Tries = append(x.report.Tries, t)
}

// times are a request's, up to the head of its answer.
func (x *exchange) times() why.Timers {
	now := x.g.now()
	began := sooner(x.began, now)
	connected := x.connected
	if connected == 0 {
		connected = now
	}
	if x.began == 0 {
		connected = began
	}
	t := why.Timers{Wait: began.since(x.start).Microseconds(), Connect: connected.since(began).Microseconds(), Total: now.since(x.start).Microseconds()}
	t.Answer = t.Total - t.Wait - t.Connect
	if x.began == 0 {
		t.Wait, t.Answer = t.Total, 0
	}
	return t
}

// footnotes adds to the head of the final answer what was asked for about it:
// the report, and Server-Timing.
func (x *exchange) footnotes(status int) {
	timing := x.service != nil && x.service.spec.ServerTiming
	if x.report == nil && !timing {
		return
	}
	t := x.times()
	x.serverTiming(&t)
	r := x.report
	if r == nil {
		return
	}
	r.Status, r.Flag, r.Timers = status, x.flag.String(), t
	if x.service != nil {
		r.Service = x.service.spec.Service
	}
	if x.pool != nil {
		r.Pool = x.pool.id
	}
	x.ans.AddBytes(wire.EdgeWhy, r.Encode())
}

// serverTiming adds the timers in milliseconds, in the format of W3C's Server
// Timing. A list of the endpoint's own stays before them.
func (x *exchange) serverTiming(t *why.Timers) {
	var room [128]byte
	b := room[:0]
	for _, m := range [...]struct {
		name string
		us   int64
	}{{"edge-wait;dur=", t.Wait}, {", edge-connect;dur=", t.Connect}, {", edge-answer;dur=", t.Answer}, {", edge;dur=", t.Total}} {
		b = strconv.AppendFloat(append(b, m.name...), float64(m.us)/1000, 'f', 3, 64)
	}
	x.ans.AddBytes(wire.ServerTiming, x.ans.Keep(b))
}
