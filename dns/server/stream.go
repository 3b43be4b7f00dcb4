package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on how slow a client may be.
const (
	handshakeLimit = 5 * time.Second // for PROXY header and TLS handshake
	messageLimit   = 5 * time.Second // to send one message to its end
	writeLimit     = 5 * time.Second // to accept what is written at a time
)

// conversation is one connection that carries framed messages: TCP (RFC 1035
// section 4.2.2, RFC 7766) or TLS (RFC 7858). Answers of the plan are written
// at once and in order; what the Handler works on is answered in any order, so
// that a transfer holds up no query.
type conversation struct {
	s     *Server
	stats *stats
	conn  net.Conn
	peer  Peer
	in    *bufio.Reader

	writing sync.Mutex
	out     *bufio.Writer

	slots   chan struct{} // one for each message with the Handler
	working atomic.Int32  // how many there are
	workers sync.WaitGroup
}

// converse serves a connection until it ends, and closes it.
func (s *Server) converse(ctx context.Context, c net.Conn, p Peer, st *stats) {
	ctx, cancel := context.WithCancel(ctx)
	v := &conversation{s: s, stats: st, conn: c, peer: p,
		in: bufio.NewReaderSize(c, 2048), out: bufio.NewWriterSize(limitedWriter{c}, 2048),
		slots: make(chan struct{}, s.settings.Load().queries)}
	defer v.workers.Wait()
	defer c.Close()
	defer cancel()
	for first := true; ; first = false {
		n, ok := v.next(first)
		if !ok || !v.exchange(ctx, n) {
			return
		}
	}
}

// limitedWriter gives each write its time. An answer and its length go by one
// write (RFC 7766 section 8) where they fit the buffer, more answers by fewer.
type limitedWriter struct{ net.Conn }

func (w limitedWriter) Write(b []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

// next waits for a message and gives its length, its first two octets taken.
func (v *conversation) next(first bool) (n int, ok bool) {
	if v.in.Buffered() < 2 {
		if v.flush() != nil || !v.wait() {
			return 0, false
		}
	}
	size, _ := v.in.Peek(2)
	n = int(binary.BigEndian.Uint16(size))
	if v.in.Buffered() < 2+n {
		if v.flush() != nil || v.conn.SetReadDeadline(time.Now().Add(messageLimit)) != nil {
			return 0, false
		}
	}
	if first && string(size) == proxySignature[:2] {
		if b, err := v.in.Peek(len(proxySignature)); err == nil && startsProxy(b) {
			v.stats.drop(dropProxy)
			return 0, false
		}
	}
	_, _ = v.in.Discard(2) // Peek has them
	return n, true
}

// wait waits for the next message to begin. A connection is not idle while the
// Handler works for it. It looks up at times, since the idle time is shorter
// once connections grow scarce.
func (v *conversation) wait() bool {
	for begun := time.Now(); ; {
		idle := v.s.idle()
		look := min(idle-time.Since(begun), max(hurry, idle/5))
		if v.conn.SetReadDeadline(time.Now().Add(look)) != nil {
			return false
		}
		_, err := v.in.Peek(2)
		var timeout net.Error
		switch {
		case err == nil:
			return true
		case !errors.As(err, &timeout) || !timeout.Timeout():
			return false
		case v.working.Load() > 0:
			begun = time.Now()
		case time.Since(begun) >= v.s.idle():
			return false
		}
	}
}

// exchange reads one message of n octets and sees to its answer.
func (v *conversation) exchange(ctx context.Context, n int) bool {
	var long []byte
	var err error
	if n <= v.in.Size() { // who is slow waits in a buffer of its own
		_, err = v.in.Peek(n)
	} else { // one that grows with what comes
		long, err = io.ReadAll(io.LimitReader(v.in, int64(n)))
	}
	if err != nil || long != nil && len(long) < n {
		v.stats.drop(dropSlow)
		return false
	}
	x := v.s.exchanges.Get().(*exchange)
	defer v.s.exchanges.Put(x)
	msg := x.query[:n]
	if copy(msg, long) == 0 {
		_, _ = io.ReadFull(v.in, msg) // Peek has them
	}
	n, special := v.s.answer(x, msg, &v.peer, v.stats)
	if special {
		return v.handOver(ctx, append([]byte(nil), msg...))
	}
	if n == 0 {
		_ = v.flush() // what was asked before is answered
		return false  // no DNS client speaks so
	}
	binary.BigEndian.PutUint16(x.out[:], uint16(n))
	v.writing.Lock()
	defer v.writing.Unlock()
	_, err = v.out.Write(x.out[:2+n])
	return v.sent(err)
}

// handOver has the Handler work on a message, beside those that follow, and
// waits where it works on too many for this connection.
func (v *conversation) handOver(ctx context.Context, msg []byte) bool {
	if v.flush() != nil {
		return false
	}
	v.slots <- struct{}{} // comes free: whatever the Handler waits for is limited
	v.working.Add(1)
	v.workers.Go(func() {
		defer func() { v.working.Add(-1); <-v.slots }()
		_ = v.s.handle(ctx, msg, &v.peer, v.reply) // fails where the connection ends
	})
	return true
}

// reply sends one message of the Handler's.
func (v *conversation) reply(msg []byte) error {
	framed := make([]byte, 2, 2+len(msg))
	binary.BigEndian.PutUint16(framed, uint16(len(msg)))
	framed = append(framed, msg...)
	v.writing.Lock()
	defer v.writing.Unlock()
	_, err := v.out.Write(framed)
	if err == nil {
		err = v.out.Flush()
	}
	v.sent(err)
	return err
}

func (v *conversation) flush() error {
	v.writing.Lock()
	defer v.writing.Unlock()
	err := v.out.Flush()
	v.sent(err)
	return err
}

// sent counts what could not be sent, and says whether it could. The
// connection is of no use after that: part of a message may have gone.
func (v *conversation) sent(err error) bool {
	if err != nil {
		v.stats.drop(dropSend)
		v.conn.Close()
	}
	return err == nil
}
