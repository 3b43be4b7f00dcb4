package server

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"meridian/dns/answer"
)

// dnsMessage is the media type of RFC 8484 section 6.
const dnsMessage = "application/dns-message"

// web answers DNS queries over HTTPS (RFC 8484), whatever the version of HTTP.
type web struct {
	*Endpoint
	altSvc string // tells of HTTP/3; "" where there is none
}

// ServeHTTP answers one query by GET or POST.
func (h *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.altSvc != "" {
		w.Header().Set("Alt-Svc", h.altSvc)
	}
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "no client address", http.StatusInternalServerError)
		return
	}
	// Not every version of HTTP takes deadlines; where it does not, the server's
	// hold.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(messageLimit))
	query, status := h.query(w, r)
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	p := Peer{Client: client, Transport: HTTPS}
	if r.TLS != nil {
		p.secure(r.TLS)
	}
	sent := false
	err = h.Respond(r.Context(), query, &p, func(msg []byte) error {
		if sent {
			return errSecond
		}
		sent = true
		_ = control.SetWriteDeadline(time.Now().Add(writeLimit))
		w.Header().Set("Content-Type", dnsMessage)
		w.Header().Set("Content-Length", fmt.Sprint(len(msg)))
		w.Header().Set("Cache-Control", cacheControl(msg))
		_, err := w.Write(msg)
		return err
	})
	switch {
	case errors.Is(err, errNoAnswer):
		http.Error(w, "not a DNS query", http.StatusBadRequest)
	case err == nil && !sent: // the Handler has no answer, or no time
		http.Error(w, "no answer", http.StatusServiceUnavailable)
	}
}

// errSecond says that a response has one message (RFC 8484 section 4.2).
var errSecond = errors.New("a second message in one HTTP response")

// query takes the DNS message out of a request, and the status of one that has
// none (RFC 8484 sections 4.1 and 4.2.1).
func (h *web) query(w http.ResponseWriter, r *http.Request) ([]byte, int) {
	if r.URL.Path != h.server.settings.Load().path {
		return nil, http.StatusNotFound
	}
	switch r.Method {
	case http.MethodGet:
		text := r.URL.Query().Get("dns")
		if base64.RawURLEncoding.DecodedLen(len(text)) > answer.MaxStream {
			return nil, http.StatusRequestURITooLong
		}
		msg, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil || text == "" {
			return nil, http.StatusBadRequest
		}
		return msg, http.StatusOK
	case http.MethodPost:
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != dnsMessage {
			return nil, http.StatusUnsupportedMediaType
		}
		if r.ContentLength > answer.MaxStream {
			return nil, http.StatusRequestEntityTooLarge
		}
		msg, err := io.ReadAll(io.LimitReader(r.Body, answer.MaxStream+1))
		switch {
		case err != nil:
			return nil, http.StatusBadRequest
		case len(msg) > answer.MaxStream:
			return nil, http.StatusRequestEntityTooLarge
		}
		return msg, http.StatusOK
	}
	w.Header().Set("Allow", "GET, POST")
	return nil, http.StatusMethodNotAllowed
}

// cacheControl says how long a response may be kept: no longer than its records
// (RFC 8484 section 5.1), and only by the client's own cache, since others may
// be steered elsewhere.
func cacheControl(msg []byte) string {
	ttl, ok := freshness(msg)
	if !ok {
		return "no-store"
	}
	return fmt.Sprintf("private, max-age=%d", ttl)
}

// serveHTTP speaks HTTP/1.1 or HTTP/2 on one connection until it is closed and
// its requests are done; they are told to end when ctx does.
func (h *web) serveHTTP(ctx context.Context, t *tls.Conn, c *tracked) {
	set := h.server.settings.Load()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	requests := newInFlight(h)
	s := &http.Server{
		BaseContext: func(net.Listener) context.Context { return ctx },
		Handler:     requests, ReadHeaderTimeout: messageLimit, ReadTimeout: 2 * messageLimit, WriteTimeout: 4 * messageLimit, IdleTimeout: h.server.idle(),
		MaxHeaderBytes: 100 << 10, // a message of 64 K in base64
		Protocols:      protocols,
		// What a client may send ahead of us is bounded: a query has 64 K at most.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: set.queries, WriteByteTimeout: writeLimit,
			MaxReadFrameSize: 16 << 10, MaxReceiveBufferPerConnection: 256 << 10, MaxReceiveBufferPerStream: 64 << 10},
		ErrorLog: slog.NewLogLogger(h.server.log.Handler(), slog.LevelDebug),
	}
	_ = s.Serve(&single{conn: t, tracked: c}) // ends with the connection
	if !requests.wait(writeLimit) {
		h.server.log.Warn("requests are still worked on though their connection has ended", "client", c.client)
	}
}

// single is a listener that gives one connection.
type single struct {
	conn net.Conn
	*tracked
}

// Accept gives the connection, and then waits for its end.
func (l *single) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Addr is the socket's.
func (l *single) Addr() net.Addr { return l.LocalAddr() }

// tracked is a connection of a known client that tells when it is closed.
type tracked struct {
	net.Conn
	client net.Addr
	closed chan struct{}
	once   sync.Once
}

func newTracked(c net.Conn, client netip.AddrPort) *tracked {
	return &tracked{Conn: c, client: net.TCPAddrFromAddrPort(client), closed: make(chan struct{})}
}

// RemoteAddr is the client's, behind a proxy too.
func (c *tracked) RemoteAddr() net.Addr { return c.client }

// Close closes the connection.
func (c *tracked) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
