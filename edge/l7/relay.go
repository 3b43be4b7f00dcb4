package l7

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
)

// relay passes an endpoint's answer on to the client, as it arrives.
func (x *exchange) relay() {
	if x.ans.Status == http.StatusSwitchingProtocols || (x.websock || x.h.PlainConnect()) && x.ans.Status < 300 {
		x.tunnel()
		return
	}
	if x.way.shapes && x.replaced() {
		return
	}
	x.present()
	if x.way.shapes {
		x.shape()
	}
	x.status = x.ans.Status
	length := x.ans.Length
	end := length == 0
	x.answered = true
	err := x.f.Answer(&x.ans, end)
	if err != nil {
		x.breakOff(err, true)
		return
	}
	for !end {
		p, err := x.up.piece()
		if err == io.EOF {
			break
		}
		if err != nil {
			x.breakOff(err, false)
			return
		}
		x.sent += int64(len(p))
		if err := x.write(p); err != nil {
			x.breakOff(err, true)
			return
		}
		if !x.shaped.any() && length-x.sent >= spliceFrom {
			if done, err, client := x.splice(length - x.sent); done {
				if err != nil {
					x.breakOff(err, client)
					return
				}
				break
			}
		}
	}
	if x.shaped.any() && x.shapeEnd() != nil {
		x.breakOff(errGone, true)
		return
	}
	if err := x.f.End(x.up.trailers()); err != nil {
		x.breakOff(err, true)
	}
}

// waiting is called before a wait for more of the answer: what is kept is sent,
// but for the head alone of an answer whose body should be close behind it.
func (x *exchange) waiting() error {
	if x.answered && x.shaped.flush() != nil {
		return errGone
	}
	if x.answered && (x.ans.Length < 0 || x.sent > 0) && x.f.Flush() != nil {
		return errGone
	}
	return nil
}

// splice has the kernel pass on what is left of a body; done is false where it
// cannot.
func (x *exchange) splice(left int64) (done bool, err error, client bool) {
	l, ok := x.up.(*link)
	if !ok || l.bare() == nil || x.fast == nil || x.fast.cl.nc != net.Conn(x.fast.cl.c) || x.fast.cl.c.tcp == nil {
		return false, nil, false
	}
	if err := x.f.Flush(); err != nil {
		return true, err, true
	}
	from := io.LimitedReader{R: l.tcp, N: left}
	for {
		l.readAt = sooner(x.g.now().add(glanceLast), x.until())
		l.tcp.SetReadDeadline(x.g.time(l.readAt))
		n, err := x.fast.cl.c.tcp.ReadFrom(&from)
		x.sent += n
		l.left -= n
		switch {
		case from.N == 0:
			l.framing = complete
			return true, nil, false
		case err == nil:
			return true, io.ErrUnexpectedEOF, false
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return true, err, x.fast.cl.c.peek() < 0
		case x.g.now() < l.readAt:
			return true, err, true // the client's deadline
		}
		if err := x.lookUp(); err != nil {
			return true, err, false
		}
	}
}

// breakOff ends an answer that cannot be completed, so that the client sees it
// broken and not short: nothing is appended to it.
func (x *exchange) breakOff(err error, client bool) {
	switch {
	case err == errDeadline || x.deadline.passed(x.g.now()):
		x.flag = flagTimeout
	case client || err == errGone || x.abort.Gone():
		x.flag = flagClientGone
	default:
		x.flag = flagReset
	}
	x.up.stop()
	if x.grpc && x.ans.Length < 0 && x.flag != flagClientGone && x.breakGRPC() {
		return
	}
	x.f.Break()
}

// release ends the endpoint's side of the exchange, and its upload.
func (x *exchange) release() {
	if x.up != nil {
		whole := x.stopUpload()
		x.drop1(whole)
	}
	if x.vital != nil {
		x.vital.done()
		x.vital = nil
	}
}

// drop closes the connection of a try, but for its place among the endpoint's
// requests.
func (x *exchange) drop() {
	x.stopUpload()
	x.drop1(false)
}

func (x *exchange) drop1(whole bool) {
	x.abort.during(nil)
	x.up.release(whole)
	x.up = nil
}
