package l7

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strconv"
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
// a codec after it. gRPC-Web is another protocol, over plain answers. A CONNECT is
// none: its refusal, told with status 200, were a tunnel.
func isGRPC(h *wire.Head) bool {
	if h.Version < wire.HTTP2 || h.Is(http.MethodConnect) {
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
	last := len(v) - 1
	n, err := strconv.ParseUint(view(v[:last]), 10, 32)
	unit := grpcUnits[v[last]]
	if err != nil || unit == 0 {
		return 0
	}
	return min(time.Duration(n), math.MaxInt64/2/unit) * unit
}

var grpcUnits = [256]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}

// sayGRPC sends an answer of the gateway's own to a call: all of it is in one
// head (the protocol calls that Trailers-Only).
func (x *exchange) sayGRPC(status int, text string) {
	a := &x.ans
	a.Status, a.Reason, a.Length = http.StatusOK, nil, 0
	a.AddBytes(wire.ContentType, grpcType)
	addGRPC(a, grpcOf(status), text)
	x.give(status, "")
}

// addGRPC adds how a call has ended.
func addGRPC(h *wire.Head, s grpcStatus, text string) {
	h.AddID(wire.GRPCStatus, string(s))
	h.Add("grpc-message", grpcMessage(text))
}

// grpcMessage encodes what is not printable ASCII, and the percent sign.
func grpcMessage(text string) string {
	var b []byte
	for i := range len(text) {
		if c := text[i]; ' ' <= c && c <= '~' && c != '%' {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "%%%02X", c)
		}
	}
	return string(b)
}

// breakGRPC ends an answer to a call that cannot be completed: its trailers say
// why. False: they could not be sent.
func (x *exchange) breakGRPC() bool {
	s, text := grpcUnavailable, "the endpoint broke off"
	if x.flag == flagTimeout {
		s, text = grpcDeadlineExceeded, "no answer in time"
	}
	var end wire.Head
	addGRPC(&end, s, text)
	return x.f.End(&end) == nil
}

// unavailable says whether the answer in x.ans is nothing but the status
// UNAVAILABLE, by which an endpoint turns a call away.
func (x *exchange) unavailable() bool {
	return x.ans.Length == 0 && string(x.ans.Get(wire.GRPCStatus)) == string(grpcUnavailable)
}
