package l7

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/hop"
	"meridian/edge/l7/limit"
	"meridian/edge/l7/why"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// shunned is how long a region is passed over whose gateways did not take a
// connection.
const shunned = 5 * time.Second

// tokenLife is how long a token is good by which a gateway asks another for a report.
const tokenLife = time.Minute

// nextRegion is another region's gateways, as an endpoint of a pool's requests that
// cannot be answered in this one.
type nextRegion struct {
	*pool
	shun *atomic.Int64 // the moment until which it is passed over
}

// hopeful says whether an endpoint of the pool that was not tried yet can be
// expected to answer. Those that no request tries while they are away are checked soon.
func (p *pool) hopeful(now moment, tried *balance.Tried) bool {
	for i, e := range p.endpoints {
		switch {
		case tried.Has(i) || e.vital.State() == fleet.Down:
		case e.vital.away(now, p.rules.Row) || e.vital.Ejected(time.Duration(now)):
			e.vital.doubt()
		default:
			return true
		}
	}
	return false
}

// regions compiles where a pool's requests may go, by port; the VIPs are those of
// one region, since anycast could lead back here. Those of services that ask clients
// for certificates go nowhere: this gateway has none of the client's to show.
func (b *builder) regions(s *fleet.Service, p *fleet.Pool, connect time.Duration) map[uint16][]nextRegion {
	if len(b.g.cfg.HopKey) == 0 || !s.Protocol.Gateway() || !*s.Retries.NextRegion || s.ClientAuth != nil {
		return nil
	}
	out := map[uint16][]nextRegion{}
	for _, r := range hop.Next(b.world.Snapshot.Spec, s, p, b.g.cfg.Region) {
		for _, port := range s.Ports {
			at := netip.AddrPortFrom(r.VIPs.All()[0], port)
			key := upstreamKey{target: fleet.Target{Kind: fleet.TargetEndpoint, Region: r.ID, Service: s.Service, Pool: p.ID, Endpoint: at.String()}, connect: connect}
			trust := trust{}
			way := &pool{id: p.ID, stats: &poolStats{}}
			if s.Protocol == fleet.HTTPS {
				way.tls = &fleet.PoolTLS{}
				key.tls, trust.config = true, b.g.gatewayTLS()
				trust.id = sha256.Sum256([]byte("gateways of the fleet"))
				key.trust = trust.id
			}
			if b.g.cfg.reach != nil {
				key.target.Endpoint = b.g.cfg.reach(at)
			}
			v := &vital{suspect: make(chan struct{}, 1)}
			way.circuit = &limit.Circuit{}
			way.endpoints = []*endpoint{{address: key.target.Endpoint, region: r.ID, vital: v, upstream: b.upstream(key, trust, connGates{way.circuit, &v.circuit})}}
			out[port] = append(out[port], nextRegion{way, new(atomic.Int64)})
		}
	}
	return out
}

// gatewayTLS is for connections to other gateways of the fleet. They are known by
// one of the certificates that this one has too, or by one that the system trusts.
func (g *Gateway) gatewayTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(64),
		InsecureSkipVerify: true, // VerifyConnection does
		VerifyConnection: func(cs tls.ConnectionState) error {
			leaf := cs.PeerCertificates[0]
			for _, c := range g.gen.Load().tls.certs.All() {
				if c.TLS.Leaf.Equal(leaf) {
					return nil
				}
			}
			if cs.ServerName == "" {
				return errors.New("the gateway has none of the fleet's certificates")
			}
			more := x509.NewCertPool()
			for _, c := range cs.PeerCertificates[1:] {
				more.AddCert(c)
			}
			_, err := leaf.Verify(x509.VerifyOptions{DNSName: cs.ServerName, Intermediates: more})
			return err
		},
	}
}

// mayHop says whether the request may go to another region's gateways: it is a
// client's own, has gone to none, and all of it can be sent. Calls of gRPC stay:
// their clients try again by their own rules.
func (x *exchange) mayHop() bool {
	return !x.foreign && !x.hopped && !x.own() && len(x.pool.next) > 0 && x.body.fresh() && x.fitsAgain() &&
		x.h.Upgrade == nil && !x.websock && !x.h.PlainConnect() && !x.grpc &&
		!x.deadline.passed(x.g.now()) && !x.abort.Gone() && x.nextUp() != nil
}

// nextUp is the next region that is not passed over, nil where there is none.
func (x *exchange) nextUp() *nextRegion {
	list := x.pool.next[x.sess.s.port]
	for i := range list {
		if until := moment(list[i].shun.Load()); until == 0 || until.passed(x.g.now()) {
			return &list[i]
		}
	}
	return nil
}

// mayHopAfter is mayHop once tries have failed: it takes the budget's token.
func (x *exchange) mayHopAfter(f *failure) bool {
	if !f.retry || f.flag == flagRetryOverflow || !x.recoverBody() || !x.mayHop() {
		return false
	}
	if !x.service.budget.take(time.Now()) {
		x.service.stats.overflow.Inc()
		return false
	}
	return true
}

// elsewhere asks the next region's gateways, where mayHop.
func (x *exchange) elsewhere() (failure, bool) {
	n := x.nextUp()
	if n == nil { // another request has just found that none answers
		return failure{flag: flagNoEndpoint, status: http.StatusServiceUnavailable, text: "no endpoint", retry: true}, false
	}
	if x.tries == 0 && x.report != nil {
		x.tellLost()
	}
	x.hopped = true
	x.tries++
	home, to := x.pool, x.to
	x.pool, x.to = n.pool, ask{}
	x.nextSpan()
	fields := len(x.h.Fields)
	if x.report != nil {
		x.h.AddID(wire.EdgeWhy, why.Token(x.g.cfg.WhyKey, x.host, time.Now().Add(tokenLife)))
	}
	x.request = x.appendMark(x.appendRequest(x.request[:0]))
	x.vital = n.endpoints[0].vital
	x.vital.circuit.Requests.Enter() // which has no bound
	x.vital.Begin()
	x.service.stats.hops[hopAsked].Inc()
	f, ok := x.try(n.endpoints[0])
	if ok {
		return f, true
	}
	x.release()
	x.h.Fields = x.h.Fields[:fields]
	x.pool, x.to = home, to
	x.request = x.appendRequest(x.request[:0])
	x.service.stats.hops[hopFailed].Inc()
	if f.flag == flagConnect {
		n.shun.Store(int64(x.g.now().add(shunned)))
	}
	return f, false
}

// fitsAgain says whether the head, with what gateways have added to it, is not more
// than one takes.
func (x *exchange) fitsAgain() bool {
	const lines, room = 6, 1 << 10 // those of the connection, the mark and the token
	return len(x.h.Fields) <= wire.MaxFields-lines && len(x.h.Target)+headerSize(x.h)+4*len(x.h.Fields) <= x.g.cfg.MaxHeader-room
}

// appendMark puts the mark before the end of the head.
func (x *exchange) appendMark(b []byte) []byte {
	m := hop.Mark{From: x.g.cfg.Region, Client: x.client, ID: string(x.id), Draw: x.drawn, Sent: time.Now()}
	if x.deadline != 0 {
		m.Left = max(time.Duration(x.deadline-x.g.now()), time.Millisecond)
	}
	b = append(append(b[:len(b)-2], hop.Field...), ": "...)
	return append(x.g.cfg.HopKey.Append(b, m, x.h), "\r\n\r\n"...)
}

// believe takes over what another region's gateway says of the request, in the mark
// and in all fields. What anyone else says in its place is passed over, and passed on
// to nobody (see forwards).
func (x *exchange) believe() {
	if len(x.g.cfg.HopKey) == 0 {
		return
	}
	i := x.h.Find(hop.Field, 0)
	if i < 0 {
		return
	}
	m, err := x.g.cfg.HopKey.Read(x.h.Fields[i].Value, x.h, time.Now())
	if err != nil {
		x.service.stats.hops[hopDoubted].Inc()
		return
	}
	x.service.stats.hops[hopServed].Inc()
	x.foreign, x.client, x.drawn = true, m.Client, m.Draw
	x.clientText = m.Client.AppendTo(x.shaped.address[:0])
	x.id = x.idRoom[:copy(x.idRoom[:], m.ID)]
	if m.Left > 0 {
		x.deadline = x.start.add(m.Left)
	}
	if x.gen.tracing != nil {
		x.joinTrace()
	}
}

// hopField says whether a field is a mark; none is told to endpoints.
func hopField(f *wire.Field) bool {
	return len(f.Name) == len(hop.Field) && (wire.EqualFold(f.Name, hop.Field) || wire.EqualFold(f.Name, "meridian_hop"))
}
