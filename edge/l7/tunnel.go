package l7

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"meridian/edge/l7/wire"
)

// tunnel carries an upgraded connection, WebSocket for one, until either side
// ends it. It outlives Apply: the endpoint stays the one it began with. When
// the gateway stops it may go on for the drain timeout.
func (x *exchange) tunnel() {
	l, ok := x.up.(*link)
	if !ok || !x.switched() {
		x.refuse(http.StatusBadGateway, flagReset, "the endpoint switched to another protocol")
		return
	}
	x.present()
	x.status = x.ans.Status
	if x.websock {
		x.ans.Status, x.status, x.ans.Length, x.ans.Upgrade = http.StatusOK, http.StatusOK, -1, nil
	}
	x.answered = true
	x.f.Deadlines(time.Time{}, time.Time{})
	l.tcp.SetDeadline(time.Time{})
	if x.f.Answer(&x.ans, false) != nil || x.f.Flush() != nil {
		x.flag = flagClientGone
		x.f.Break()
		return
	}
	if x.h1 == nil {
		x.tunnelFront(l)
		return
	}
	// The connection is the server's no more: another profile for its port does
	// not end it.
	cl := x.h1.cl
	cl.c.readBy(time.Time{})
	cl.s.forget(cl.c)
	x.abort.during(nil)
	x.sent = x.h1.tunnel(x.g.base, l)
}

// switched says whether the endpoint agreed to what the client asked for.
func (x *exchange) switched() bool {
	got := x.ans.Upgrade
	if x.websock {
		return wire.EqualFold(got, "websocket") && string(x.ans.Get(wire.SecWebSocketAccept)) == x.accept()
	}
	return x.h1 != nil && len(got) > 0 && wire.EqualFold(got, view(x.h.Upgrade))
}

// appendWebSocket writes the fields of RFC 6455's handshake for an extended
// CONNECT (RFC 8441 section 5, RFC 9220), which has none of its own.
func (x *exchange) appendWebSocket(b []byte) []byte {
	var nonce [16]byte
	binary.LittleEndian.PutUint64(nonce[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(nonce[8:], rand.Uint64())
	base64.StdEncoding.Encode(x.wsKey[:], nonce[:])
	b = append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	if x.h.Get(wire.SecWebSocketVersion) == nil {
		b = append(b, "Sec-WebSocket-Version: 13\r\n"...)
	}
	return wire.AppendField(b, wire.SecWebSocketKey.Name(), x.wsKey[:])
}

// accept is what the endpoint must say to the key (RFC 6455 section 4.2.2).
func (x *exchange) accept() string {
	sum := sha1.Sum(append(x.wsKey[:], "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// tunnel joins the client's connection with the endpoint's.
func (f *clientFront) tunnel(ctx context.Context, l *link) int64 {
	f.over = true
	f.failed = errBroken // nothing follows on the connection
	if rest := f.in.rest(); len(rest) > 0 {
		f.in.r = f.in.w
		if _, err := l.Conn.Write(rest); err != nil {
			return 0
		}
	}
	var ahead int64
	if rest := l.in.rest(); len(rest) > 0 {
		l.in.r = l.in.w
		ahead = int64(len(rest))
		if _, err := f.cl.nc.Write(rest); err != nil {
			return 0
		}
	}
	var client net.Conn = f.cl.nc
	if client == net.Conn(f.cl.c) {
		client = f.cl.c.Conn // which the kernel may splice
	}
	_, sent := join(ctx, client, l.Conn)
	return sent + ahead
}

// tunnelFront carries a tunnel that is one of a connection's streams.
func (x *exchange) tunnelFront(l *link) {
	up := make(chan struct{})
	x.body.uploading, x.body.touched = up, true
	go func() {
		defer close(up)
		b := takeBuffer()
		defer b.free()
		for {
			n, err := x.f.Body(b.data)
			if n > 0 && l.write1(b.data[:n]) != nil {
				break
			}
			if err == io.EOF {
				halfClose(l.Conn, nil)
				return
			}
			if err != nil {
				break
			}
		}
		l.stop()
	}()
	l.framing = byClose
	for {
		p, err := x.tunnelPiece(l)
		if len(p) > 0 {
			x.sent += int64(len(p))
			if x.f.Write(p) != nil || x.f.Flush() != nil {
				x.flag = flagClientGone
				break
			}
		}
		if err == io.EOF {
			if x.f.End(nil) == nil {
				<-up
				x.body.uploading = nil
				return
			}
			break
		}
		if err != nil {
			break
		}
	}
	l.stop()
	x.f.Break()
}

func (x *exchange) tunnelPiece(l *link) ([]byte, error) {
	if p := l.take(); len(p) > 0 {
		return p, nil
	}
	l.in.r, l.in.w = 0, 0
	n, err := l.Conn.Read(l.in.data)
	return l.in.data[:n], err
}

// join copies both ways until ctx ends at the latest. The end of one direction
// is passed on; the other goes on until it ends as well, or fails.
func join(ctx context.Context, client, backend net.Conn) (received, sent int64) {
	both := func() { client.Close(); backend.Close() }
	defer context.AfterFunc(ctx, both)()
	up := make(chan error, 1)
	go func() {
		var err error
		received, err = io.Copy(backend, client)
		err = halfClose(backend, err)
		if err != nil {
			both()
		}
		up <- err
	}()
	var err error
	sent, err = io.Copy(client, backend)
	if err = halfClose(client, err); err != nil {
		both()
	}
	<-up
	both()
	return received, sent
}

// halfClose tells the other side that no more follows.
func halfClose(c io.Writer, err error) error {
	if err != nil {
		return err
	}
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return io.EOF
}
