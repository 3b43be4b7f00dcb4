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

// log writes the record. Its four timers say whose time it was: until a try had
// its connection, from then until the answer's head, and to the end; took is all.
func (x *exchange) log(log *slog.Logger, took time.Duration) {
	name, way := "", ""
	if x.service != nil {
		name = x.service.spec.Service
	}
	if x.way != nil {
		way = x.way.Name
	}
	since := func(a, b moment) time.Duration {
		if a == 0 || b == 0 {
			return 0
		}
		return time.Duration(b - a)
	}
	end := x.start.add(took)
	log.LogAttrs(context.Background(), slog.LevelInfo, "request",
		slog.String("request_id", string(x.id)), slog.String("service", name), slog.String("route", way),
		slog.String("client", x.clientName()), slog.String("proto", x.h.Version.String()),
		slog.String("method", string(x.method)), slog.String("host", string(x.h.Authority)), slog.String("path", string(x.h.Path())),
		slog.Int("status", x.status), slog.Int64("sent", x.sent), slog.Duration("took", took),
		slog.Duration("connect", since(x.start, x.connected)), slog.Duration("answer", since(x.connected, x.first)), slog.Duration("relay", since(x.first, end)),
		slog.String("endpoint", x.endpoint), slog.Int("tries", x.tries), slog.String("flag", x.flag.String()))
}

// clientName is the client's address and port; without port where a trusted
// proxy has told it.
func (x *exchange) clientName() string {
	if x.clientText != nil {
		return string(x.clientText)
	}
	return x.sess.client.String()
}
