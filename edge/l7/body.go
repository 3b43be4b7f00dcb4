package l7

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// replayed is the largest body, in octets, that is kept for a second try.
const replayed = 64 << 10

// body is a request's body over all its tries.
type body struct {
	length int64       // as in http.Request
	kept   []byte      // the whole body, where it may be sent again
	stream *streamBody // else, unless there is none
	whole  bool        // there is none, or it is kept
}

// takeBody looks at the body before the first try. One that is small and may
// have to be sent again is read and kept; false says that this failed and the
// client was answered.
func (x *exchange) takeBody() bool {
	r := x.r
	x.body.length = r.ContentLength
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		x.body.length, x.body.whole = 0, true
		return true
	}
	if x.service.retry.again(r) && 0 < r.ContentLength && r.ContentLength <= replayed && len(r.Header["Expect"]) == 0 {
		kept := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, kept); err != nil {
			x.bodyFailed(err)
			return false
		}
		x.body.kept, x.body.whole = kept, true
		return true
	}
	x.body.stream = &streamBody{src: http.MaxBytesReader(nil, r.Body, x.g.cfg.MaxBody)}
	return true
}

// bodyFailed answers a client whose body could not be read.
func (x *exchange) bodyFailed(err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		x.refuse(http.StatusRequestEntityTooLarge, flagBadRequest, "body too large")
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.refuse(http.StatusRequestTimeout, flagClientGone, "the body did not arrive in time")
	default:
		x.refuse(http.StatusBadRequest, flagClientGone, "the body is incomplete")
	}
}

// next gives the body for one more try; call it only after fresh said yes.
func (b *body) next() io.ReadCloser {
	switch {
	case b.kept != nil:
		return io.NopCloser(bytes.NewReader(b.kept))
	case b.stream != nil:
		return b.stream
	}
	return nil
}

// fresh says whether the whole body can still be sent.
func (b *body) fresh() bool { return b.stream == nil || !b.stream.touched.Load() }

// linger is how long a client whose request was answered before its body ended
// may go on sending, so that it sees the answer rather than a reset.
const linger = 250 * time.Millisecond

// linger ends an upload that nobody wants any more. The rest of an HTTP/1.1
// body is read for a short time; where it does not end by then the connection
// carries nothing after it. net/http must find nothing left to read when the
// handler returns: it would wait without limit, and trip over the body's end.
func (x *exchange) linger() {
	if x.r.ContentLength == 0 || x.body.whole || x.body.stream != nil && x.body.stream.ended.Load() {
		return
	}
	rc := http.NewResponseController(x.w)
	c, ok := x.r.Context().Value(connKey{}).(*conn)
	if !ok || x.r.ProtoMajor != 1 { // HTTP/2 resets the stream
		rc.SetReadDeadline(past)
		x.body.stop()
		return
	}
	if len(x.r.Header["Expect"]) == 0 || !x.body.fresh() {
		rc.EnableFullDuplex() // where bound did not: the answer must not wait for the body
		rc.Flush()
		rc.SetReadDeadline(time.Now().Add(linger))
		x.body.stop()
		if _, err := io.Copy(io.Discard, x.r.Body); err == nil {
			return
		}
	}
	c.spoiled.Store(true)
	rc.SetReadDeadline(past)
	x.body.stop()
}

// past is a deadline that ends reads at once.
var past = time.Unix(1, 0)

// err is why reading from the client failed, nil where it did not.
func (b *body) err() error {
	if b.stream != nil {
		if e := b.stream.failed.Load(); e != nil {
			return *e
		}
	}
	return nil
}

// streamBody passes a body on as it arrives. A transport closes the body of a
// failed try; that must not close the client's, of which nothing may have been
// read yet.
type streamBody struct {
	src     io.ReadCloser
	touched atomic.Bool // something was asked of the client's
	ended   atomic.Bool // and it was read to its end
	failed  atomic.Pointer[error]

	mu   sync.Mutex // held while the client's is read
	over bool       // it must be read no more
}

var errAnswered = errors.New("the request is answered")

func (s *streamBody) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0, errAnswered
	}
	s.touched.Store(true)
	n, err := s.src.Read(p)
	switch err {
	case nil:
	case io.EOF:
		s.ended.Store(true)
	default:
		s.failed.Store(&err)
	}
	return n, err
}

func (s *streamBody) Close() error { return nil }

// stop waits for the transport's read under way and lets no other follow.
func (b *body) stop() {
	if s := b.stream; s != nil {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
	}
}
