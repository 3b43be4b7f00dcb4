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

// tunnel carries an upgraded connection, WebSocket for one, or what a CONNECT has
// opened, until either side ends it. It outlives Apply: the endpoint stays the one
// it began with. When the gateway stops it may go on for the drain timeout.
func (x *exchange) tunnel() {
	if !x.switched() {
		x.refuse(http.StatusBadGateway, flagReset, "the endpoint did not switch to the protocol that was asked for")
		return
	}
	x.ans.Status = http.StatusSwitchingProtocols
	if x.h.PlainConnect() {
		x.ans.Status = http.StatusOK
	}
	x.present()
	switch {
	case x.h1 == nil:
		x.ans.Status, x.ans.Length, x.ans.Upgrade = http.StatusOK, -1, nil
	case x.websock:
		x.ans.Upgrade = octets("websocket")
		x.ans.AddID(wire.SecWebSocketAccept, x.accept())
	}
	x.status = x.ans.Status
	x.answered = true
	x.f.Deadlines(time.Time{}, time.Time{})
	x.up.unbound()
	if x.f.Answer(&x.ans, false) != nil || x.f.Flush() != nil {
		x.flag = flagClientGone
		x.f.Break()
		return
	}
	if x.h1 == nil {
		x.passTunnel(x.f)
		return
	}
	// The connection is the server's no more: another profile for its port does
	// not end it.
	cl := x.h1.cl
	cl.c.readBy(time.Time{})
	cl.s.forget(cl.c)
	x.abort.during(nil)
	x.h1.over = true
	x.h1.failed = errBroken // nothing follows on the connection
	if l, ok := x.up.(*link); ok {
		x.sent = x.h1.tunnel(x.g.base, l)
		return
	}
	defer context.AfterFunc(x.g.base, func() { cl.nc.Close() })()
	x.passTunnel(octetFront{x.h1})
}

// switched says whether the endpoint agreed to what the client asked for.
func (x *exchange) switched() bool {
	got := x.ans.Upgrade
	switch _, plain := x.up.(*link); {
	case x.h.PlainConnect():
		return plain && x.ans.Status != http.StatusSwitchingProtocols
	case !plain:
		return x.websock && x.ans.Status != http.StatusSwitchingProtocols
	case x.websock:
		return x.ans.Status == http.StatusSwitchingProtocols && wire.EqualFold(got, "websocket") && string(x.ans.Get(wire.SecWebSocketAccept)) == x.accept()
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

// octetFront is a client's connection that has become a tunnel.
type octetFront struct{ *clientFront }

func (f octetFront) Body(p []byte) (int, error) {
	if rest := f.in.rest(); len(rest) > 0 {
		n := copy(p, rest)
		f.in.r += n
		return n, nil
	}
	return f.cl.nc.Read(p)
}

func (f octetFront) Write(p []byte) error {
	_, err := f.cl.nc.Write(p)
	return err
}

func (f octetFront) End(*wire.Head) error { return halfClose(f.cl.nc, nil) }
func (f octetFront) Break()               { f.cl.nc.Close() }

// passTunnel carries a tunnel of which one end at least is a stream among others of its
// connection.
func (x *exchange) passTunnel(f Front) {
	up := make(chan struct{})
	x.body.uploading, x.body.touched = up, true
	to := x.up
	go func() {
		defer close(up)
		b := takeBuffer()
		defer b.free()
		for {
			n, err := f.Body(b.data)
			if n > 0 && to.write(b.data[:n]) != nil {
				break
			}
			if err == io.EOF && to.endTunnel() == nil {
				return
			}
			if err != nil {
				break
			}
		}
		to.stop()
	}()
	for {
		p, err := to.tunnelled()
		if len(p) > 0 {
			x.sent += int64(len(p))
			if f.Write(p) != nil || f.Flush() != nil {
				x.flag = flagClientGone
				break
			}
		}
		if err == io.EOF && f.End(nil) == nil {
			<-up
			x.body.uploading = nil
			return
		}
		if err != nil {
			break
		}
	}
	to.stop()
	f.Break()
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
