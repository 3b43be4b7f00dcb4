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
	x.join(client, rw.Reader, backend)
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

// join copies both ways. The end of one direction is passed on; the other goes
// on until it ends as well, or fails.
func (x *exchange) join(client net.Conn, buffered *bufio.Reader, backend io.ReadWriteCloser) {
	both := func() { client.Close(); backend.Close() }
	defer context.AfterFunc(x.g.base, both)()
	done := make(chan error, 2)
	go func() {
		_, err := io.Copy(backend, buffered)
		done <- halfClose(backend, err)
	}()
	go func() {
		n, err := io.Copy(client, backend)
		x.sent = n
		done <- halfClose(client, err)
	}()
	if err := <-done; err != nil {
		both()
	}
	<-done
	both()
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
