package l7

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// tunnel carries an upgraded connection, WebSocket for one, until either side
// ends it. It outlives Apply: the endpoint stays the one it began with. When
// the gateway stops it may go on for the drain timeout.
func (x *exchange) tunnel(res *http.Response) {
	backend, ok := res.Body.(io.ReadWriteCloser)
	asked, got := upgrade(x.r.Header), upgrade(res.Header)
	if !ok || x.r.ProtoMajor != 1 || asked == "" || !strings.EqualFold(asked, got) {
		x.refuse(http.StatusBadGateway, flagReset, "the endpoint switched to another protocol")
		return
	}
	client, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.flag = flagClientGone
		return
	}
	// A hijacked connection is net/http's no more: see connState.
	defer x.g.connClosed()
	defer client.Close()
	x.tunneled, x.status = true, http.StatusSwitchingProtocols
	if err := x.switched(rw.Writer, res, got); err != nil {
		x.flag = flagClientGone
		return
	}
	_, x.sent = join(x.g.base, client, rw.Reader, backend)
}

// switched writes the 101 answer.
func (x *exchange) switched(w *bufio.Writer, res *http.Response, protocol string) error {
	x.head(res)
	h := x.w.Header()
	delete(h, "Content-Type")
	h["Connection"], h["Upgrade"] = connUpgrade, []string{protocol}
	if strings.EqualFold(protocol, "websocket") {
		webSocketCase(h)
	}
	fmt.Fprintf(w, "HTTP/1.1 101 %s\r\n", http.StatusText(http.StatusSwitchingProtocols))
	if err := h.Write(w); err != nil {
		return err
	}
	w.WriteString("\r\n")
	return w.Flush()
}

// join copies both ways, from the client by way of what was read of it ahead,
// until ctx ends at the latest. The end of one direction is passed on; the other
// goes on until it ends as well, or fails.
func join(ctx context.Context, client net.Conn, ahead io.Reader, backend io.ReadWriteCloser) (received, sent int64) {
	both := func() { client.Close(); backend.Close() }
	defer context.AfterFunc(ctx, both)()
	up, down := make(chan error, 1), make(chan error, 1)
	go func() {
		var err error
		received, err = io.Copy(backend, ahead)
		up <- halfClose(backend, err)
	}()
	go func() {
		var err error
		sent, err = io.Copy(client, backend)
		down <- halfClose(client, err)
	}()
	var err error
	select {
	case err = <-up:
		up = nil
	case err = <-down:
		down = nil
	}
	if err != nil {
		both()
	}
	if up != nil {
		<-up
	} else {
		<-down
	}
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
