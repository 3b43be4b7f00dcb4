package l7

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/route"
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
		VIP: x.sess.vip, Proto: x.h.Version.String(), Host: x.host}
	var local netip.AddrPort
	r.Peer, local = x.sess.ends()
	if x.sess.conn != nil {
		r.RTT = x.sess.conn.rtt().Microseconds()
	}
	if f := x.g.cfg.Arrived; f != nil {
		if ago, ok := f(r.Peer, local); ok {
			r.Arrival = (ago - x.g.now().since(x.start)).Microseconds()
		}
	}
	if f := x.g.cfg.Slot; f != nil {
		r.Slot = f(x.h.Version == wire.HTTP3, r.Peer, local)
	}
	x.report = r
}

// tellRoute puts down which route the request takes, and why none before it.
func (x *exchange) tellRoute(port uint16) {
	m, outcome, steps := x.gen.table.Explain(port, x.host, x.path, x.h)
	r := &why.Route{}
	for i := range steps {
		if s := &steps[i]; s.Why != "" {
			r.Passed = append(r.Passed, why.Other{Name: s.Route.Name, Why: s.Why})
		} else {
			r.Name, r.Place, r.Asks = s.Route.Name, fmt.Sprintf("services[%d].routes[%d]", m.Service, s.Route.Index), s.Asks
		}
	}
	if outcome == route.Found || outcome == route.NoRoute {
		x.report.Route = r
	}
}

// note puts down what a filter decided, or what answered in place of an endpoint,
// where somebody wants to know.
func (x *exchange) note(name, decision, of string) {
	if x.report != nil {
		x.report.Filters = append(x.report.Filters, why.Filter{Name: name, Decision: decision + of})
	}
}

// noteStatus is note of a status.
func (x *exchange) noteStatus(name, decision string, status int) {
	if x.report != nil {
		x.note(name, decision, strconv.Itoa(status))
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
func (x *exchange) tellTry(f *failure, answered bool, region string) {
	now := x.g.now()
	t := why.Try{Endpoint: x.endpoint, Region: region, Reused: x.reused && x.connected != 0, Begin: x.began.since(x.start).Microseconds(), Outcome: f.text}
	switch {
	case answered:
		t.Outcome, t.Status = "answered", x.ans.Status
		if region != "" {
			t.Gateway = reportIn(&x.ans)
		}
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

// tellLost puts down that the next region is asked first, and the state of the
// endpoints here.
func (x *exchange) tellLost() {
	x.note("next_region", "asked first: no endpoint here is up", "")
	x.report.Candidates = x.pool.balancer.Explain(balance.Ask{Now: time.Duration(x.g.now())}, &x.tried)
	for i := range x.report.Candidates {
		if c := &x.report.Candidates[i]; c.Reason == balance.ReasonChosen {
			c.Reason = balance.ReasonElsewhere
		}
	}
}

// reportIn gives the report that another gateway's answer has, nil where it has none.
func reportIn(ans *wire.Head) *why.Report {
	r := new(why.Report)
	if json.Unmarshal(ans.Get(wire.EdgeWhy), r) != nil {
		return nil
	}
	return r
}

// times are a request's, up to the head of its answer.
func (x *exchange) times() why.Timers {
	now := x.g.now()
	parts := x.timers(now)
	t := why.Timers{Wait: parts.wait.Microseconds(), Connect: parts.connect.Microseconds(), Total: now.since(x.start).Microseconds()}
	t.Answer = t.Total - t.Wait - t.Connect
	return t
}

// footnotes adds to the head of the final answer what was asked for about it:
// the report, and Server-Timing.
func (x *exchange) footnotes(status int) {
	timing := x.service != nil && x.service.spec.ServerTiming && !x.foreign
	if x.report == nil && !timing {
		return
	}
	t := x.times()
	if !x.foreign { // to another region's gateway, which tells the whole
		x.serverTiming(&t)
	}
	r := x.report
	if r == nil {
		return
	}
	r.ID, r.Client, r.Status, r.Flag, r.Timers = string(x.id), x.client, status, x.flag.String(), t
	if x.gen.tracing != nil {
		r.Trace = hex.EncodeToString(x.span.trace.ID[:])
	}
	if x.service != nil {
		r.Service = x.service.spec.Service
	}
	if x.pool != nil {
		r.Pool = x.pool.id
	}
	x.ans.AddBytes(wire.EdgeWhy, r.Encode())
}

// serverTiming adds the timers in milliseconds, in the format of W3C's Server
// Timing, and the trace, by which a browser's spans can join it. A list of the
// endpoint's own stays before them.
func (x *exchange) serverTiming(t *why.Timers) {
	var room [224]byte
	b := room[:0]
	for _, m := range [...]struct {
		name string
		us   int64
	}{{"edge-wait;dur=", t.Wait}, {", edge-connect;dur=", t.Connect}, {", edge-answer;dur=", t.Answer}, {", edge;dur=", t.Total}} {
		b = strconv.AppendFloat(append(b, m.name...), float64(m.us)/1000, 'f', 3, 64)
	}
	if x.gen.tracing != nil {
		b = append(wire.AppendTrace(append(b, `, traceparent;desc="`...), &x.span.trace), '"')
	}
	x.ans.AddBytes(wire.ServerTiming, x.ans.Keep(b))
}
