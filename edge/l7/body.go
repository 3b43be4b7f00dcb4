package l7

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"meridian/edge/l7/wire"
)

// replayed is the largest body, in octets, that is kept for a second try.
const replayed = 64 << 10

// body is a request's body over all its tries.
type body struct {
	kept    []byte // the whole body, where it may be sent again
	lent    bool   // kept lies in the client's buffer
	whole   bool   // there is none, or it is kept
	touched bool   // something was asked of the client that is not kept
	early   bool   // the answer came before the end: who knows what the endpoint makes of the rest

	replay replay

	uploading chan struct{} // closed when the upload has ended; nil: there is none
	ended     atomic.Bool   // and the endpoint has all of it
	failed    atomic.Pointer[error]
}

var errTooLarge = errors.New("body too large")

// fresh says whether the whole body can still be sent.
func (b *body) fresh() bool { return !b.touched }

// failure is why reading from the client failed, nil where it did not.
func (b *body) failure() error {
	if e := b.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// takeBody looks at the body before the first try. One that is here, or that
// is small and may have to be sent again, is kept; false says that this failed
// and the client was answered.
func (x *exchange) takeBody() bool {
	h := x.h
	b := &x.body
	switch kept := b.kept[:0]; {
	case h.Length == 0 || x.websock:
		b.kept, b.whole = nil, true
	case h.Expect:
		b.kept = nil
	case x.fast != nil && x.fast.body.begunWhole():
		b.kept, b.lent, b.whole = x.fast.body.whole(), true, true
	case (x.again || x.way.mirror != nil) && 0 < h.Length && h.Length <= replayed:
		if cap(kept) < int(h.Length) {
			kept = make([]byte, h.Length)
		}
		b.kept, b.whole = kept[:h.Length], true
		x.boundBody(h.Length)
		if err := x.readAll(b.kept); err != nil {
			x.bodyFailed(err)
			return false
		}
		x.boundBody(-1)
	default:
		b.kept = nil
		return x.takeArrived()
	}
	return true
}

// takeArrived keeps a body that has arrived as a whole before it was asked for.
// It can then be sent at once, and again, and its length is told.
func (x *exchange) takeArrived() bool {
	f, ok := x.f.(arrived)
	if !ok {
		return true
	}
	n, whole := f.Arrived()
	if !whole || n > replayed {
		return true
	}
	b := &x.body
	b.kept, b.whole = make([]byte, n), true
	x.h.Length = int64(n)
	if err := x.readAll(b.kept); err != nil {
		x.bodyFailed(err)
		return false
	}
	return true
}

func (x *exchange) readAll(p []byte) error {
	for len(p) > 0 {
		n, err := x.f.Body(p)
		p = p[n:]
		if err != nil && (err != io.EOF || len(p) > 0) {
			return err
		}
	}
	return nil
}

// bodyFailed answers a client whose body could not be read.
func (x *exchange) bodyFailed(err error) {
	f := bodyFailure(err)
	x.refuse(f.status, f.flag, f.text)
}

func (x *exchange) bodyFailure() failure { return bodyFailure(x.body.failure()) }

func bodyFailure(err error) failure {
	var fault wire.Fault
	switch {
	case errors.Is(err, errTooLarge):
		return failure{flag: flagBadRequest, status: http.StatusRequestEntityTooLarge, text: "body too large"}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errSlow):
		return failure{flag: flagClientGone, status: http.StatusRequestTimeout, text: "the body did not arrive in time"}
	case errors.As(err, &fault):
		return failure{flag: flagBadRequest, status: http.StatusBadRequest, text: "malformed body: " + fault.String()}
	}
	return failure{flag: flagClientGone, status: http.StatusBadRequest, text: "the body is incomplete"}
}

// upload passes the body on to the endpoint while its answer is awaited.
func (x *exchange) upload() {
	x.body.touched = true
	x.body.replay = replay{off: !x.pool.h2 || x.way.retry.attempts == 0}
	done := make(chan struct{})
	x.body.uploading = done
	up := x.up
	go func() {
		defer close(done)
		x.carry(up)
	}()
}

func (x *exchange) carry(up asked) {
	rate := x.minRate()
	if x.fast != nil && x.fast.body.splices() && rate == 0 {
		if to := up.bare(); to != nil {
			x.carrySpliced(up, to)
			return
		}
	}
	b := takeBuffer()
	defer b.free()
	var total int64
	w := x.watch(up, rate)
	defer w.stop()
	for {
		n, err := x.f.Body(b.data)
		w.received(n)
		if total += int64(n); total > x.maxBody() {
			err = errTooLarge
		} else if n > 0 {
			x.body.replay.copyPiece(b.data[:n])
			if up.write(b.data[:n]) != nil {
				x.restLost()
				return // the answer may be on its way nevertheless
			}
		}
		switch {
		case err == io.EOF:
			if x.f.BodyTrailers() == nil {
				x.body.replay.complete()
			}
			if up.endUpload(x.f.BodyTrailers()) == nil {
				x.body.ended.Store(true)
			}
			return
		case err != nil:
			x.bodyBroke(up, err)
			return
		}
	}
}

// carrySpliced has the kernel pass a body on.
func (x *exchange) carrySpliced(up asked, to *net.TCPConn) {
	b := &x.fast.body
	if rest := b.spare(); len(rest) > 0 && up.write(rest) != nil {
		return
	}
	from := io.LimitedReader{R: x.fast.cl.c.tcp, N: b.left}
	_, err := to.ReadFrom(&from)
	b.left = from.N
	switch {
	case b.left == 0:
		b.ended = true
		x.body.ended.Store(true)
	case err == nil:
		b.broken = true
		x.bodyBroke(up, io.ErrUnexpectedEOF)
	default:
		b.broken = true // octets that the endpoint did not take may be lost
		if errors.Is(err, os.ErrDeadlineExceeded) {
			x.bodyBroke(up, err)
		}
	}
}

// bodyBroke ends a request whose body will never be whole: the endpoint sees
// it broken.
func (x *exchange) bodyBroke(up asked, err error) {
	x.body.failed.Store(&err)
	up.stop()
}

// stopUpload waits for the upload under way and lets no other octet follow. It
// says whether the endpoint has the whole body.
func (x *exchange) stopUpload() bool {
	done := x.body.uploading
	if done == nil {
		return x.body.whole
	}
	select {
	case <-done:
	default:
		x.f.Deadlines(past, x.g.time(x.writeEnd()))
		x.up.stop()
		<-done
	}
	x.body.uploading = nil
	return x.body.ended.Load() && !x.body.early
}

// bodyIsIn says whether nothing more of the request will be read; while the gateway
// asks something of its own nobody reads.
func (x *exchange) bodyIsIn() bool {
	return x.own() || x.body.ended.Load() || x.body.uploading == nil && x.h1.body.ended
}

func (x *exchange) writeEnd() moment {
	if x.deadline == 0 {
		return 0
	}
	return x.deadline.add(slack)
}
