package l7

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strconv"

	"meridian/edge/l7/route"
	"meridian/edge/l7/wire"
)

// named brings the host to the table's form; false: the client was told that
// it has none.
func (x *exchange) named() bool {
	host, err := route.Host(view(x.h.Authority))
	if err != nil {
		x.g.metrics.malformed[wire.BadHost].Inc()
		x.refuse(http.StatusBadRequest, flagBadRequest, "malformed host")
		return false
	}
	x.host = host
	return true
}

// find looks up service and pool; where there is none it answers.
func (x *exchange) find() bool {
	target := x.h.Path()
	if x.method == http.MethodConnect {
		if !x.connects() {
			return false
		}
		if x.h.PlainConnect() { // which has no path
			target = rootPath
		}
	}
	path, err := route.Path(view(target))
	if err != nil {
		x.refuse(http.StatusBadRequest, flagBadRequest, err.Error())
		return false
	}
	x.path = path
	if x.h.Version >= wire.HTTP2 {
		x.h.JoinCookies()
	}
	if x.gen.proxies != nil {
		x.heed()
	}
	m, ok := x.matched()
	if !ok {
		return false
	}
	if x.g.rejects(x.service.spec.Priority) {
		x.reject()
		return false
	}
	x.believe()
	x.way, x.index = x.service.ways[m.Route], m.Service
	x.limit()
	if x.way.stale != nil {
		x.shaped.personal = x.personal()
	}
	if !x.way.plain && !x.foreign && !x.admit() || x.way.Pool < 0 && !x.act() {
		return false
	}
	if x.pool == nil {
		x.pool = x.service.pools[m.Pool]
	}
	if x.pool.h2 {
		x.connect()
	}
	x.again = x.way.retry.again(x.h)
	return true
}

// matched looks the route up; where there is none, or the request must not take it,
// it answers.
func (x *exchange) matched() (m route.Match, ok bool) {
	port := x.sess.s.port
	m, outcome := x.gen.table.Find(port, x.host, x.path, x.h)
	if outcome == route.ToHTTPS && x.told == "https" { // a proxy has ended TLS
		port = httpsPort
		m, outcome = x.gen.table.Find(port, x.host, x.path, x.h)
	}
	if x.report != nil {
		x.tellRoute(port)
	}
	if m.Service >= 0 {
		x.service = x.gen.services[m.Service]
	}
	switch {
	case x.h.PlainConnect() && (outcome != route.Found || !x.service.ways[m.Route].Spec.Connect):
		x.refuseConnect()
		return m, false
	case outcome == route.ToHTTPS:
		x.redirect(x.gen.table.Redirect())
		return m, false
	case outcome == route.NoHost:
		x.refuse(http.StatusNotFound, flagNoRoute, "no service has this host")
		return m, false
	case outcome == route.NoRoute:
		x.refuse(http.StatusNotFound, flagNoRoute, "no route")
		return m, false
	case !x.gen.admits(m.Service, x.sess.tls):
		x.refuse(http.StatusMisdirectedRequest, flagBadRequest, "the connection was not made for this host")
		return m, false
	case x.h.Length > x.g.cfg.MaxBody:
		x.refuse(http.StatusRequestEntityTooLarge, flagBadRequest, "body too large")
		return m, false
	}
	return m, true
}

// connect makes of a WebSocket's handshake the extended CONNECT that endpoints
// of HTTP/2 take (RFC 8441). Any other Upgrade a server may ignore (RFC 9110
// section 7.8).
func (x *exchange) connect() {
	h := x.h
	key := h.Get(wire.SecWebSocketKey)
	if wire.EqualFold(h.Upgrade, "websocket") && h.Is("GET") && h.Length == 0 && len(key) == len(x.wsKey) {
		copy(x.wsKey[:], key)
		h.Method, h.Protocol, x.websock = octets(http.MethodConnect), octets("websocket"), true
	}
	h.Upgrade = nil
}

var rootPath = []byte("/")

// connects looks at a CONNECT: WebSocket's (RFC 8441, RFC 9220), or a plain one,
// which a route must allow (matched). Of other protocols it is refused.
func (x *exchange) connects() bool {
	h := x.h
	switch {
	case view(h.Protocol) == "websocket":
		x.websock = true
		return true
	case h.Protocol != nil:
		x.refuseConnect()
		return false
	case h.Length > 0 || !hasPort(h.Authority):
		x.refuse(http.StatusBadRequest, flagBadRequest, "malformed CONNECT")
		return false
	}
	h.Length, h.Expect, h.Upgrade = 0, false, nil // what follows is the tunnel's
	return true
}

func (x *exchange) refuseConnect() {
	x.refuse(http.StatusMethodNotAllowed, flagBadRequest, "CONNECT is not served")
}

// hasPort says whether an authority names a port that there can be: nobody
// behind the gateway is to guess one.
func hasPort(authority []byte) bool {
	i := bytes.LastIndexByte(authority, ':')
	port, err := strconv.ParseUint(view(authority[i+1:]), 10, 16)
	return i > 0 && err == nil && port > 0
}

// challenged answers a certificate authority's question whether a host is the
// fleet's (RFC 8555 section 8.3).
func (x *exchange) challenged() bool {
	body, ok := x.gen.challenge(x.host, view(x.h.Path()))
	if ok {
		x.say(http.StatusOK, string(body))
	}
	return ok
}

// identify keeps a client's X-Request-ID of 1 to 128 harmless characters, so
// that a request can be followed from its origin on, and makes one of 128
// random bits where there is none. It also sees who asks for a
// report, and to which trace the request belongs.
func (x *exchange) identify() {
	var id, token []byte
	ids := 0
	for i := range x.h.Fields {
		switch f := &x.h.Fields[i]; f.ID {
		case wire.XRequestID:
			id = f.Value
			ids++
		case wire.EdgeWhy:
			token = f.Value
		}
	}
	if ids == 1 && validID(id) {
		x.id = x.idRoom[:copy(x.idRoom[:], id)]
	} else {
		x.makeID()
	}
	if x.gen.tracing != nil {
		x.beginTrace()
	}
	if token != nil {
		x.account(token)
	}
}

// makeID makes a new X-Request-ID. The generator is seeded by the system for each
// process (math/rand/v2: ChaCha8), so that no two processes draw the same.
func (x *exchange) makeID() {
	var b [16]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	hex.Encode(x.idRoom[:], b[:])
	x.id = x.idRoom[:32]
}

func validID(s []byte) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=':
		default:
			return false
		}
	}
	return true
}
