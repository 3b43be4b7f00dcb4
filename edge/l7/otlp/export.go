package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"meridian/edge/l7"
	"meridian/fleet"
)

const (
	queueLength = 4096            // requests that wait to be exported
	batchLength = 512             // requests in one export
	batchWait   = time.Second     // for a batch to fill
	sendLimit   = 5 * time.Second // for one export
	lastSend    = 2 * time.Second // for what is left at the end
	tries       = 3
)

// Config is what an Exporter needs.
type Config struct {
	Node, Region string // they name the resource that the spans are of
	Logger       *slog.Logger
}

// Exporter exports what gateways have seen. Take may be called from any
// goroutine, before, during and after Run.
type Exporter struct {
	cfg    Config
	queue  chan *l7.Seen
	target atomic.Pointer[fleet.Tracing] // nil: nowhere
	ready  bool                          // the collector took the last batch

	sent    *prometheus.CounterVec
	dropped *prometheus.CounterVec
	full    prometheus.Counter
}

// New makes an Exporter. It opens nothing.
func New(cfg Config) *Exporter {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "meridian_l7_export_" + name, Help: help}
	}
	e := &Exporter{cfg: cfg, queue: make(chan *l7.Seen, queueLength), ready: true,
		sent:    prometheus.NewCounterVec(opts("sent_total", "Spans and records of the access log that the collector has taken, by kind."), []string{"kind"}),
		dropped: prometheus.NewCounterVec(opts("dropped_total", "What was to be exported and was dropped, by reason: queue (requests that came while the queue was full), failed (spans and records that the collector could not be given), rejected (those that it refused)."), []string{"reason"}),
	}
	e.full = e.dropped.WithLabelValues("queue")
	return e
}

// Register adds the metrics to r.
func (e *Exporter) Register(r prometheus.Registerer) { r.MustRegister(e.sent, e.dropped) }

// Take implements l7.Telemetry.
func (e *Exporter) Take(s *l7.Seen) {
	select {
	case e.queue <- s:
	default:
		e.full.Inc()
	}
}

// Apply takes the collector that the World's Spec names. It gives no error.
func (e *Exporter) Apply(w *fleet.World) error {
	t := w.Snapshot.Spec.Gateway.Tracing
	if t != nil && t.Endpoint == "" {
		t = nil
	}
	e.target.Store(t)
	return nil
}

// collector is a connection to one.
type collector struct {
	endpoint string
	tls      bool
	conn     *grpc.ClientConn
}

// Run exports until ctx ends, and then what is left in the queue, for at most
// two seconds.
func (e *Exporter) Run(ctx context.Context) error {
	c := &collector{}
	defer c.close()
	tick := time.NewTicker(batchWait)
	defer tick.Stop()
	var batch []*l7.Seen
	send := func(ctx context.Context) {
		if len(batch) > 0 {
			e.send(ctx, c, batch)
			batch = batch[:0]
		}
	}
	for {
		select {
		case s := <-e.queue:
			if batch = append(batch, s); len(batch) >= batchLength {
				send(ctx)
			}
		case <-tick.C:
			send(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSend)
			defer cancel()
			for len(e.queue) > 0 {
				batch = append(batch, <-e.queue)
			}
			send(last)
			return nil
		}
	}
}

// send exports a batch; what cannot be sent is dropped.
func (e *Exporter) send(ctx context.Context, c *collector, batch []*l7.Seen) {
	t := e.target.Load()
	if t == nil {
		return
	}
	spans, records := e.spans(batch), e.records(batch)
	err := c.connect(t)
	for try := 1; err == nil; try++ {
		if err = e.export(ctx, c, &spans, &records); err == nil || try == tries || ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(time.Duration(try) * 200 * time.Millisecond):
			err = nil
		case <-ctx.Done():
		}
	}
	if err != nil {
		e.dropped.WithLabelValues("failed").Add(float64(len(spans) + len(records)))
	}
	if (err == nil) != e.ready {
		e.ready = err == nil
		if err != nil {
			e.cfg.Logger.Warn("telemetry: the collector cannot be given spans and records", "endpoint", t.Endpoint, "err", err)
		} else {
			e.cfg.Logger.Info("telemetry: the collector is back", "endpoint", t.Endpoint)
		}
	}
}

// connect sees to it that the connection is one to that collector.
func (c *collector) connect(t *fleet.Tracing) error {
	if c.conn != nil && c.endpoint == t.Endpoint && c.tls == t.TLS {
		return nil
	}
	c.close()
	how := insecure.NewCredentials()
	if t.TLS {
		how = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient(t.Endpoint, grpc.WithTransportCredentials(how))
	if err != nil {
		return fmt.Errorf("collector %s: %w", t.Endpoint, err)
	}
	*c = collector{t.Endpoint, t.TLS, conn}
	return nil
}

func (c *collector) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// export sends what is left of a batch; what the collector has taken is left no
// more.
func (e *Exporter) export(ctx context.Context, c *collector, spans *spanList, records *recordList) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	var errs []error
	if n := len(*spans); n > 0 {
		res, err := tracev1.NewTraceServiceClient(c.conn).Export(ctx, e.traceRequest(*spans))
		if err == nil {
			e.taken("span", n, res.GetPartialSuccess().GetRejectedSpans())
			*spans = nil
		}
		errs = append(errs, err)
	}
	if n := len(*records); n > 0 {
		res, err := logsv1.NewLogsServiceClient(c.conn).Export(ctx, e.logsRequest(*records))
		if err == nil {
			e.taken("record", n, res.GetPartialSuccess().GetRejectedLogRecords())
			*records = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (e *Exporter) taken(kind string, n int, rejected int64) {
	e.sent.WithLabelValues(kind).Add(float64(max(int64(n)-rejected, 0)))
	e.dropped.WithLabelValues("rejected").Add(float64(max(rejected, 0)))
}
