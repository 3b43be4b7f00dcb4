package l7

import (
	"context"
	"log/slog"
	"time"

	"meridian/fleet"
)

// finish counts the exchange and logs it, however it ended.
func (x *exchange) finish() {
	took := time.Duration(x.g.now() - x.start)
	if x.host != fleet.GatewayHost {
		stats := x.g.metrics.unrouted
		if x.service != nil {
			stats = x.service.stats
		}
		shard := x.sess.shard(spread)
		stats.classes.add(shard, x.status)
		stats.duration.observe(shard, took)
		if x.flag != flagNone && x.flag != flagUpstreamStatus {
			stats.flags[x.flag].Inc()
		}
	}
	if x.gen.tracing != nil && x.host != fleet.GatewayHost {
		x.export(x.start.add(took))
	}
	if log := x.g.cfg.AccessLog; log != nil && x.g.logTurn.Add(1)%x.g.cfg.AccessEvery == 0 {
		x.log(log, took)
	}
}

// log writes the record.
func (x *exchange) log(log *slog.Logger, took time.Duration) {
	name, way := "", ""
	if x.service != nil {
		name = x.service.spec.Service
	}
	if x.way != nil {
		way = x.way.Name
	}
	t := x.timers(x.start.add(took))
	log.LogAttrs(context.Background(), slog.LevelInfo, "request",
		slog.String("request_id", string(x.id)), slog.String("service", name), slog.String("route", way),
		slog.String("client", x.clientName()), slog.String("proto", x.h.Version.String()),
		slog.String("method", string(x.method)), slog.String("host", string(x.h.Authority)), slog.String("path", string(x.h.Path())),
		slog.Int("status", x.status), slog.Int64("sent", x.sent), slog.Duration("took", took),
		slog.Duration("wait", t.wait), slog.Duration("connect", t.connect), slog.Duration("answer", t.answer), slog.Duration("relay", t.relay),
		slog.String("endpoint", x.endpoint), slog.Int("tries", x.tries), slog.String("flag", x.flag.String()))
}

// timers say whose time it was: before the last try began, until that had its
// connection, until the answer's head came, and to the end. Their sum is all of it.
type timers struct{ wait, connect, answer, relay time.Duration }

func (x *exchange) timers(end moment) timers {
	began, connected, first := x.began, x.connected, x.first
	if began == 0 {
		began = end
	}
	if connected == 0 {
		connected = end
	}
	if first == 0 {
		first = end
	}
	return timers{began.since(x.start), connected.since(began), first.since(connected), end.since(first)}
}

// clientName is the client's address and port; without port where a trusted
// proxy has told it.
func (x *exchange) clientName() string {
	if x.clientText != nil {
		return string(x.clientText)
	}
	return x.sess.client.String()
}
