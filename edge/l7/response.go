package l7

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// chunk is how much of a body is passed on at a time.
const chunk = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// answer passes an endpoint's answer on to the client, as it arrives.
func (x *exchange) answer(ctx context.Context, res *http.Response) {
	x.head(res)
	x.status = res.StatusCode
	x.w.WriteHeader(res.StatusCode)
	streamed := res.ContentLength < 0
	if streamed && x.r.Method != http.MethodHead {
		// The body may be long in coming; the client need not wait for the header.
		x.flush()
	}
	if err := x.copy(res.Body); err != nil {
		x.breakOff(ctx, err)
	}
	x.trailers(res, streamed)
}

// head copies the header, without what belongs to the endpoint's connection.
// Values are shared with the answer, which nobody changes.
func (x *exchange) head(res *http.Response) {
	out := x.w.Header()
	conn := res.Header["Connection"]
	for k, v := range res.Header {
		if hopByHop[k] || k == "X-Request-Id" || len(conn) > 0 && token(conn, k) {
			continue
		}
		out[k] = v
	}
	if x.cookie != "" {
		out["Set-Cookie"] = append(slices.Clip(out["Set-Cookie"]), x.cookie)
	}
	if _, ok := out["Content-Type"]; !ok {
		out["Content-Type"] = nil // keeps net/http from guessing one
	}
	if res.StatusCode == http.StatusNoContent {
		delete(out, "Content-Length") // RFC 9110 section 8.6
	}
	if len(res.Trailer) > 0 {
		names := make([]string, 0, len(res.Trailer))
		for k := range res.Trailer {
			names = append(names, k)
		}
		out["Trailer"] = []string{strings.Join(names, ", ")}
	}
}

func (x *exchange) flush() { http.NewResponseController(x.w).Flush() }

// copyError says which side of a copy failed.
type copyError struct {
	client bool
	err    error
}

func (e *copyError) Error() string { return e.err.Error() }
func (e *copyError) Unwrap() error { return e.err }

// copy passes the body on and flushes after each piece, so that a stream of
// events is one for the client as well.
func (x *exchange) copy(src io.Reader) error {
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	rc := http.NewResponseController(x.w)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			m, werr := x.w.Write(buf[:n])
			x.sent += int64(m)
			if werr != nil {
				return &copyError{true, werr}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &copyError{false, err}
		}
		if ferr := rc.Flush(); ferr != nil {
			return &copyError{true, ferr}
		}
	}
}

// breakOff ends an answer that cannot be completed, so that the client sees it
// broken and not short: nothing is appended to it.
func (x *exchange) breakOff(ctx context.Context, err error) {
	switch e := err.(*copyError); {
	case x.outOfTime(ctx):
		x.flag = flagTimeout
	case e.client || ctx.Err() != nil:
		x.flag = flagClientGone
	default:
		x.flag = flagReset
	}
	panic(http.ErrAbortHandler)
}

// trailers passes on the fields that follow the body, announced or not (RFC
// 9110 section 6.5).
func (x *exchange) trailers(res *http.Response, streamed bool) {
	if len(res.Trailer) == 0 {
		return
	}
	if streamed {
		x.flush() // an empty body would else be sent with a length, which has no trailers
	}
	out := x.w.Header()
	announced := out["Trailer"]
	for k, v := range res.Trailer {
		if !token(announced, k) {
			k = http.TrailerPrefix + k
		}
		out[k] = v
	}
}
