package l7

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"meridian/edge/l7/balance"
	"meridian/fleet"
)

// stream is one connection on its way to an endpoint.
type stream struct {
	g       *Gateway
	service *service
	client  *conn
	from    netip.Addr
	flag    flag
	tries   int
	leave   func() // of the endpoint's connection
	at      string // the endpoint tried last
	name    string // the server name that the client asked for
}

// pass carries one connection until it has ended.
func (s *server) pass(c *conn) {
	defer s.g.connClosed()
	defer s.forget(c)
	defer c.Close()
	x := &stream{g: s.g, client: c}
	if !s.introduced(c) || !x.find(s.port) {
		return
	}
	if s.g.rejects(x.service.spec.Priority) {
		s.g.metrics.stress.shed.WithLabelValues(shedStream).Inc()
		return
	}
	x.from = c.client.Addr()
	x.finish(x.carry())
}

// carry connects to an endpoint and copies both ways.
func (x *stream) carry() (received, sent int64) {
	if !x.admit() {
		return 0, 0
	}
	defer x.service.pools[0].leave(0)
	to, live := x.connect()
	if to == nil {
		return 0, 0
	}
	defer live.done()
	defer x.leave()
	defer to.Close()
	if err := x.introduce(to); err != nil {
		x.flag = flagReset
		return 0, 0
	}
	ahead := x.client.ahead
	if len(ahead) > 0 {
		if _, err := to.Write(ahead); err != nil {
			x.flag = flagReset
			return 0, 0
		}
	}
	received, sent = join(x.g.base, x.client.Conn, to) // which the kernel may splice
	return received + int64(len(ahead)), sent
}

// admit says whether the limits let the connection through.
func (x *stream) admit() bool {
	if r, _ := x.g.overRate(x.service, x.from, func(fleet.KeyKind, string) (string, bool) { return "", false }); r != nil {
		x.flag = flagRate
		return false
	}
	if !x.service.pools[0].enter() {
		x.flag = flagOverload
		return false
	}
	return true
}

// connect tries endpoints until one takes the connection, as often as the
// service's retries allow. Whoever gets an endpoint owes its live part a done.
func (x *stream) connect() (net.Conn, *vital) {
	x.service.budget.request()
	var key uint64
	if x.service.spec.RoutingPolicy == fleet.ConsistentHash && x.from.IsValid() {
		key = balance.Key(x.from)
	}
	dial := net.Dialer{Timeout: x.service.spec.Timeouts.Connect.D()}
	dial.SetMultipathTCP(false)
	if x.service.spec.ClientIP == fleet.ClientIPTransparent {
		transparent(&dial, "tcp", x.from)
	}
	p := x.service.pools[0]
	var tried balance.Tried
	for last := -1; ; {
		i := p.pick(balance.Ask{Key: key, Draw: rand.Uint64(), Now: time.Duration(x.g.now())}, &tried)
		if i == allFull {
			x.flag = flagOverload
			return nil, nil
		}
		if i == nobody {
			x.flag = flagNoEndpoint
			return nil, nil
		}
		if i == last && !pause(x.g.base, x.tries) {
			p.endpoints[i].vital.done()
			return nil, nil
		}
		last = i
		tried.Add(i)
		x.tries++
		ep := p.endpoints[i]
		x.at = ep.address
		began := x.g.now()
		to, leave, err := connGates{p.circuit, &ep.vital.circuit}.open(x.g.base, &dial, ep.address)
		if err == errFull {
			ep.vital.done()
			x.flag = flagOverload
			return nil, nil
		}
		x.g.outcome(p, ep.vital, outcomeOf(0, err), time.Duration(x.g.now()-began), dial.Timeout)
		if err == nil {
			x.leave = leave
			return to, ep.vital
		}
		ep.vital.done()
		ep.vital.doubt()
		if x.flag = x.mayRetry(); x.flag != flagNone {
			return nil, nil
		}
		x.service.stats.retries.Inc()
	}
}

// mayRetry gives the reason not to try another endpoint; none: it may.
func (x *stream) mayRetry() flag {
	rules := x.service.retry
	switch {
	case !rules.connect || rules.attempts == 0 || x.g.base.Err() != nil:
		return flagConnect
	case x.tries > rules.attempts:
		return flagRetryLimit
	case !x.service.budget.take(time.Now()):
		x.service.stats.overflow.Inc()
		return flagRetryOverflow
	}
	return flagNone
}

// introduce tells the endpoint the client's address, where it is to be told
// (the PROXY protocol's specification, HAProxy 2.9).
func (x *stream) introduce(to net.Conn) error {
	version := proxyVersion(x.service.spec)
	if version == 0 {
		return nil
	}
	return introduce(version, x.client.client, x.client.vip, to)
}

// finish counts the connection and logs it.
func (x *stream) finish(received, sent int64) {
	stats := x.service.stats
	stats.streams.Inc()
	stats.received.Add(float64(received))
	stats.sent.Add(float64(sent))
	if x.flag != flagNone {
		stats.flags[x.flag].Inc()
	}
	if log := x.g.cfg.AccessLog; log != nil && x.g.logTurn.Add(1)%x.g.cfg.AccessEvery == 0 {
		log.LogAttrs(x.g.base, slog.LevelInfo, "stream",
			slog.String("service", x.service.spec.Service), slog.String("client", x.client.client.String()), slog.String("server_name", x.name),
			slog.Int64("received", received), slog.Int64("sent", sent), slog.Duration("took", x.g.now().since(x.client.since)),
			slog.String("endpoint", x.at), slog.Int("tries", x.tries), slog.String("flag", x.flag.String()))
	}
}
