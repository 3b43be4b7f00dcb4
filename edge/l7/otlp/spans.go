package otlp

import (
	"strings"
	"time"

	logsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	spanv1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

type (
	spanList   []*spanv1.Span
	recordList []*logv1.LogRecord
)

// scope names who made the spans and records.
const scope = "meridian/edge/l7"

func (e *Exporter) resource() *resourcev1.Resource {
	return &resourcev1.Resource{Attributes: []*commonv1.KeyValue{
		text("service.name", "meridian-edge"), text("service.instance.id", e.cfg.Node), text("host.name", e.cfg.Node), text("meridian.region", e.cfg.Region)}}
}

func (e *Exporter) traceRequest(spans spanList) *tracev1.ExportTraceServiceRequest {
	return &tracev1.ExportTraceServiceRequest{ResourceSpans: []*spanv1.ResourceSpans{{Resource: e.resource(),
		ScopeSpans: []*spanv1.ScopeSpans{{Scope: &commonv1.InstrumentationScope{Name: scope}, Spans: spans}}}}}
}

func (e *Exporter) logsRequest(records recordList) *logsv1.ExportLogsServiceRequest {
	return &logsv1.ExportLogsServiceRequest{ResourceLogs: []*logv1.ResourceLogs{{Resource: e.resource(),
		ScopeLogs: []*logv1.ScopeLogs{{Scope: &commonv1.InstrumentationScope{Name: scope}, LogRecords: records}}}}}
}

// spans makes one span of each sampled request, and one of each of its tries
// below it, with the names of OpenTelemetry's semantic conventions for HTTP.
func (e *Exporter) spans(batch []*l7.Seen) (out spanList) {
	for _, s := range batch {
		if !s.Span {
			continue
		}
		flags := uint32(0)
		if s.Trace.Sampled {
			flags = 1
		}
		own := &spanv1.Span{TraceId: s.Trace.ID[:], SpanId: s.Trace.Parent[:], TraceState: s.State, Flags: flags, Name: method(s), Kind: spanv1.Span_SPAN_KIND_SERVER,
			StartTimeUnixNano: nanos(s.Start), EndTimeUnixNano: nanos(s.End), Attributes: attributes(s), Status: status(s.Status >= 500 || s.Status == 0)}
		if s.Parent != [8]byte{} {
			own.ParentSpanId = s.Parent[:]
		}
		out = append(out, own)
		for i := range s.Tries {
			t := &s.Tries[i]
			a := []*commonv1.KeyValue{text("http.request.method", s.Method), text("server.address", t.Endpoint), number("http.request.resend_count", int64(i))}
			if t.Region != "" {
				a = append(a, text("meridian.region", t.Region))
			}
			if t.Status != 0 {
				a = append(a, number("http.response.status_code", int64(t.Status)))
			}
			if t.Failure != "" {
				a = append(a, text("error.type", t.Failure))
			}
			out = append(out, &spanv1.Span{TraceId: s.Trace.ID[:], SpanId: t.ID[:], ParentSpanId: s.Trace.Parent[:], Flags: flags, Name: method(s), Kind: spanv1.Span_SPAN_KIND_CLIENT,
				StartTimeUnixNano: nanos(t.Start), EndTimeUnixNano: nanos(t.End), Attributes: a, Status: status(t.Failure != "" || t.Status >= 400)})
		}
	}
	return out
}

// records makes one record of the access log of each request that is to have
// one.
func (e *Exporter) records(batch []*l7.Seen) (out recordList) {
	for _, s := range batch {
		if !s.Record {
			continue
		}
		r := &logv1.LogRecord{TimeUnixNano: nanos(s.End), ObservedTimeUnixNano: nanos(s.End), SeverityNumber: logv1.SeverityNumber_SEVERITY_NUMBER_INFO,
			SeverityText: "INFO", Body: value("request"), EventName: "meridian.request",
			Attributes: append(attributes(s), number("http.response.body.size", s.Sent), number("tries", int64(s.Attempts)),
				seconds("wait", s.Wait), seconds("connect", s.Connect), seconds("answer", s.Answer), seconds("relay", s.Relay), seconds("took", s.End.Sub(s.Start)))}
		if s.Trace.ID != [16]byte{} {
			r.TraceId, r.SpanId = s.Trace.ID[:], s.Trace.Parent[:]
			if s.Trace.Sampled {
				r.Flags = 1
			}
		}
		out = append(out, r)
	}
	return out
}

func attributes(s *l7.Seen) []*commonv1.KeyValue {
	a := []*commonv1.KeyValue{text("http.request.method", s.Method), text("url.scheme", s.Scheme), text("url.path", s.Path), text("server.address", s.Host),
		text("client.address", s.Client.String()), text("network.peer.address", s.Peer.Addr().String()), number("network.peer.port", int64(s.Peer.Port())), text("network.local.address", s.VIP.Addr().String()),
		text("network.protocol.name", "http"), text("network.protocol.version", version(s.Version)), text("meridian.service", s.Service), text("meridian.route", s.Route), text("meridian.pool", s.Pool), text("meridian.endpoint", s.Endpoint), text("request_id", s.ID)}
	if s.Status != 0 {
		a = append(a, number("http.response.status_code", int64(s.Status)))
	}
	if s.Flag != "" {
		a = append(a, text("error.type", s.Flag))
	}
	return a
}

// method names a span: there are few of them, whatever clients send.
func method(s *l7.Seen) string {
	switch s.Method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT":
		return s.Method
	}
	return "HTTP"
}

func version(v wire.Version) string {
	text := strings.TrimPrefix(v.String(), "HTTP/")
	if v >= wire.HTTP2 {
		text = strings.TrimSuffix(text, ".0")
	}
	return text
}

func status(failed bool) *spanv1.Status {
	if failed {
		return &spanv1.Status{Code: spanv1.Status_STATUS_CODE_ERROR}
	}
	return nil
}

func nanos(t time.Time) uint64 { return uint64(t.UnixNano()) }

func value(s string) *commonv1.AnyValue {
	return &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: strings.ToValidUTF8(s, "?")}}
}

func text(key, s string) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: key, Value: value(s)}
}

func number(key string, n int64) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: key, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_IntValue{IntValue: n}}}
}

func seconds(key string, d time.Duration) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: "meridian." + key + "_seconds", Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_DoubleValue{DoubleValue: d.Seconds()}}}
}
