package l7

import (
	"bytes"
	"net/http"
	"time"

	"meridian/edge/l7/wire"
)

// Of gRPC the gateway knows what it needs to be no stranger among its callers:
// the deadline of a call, and that errors are told by a status of its own in
// trailers, whatever happened, with HTTP's status 200 (the protocol's document
// "gRPC over HTTP2").

// grpcStatus is a status code of gRPC.
type grpcStatus string

// The statuses that the gateway tells.
const (
	grpcUnknown           grpcStatus = "2"
	grpcDeadlineExceeded  grpcStatus = "4"
	grpcPermissionDenied  grpcStatus = "7"
	grpcResourceExhausted grpcStatus = "8"
	grpcUnimplemented     grpcStatus = "12"
	grpcInternal          grpcStatus = "13"
	grpcUnavailable       grpcStatus = "14"
	grpcUnauthenticated   grpcStatus = "16"
)

// grpcOf gives the status that stands for one of HTTP.
func grpcOf(status int) grpcStatus {
	switch status {
	case http.StatusBadRequest, http.StatusRequestTimeout:
		return grpcInternal
	case http.StatusUnauthorized:
		return grpcUnauthenticated
	case http.StatusForbidden:
		return grpcPermissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return grpcUnimplemented
	case http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge:
		return grpcResourceExhausted
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		return grpcUnavailable
	case http.StatusGatewayTimeout:
		return grpcDeadlineExceeded
	}
	return grpcUnknown
}

var grpcType = []byte("application/grpc")

// isGRPC says whether a request is a call of gRPC: by its type, with or without
// a codec after it. gRPC-Web is another protocol, over plain answers.
func isGRPC(h *wire.Head) bool {
	if h.Version < wire.HTTP2 {
		return false
	}
	rest, ok := bytes.CutPrefix(h.Get(wire.ContentType), grpcType)
	return ok && (len(rest) == 0 || rest[0] == '+' || rest[0] == ';')
}

// grpcTimeout reads how long the caller waits; 0 where it does not say, or not
// well.
func grpcTimeout(v []byte) time.Duration {
	if len(v) < 2 || len(v) > 9 {
		return 0
	}
	n := 0
	for _, c := range v[:len(v)-1] {
		if c < '0' || c > '9' {
			return 0
		}
		n = 10*n + int(c-'0')
	}
	unit := time.Duration(0)
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	}
	if n > 1e6 && unit >= time.Hour {
		n = 1e6
	}
	return max(time.Duration(n)*unit, time.Duration(min(n, 1)))
}

// sayGRPC sends an answer of the gateway's own to a call: all of it is in one
// head (the protocol calls that Trailers-Only).
func (x *exchange) sayGRPC(status int, text string) {
	a := &x.ans
	a.Version, a.Status, a.Reason, a.Length = wire.HTTP2, http.StatusOK, nil, 0
	a.AddBytes(wire.ContentType, grpcType)
	x.addStatus(a, grpcOf(status), text)
	if len(x.id) > 0 {
		a.AddBytes(wire.XRequestID, x.id)
	}
	x.footnotes(status)
	x.status = status // as the log and the metrics know it
	x.answered = true
	if x.f.Answer(a, true) != nil || x.f.End(nil) != nil {
		x.f.Break()
	}
}

func (x *exchange) addStatus(h *wire.Head, s grpcStatus, text string) {
	h.AddID(wire.GRPCStatus, string(s))
	h.Add("grpc-message", text)
}

// breakGRPC ends an answer to a call that cannot be completed: its trailers say
// why. False: they could not be sent.
func (x *exchange) breakGRPC() bool {
	s, text := grpcUnavailable, "the endpoint broke off"
	if x.flag == flagTimeout {
		s, text = grpcDeadlineExceeded, "no answer in time"
	}
	var end wire.Head
	x.addStatus(&end, s, text)
	return x.f.End(&end) == nil
}

// unavailable says whether the answer in x.ans is nothing but the status
// UNAVAILABLE, by which an endpoint turns a call away.
func (x *exchange) unavailable() bool {
	return x.ans.Length == 0 && string(x.ans.Get(wire.GRPCStatus)) == string(grpcUnavailable)
}
