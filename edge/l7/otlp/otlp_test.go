package otlp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	logsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	spanv1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// receiver is a collector of OTLP over gRPC.
type receiver struct {
	tracev1.UnimplementedTraceServiceServer
	logs   logsReceiver
	traces chan *tracev1.ExportTraceServiceRequest
	fails  chan error // each is given once, before anything is taken
}

type logsReceiver struct {
	logsv1.UnimplementedLogsServiceServer
	got chan *logsv1.ExportLogsServiceRequest
}

func (r *receiver) Export(_ context.Context, q *tracev1.ExportTraceServiceRequest) (*tracev1.ExportTraceServiceResponse, error) {
	select {
	case err := <-r.fails:
		return nil, err
	default:
	}
	r.traces <- q
	return &tracev1.ExportTraceServiceResponse{}, nil
}

func (r *logsReceiver) Export(_ context.Context, q *logsv1.ExportLogsServiceRequest) (*logsv1.ExportLogsServiceResponse, error) {
	r.got <- q
	return &logsv1.ExportLogsServiceResponse{PartialSuccess: &logsv1.ExportLogsPartialSuccess{RejectedLogRecords: 1}}, nil
}

func newReceiver(t *testing.T) (*receiver, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{traces: make(chan *tracev1.ExportTraceServiceRequest, 100), fails: make(chan error, 10)}
	r.logs.got = make(chan *logsv1.ExportLogsServiceRequest, 100)
	s := grpc.NewServer()
	tracev1.RegisterTraceServiceServer(s, r)
	logsv1.RegisterLogsServiceServer(s, &r.logs)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return r, l.Addr().String()
}

// exporting runs an Exporter to that collector; stop ends it and waits.
func exporting(t *testing.T, endpoint string) (e *Exporter, stop func()) {
	e = New(Config{Node: "n1", Region: "fra", Logger: slog.New(slog.DiscardHandler)})
	spec := &fleet.Spec{Gateway: fleet.Gateway{Tracing: &fleet.Tracing{Endpoint: endpoint}}}
	if err := e.Apply(&fleet.World{Snapshot: &fleet.Snapshot{Spec: spec}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return e, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func request() *l7.Seen {
	begin := time.Unix(1_800_000_000, 0)
	return &l7.Seen{Trace: wire.Trace{ID: [16]byte{1}, Parent: [8]byte{2}, Sampled: true}, Parent: [8]byte{3}, State: "vendor=1", Span: true, Record: true,
		Start: begin, End: begin.Add(time.Second), ID: "id", Service: "web", Pool: "main", Endpoint: "10.0.0.1:80", Method: "GET", Scheme: "https", Host: "www.demo.test", Path: "/\xff",
		Version: wire.HTTP2, Client: netip.MustParseAddr("203.0.113.7"), Peer: netip.MustParseAddrPort("10.0.0.9:4711"), Route: "api", Wait: 100 * time.Millisecond, Connect: 200 * time.Millisecond, Answer: 300 * time.Millisecond, Relay: 400 * time.Millisecond, Status: 502, Flag: "UC", Attempts: 2, Sent: 7,
		Tries: []l7.SeenTry{{ID: [8]byte{4}, Endpoint: "10.0.0.2:80", Start: begin, End: begin, Failure: "UF"}, {ID: [8]byte{5}, Region: "nyc", Endpoint: "10.0.0.1:80", Start: begin, End: begin, Status: 200}}}
}

func find(list []*commonv1.KeyValue, key string) *commonv1.AnyValue {
	for _, kv := range list {
		if kv.Key == key {
			return kv.Value
		}
	}
	return &commonv1.AnyValue{}
}

// A collector of OTLP gets a request's span with its tries below, and its
// record; what waits when the program ends is sent before.
func TestACollectorGetsSpansAndRecords(t *testing.T) {
	r, at := newReceiver(t)
	e, stop := exporting(t, at)
	e.Take(request())
	stop()
	got := <-r.traces
	res := got.ResourceSpans[0]
	if find(res.Resource.Attributes, "service.instance.id").GetStringValue() != "n1" {
		t.Errorf("%v", res.Resource)
	}
	spans := res.ScopeSpans[0].Spans
	if len(spans) != 3 {
		t.Fatalf("%d spans", len(spans))
	}
	own := spans[0]
	if own.Kind != spanv1.Span_SPAN_KIND_SERVER || own.Name != "GET" || own.SpanId[0] != 2 || own.ParentSpanId[0] != 3 || own.TraceState != "vendor=1" || own.Flags != 1 ||
		own.Status.GetCode() != spanv1.Status_STATUS_CODE_ERROR || own.EndTimeUnixNano-own.StartTimeUnixNano != 1e9 ||
		find(own.Attributes, "http.response.status_code").GetIntValue() != 502 || find(own.Attributes, "url.path").GetStringValue() != "/?" ||
		find(own.Attributes, "network.protocol.version").GetStringValue() != "2" || find(own.Attributes, "error.type").GetStringValue() != "UC" {
		t.Errorf("%v", own)
	}
	for i, s := range spans[1:] {
		if region := find(s.Attributes, "meridian.region").GetStringValue(); region != []string{"", "nyc"}[i] {
			t.Errorf("try %d is at region %q", i, region)
		}
		if s.Kind != spanv1.Span_SPAN_KIND_CLIENT || s.ParentSpanId[0] != 2 || s.SpanId[0] != byte(4+i) || s.TraceId[0] != 1 || (s.Status.GetCode() == spanv1.Status_STATUS_CODE_ERROR) != (i == 0) {
			t.Errorf("try %d: %v", i, s)
		}
	}
	rec := (<-r.logs.got).ResourceLogs[0].ScopeLogs[0].LogRecords[0]
	if rec.TraceId[0] != 1 || rec.SpanId[0] != 2 || rec.Body.GetStringValue() != "request" || find(rec.Attributes, "meridian.took_seconds").GetDoubleValue() != 1 ||
		find(rec.Attributes, "request_id").GetStringValue() != "id" || find(rec.Attributes, "tries").GetIntValue() != 2 {
		t.Errorf("%v", rec)
	}
	for key, want := range map[string]float64{"wait": .1, "connect": .2, "answer": .3, "relay": .4} {
		if got := find(rec.Attributes, "meridian."+key+"_seconds").GetDoubleValue(); got != want {
			t.Errorf("%s took %v, want %v", key, got, want)
		}
	}
	for _, list := range [][]*commonv1.KeyValue{own.Attributes, rec.Attributes} {
		for key, want := range map[string]string{"request_id": "id", "client.address": "203.0.113.7", "network.peer.address": "10.0.0.9", "meridian.service": "web", "meridian.route": "api", "meridian.pool": "main", "meridian.endpoint": "10.0.0.1:80", "error.type": "UC"} {
			if got := find(list, key).GetStringValue(); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
	}
	if n := testutil.ToFloat64(e.sent.WithLabelValues("span")); n != 3 {
		t.Errorf("%v spans are counted", n)
	}
	if n := testutil.ToFloat64(e.dropped.WithLabelValues("rejected")); n != 1 {
		t.Errorf("%v records are counted as rejected", n)
	}
}

// A collector that fails for a moment gets all in the end; one that is not there
// costs what there was, and that is counted.
func TestACollectorThatFails(t *testing.T) {
	r, at := newReceiver(t)
	r.fails <- errors.New("not now")
	e, stop := exporting(t, at)
	e.Take(request())
	select {
	case <-r.traces:
	case <-time.After(20 * time.Second):
		t.Error("the spans were not sent again")
	}
	stop()
	if len(r.logs.got) != 1 {
		t.Errorf("%d exports of records, want one: they had been taken", len(r.logs.got))
	}
	gone, stop := exporting(t, "127.0.0.1:1")
	gone.Take(request())
	stop()
	if n := testutil.ToFloat64(gone.dropped.WithLabelValues("failed")); n != 4 {
		t.Errorf("%v are counted as dropped, want 3 spans and a record", n)
	}
}

// Requests never wait: what the queue does not hold is dropped and counted.
func TestAFullQueueDrops(t *testing.T) {
	e := New(Config{Logger: slog.New(slog.DiscardHandler)})
	for range queueLength + 5 {
		e.Take(request())
	}
	if n := testutil.ToFloat64(e.full); n != 5 {
		t.Errorf("%v are counted as dropped", n)
	}
}
