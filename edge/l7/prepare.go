package l7

import (
	"bytes"
	"net/http"
	"strconv"

	"meridian/edge/l7/wire"
)

// prepare makes of the client's request what endpoints are asked: without what
// belongs to its connection or speaks for the gateway, and with the gateway's
// own words about the client.
func (x *exchange) prepare() {
	h := x.h
	h.DropListed()
	n := 0
	for i := range h.Fields {
		f := &h.Fields[i]
		switch {
		case f.ID == wire.Host, f.ID == wire.ContentLength, f.ID == wire.Expect, x.strips(f), x.dropsTrace(f):
			continue
		case f.ID == wire.Trailer:
			if h.Length >= 0 {
				continue
			}
		case wire.SecWebSocketKey <= f.ID && f.ID <= wire.SecWebSocketExtensions:
			if x.websock && f.ID == wire.SecWebSocketKey {
				continue
			}
			// Names are case-insensitive, but there are endpoints that look for
			// RFC 6455's spelling.
			f.Name = f.ID.Name()
		}
		if f.ID != wire.Trailer && f.ID.HopByHop() && !(h.PlainConnect() && f.ID == wire.ProxyAuthorization) {
			continue
		}
		h.Fields[n] = *f
		n++
	}
	h.Fields = h.Fields[:n]
	x.speak()
	if x.way.changes {
		x.change()
	}
	if !x.pool.h2 {
		x.request = x.appendRequest(x.request[:0])
	}
}

// speak adds what the gateway says of the client.
func (x *exchange) speak() {
	h := x.h
	x.speakTrace()
	if x.foreign { // its own region's gateway has done the rest
		return
	}
	h.AddBytes(wire.XRequestID, x.id)
	if text := x.addressText(); len(text) > 0 {
		h.AddBytes(wire.XForwardedFor, text)
	}
	h.AddBytes(wire.XForwardedProto, octets(x.scheme()))
	h.AddBytes(wire.XForwardedHost, h.Authority)
	h.AddBytes(wire.XForwardedPort, x.publicPort())
	x.gen.tellClientCert(h, x.index, x.sess.tls)
}

// strips says whether prepare takes a field away since the gateway alone may say it,
// or another region's gateway.
func (x *exchange) strips(f *wire.Field) bool {
	if x.foreign {
		return hopField(f)
	}
	return forwards(f)
}

func (x *exchange) scheme() string {
	if x.told != "" {
		return x.told
	}
	if x.sess.s.secure() {
		return "https"
	}
	return "http"
}

// publicPort is the port that the client speaks of.
func (x *exchange) publicPort() []byte {
	a := x.h.Authority
	if i := bytes.LastIndexByte(a, ':'); i >= 0 && i+1 < len(a) && a[len(a)-1] != ']' {
		return a[i+1:]
	}
	if x.scheme() == "https" {
		return octets("443")
	}
	return octets("80")
}

// forwards says whether a field speaks about the client in the place of the
// gateway. Fields that differ from one of these only by underscores count as
// well: a CGI endpoint could not tell them apart.
func forwards(f *wire.Field) bool {
	switch {
	case wire.XRequestID <= f.ID && f.ID <= wire.Forwarded:
		return true
	case f.ID == wire.Other && hopField(f):
		return true
	case f.ID != wire.Other || len(f.Name) == 0 || f.Name[0]|0x20 != 'x' && f.Name[0]|0x20 != 'c':
		return false
	}
	if bytes.IndexByte(f.Name, '_') < 0 {
		return forwarded(f.Name)
	}
	var room [40]byte
	if len(f.Name) > len(room) {
		return forwarded(bytes.ReplaceAll(f.Name[:len(room)], []byte{'_'}, []byte{'-'}))
	}
	name := room[:copy(room[:], f.Name)]
	for i, c := range name {
		if c == '_' {
			name[i] = '-'
		}
	}
	id := wire.Lookup(name)
	return wire.XRequestID <= id && id <= wire.Forwarded || forwarded(name)
}

func forwarded(name []byte) bool {
	return begins(name, "x-forwarded-") || begins(name, "x-client-cert") || begins(name, "client-cert") // RFC 9440 section 4
}

func begins(name []byte, prefix string) bool {
	return len(name) >= len(prefix) && wire.EqualFold(name[:len(prefix)], prefix)
}

// appendRequest writes the head as HTTP/1.1.
func (x *exchange) appendRequest(b []byte) []byte {
	h := x.h
	method, target := h.Method, x.to.targetOr(h.Target)
	switch {
	case x.websock:
		method = octets("GET")
	case h.PlainConnect():
		target = h.Authority
	}
	b = wire.AppendRequestLine(b, method, target)
	b = wire.AppendField(b, wire.Host.Name(), x.to.hostOr(h.Authority))
	b = wire.AppendFields(b, h)
	switch {
	case x.websock:
		b = x.appendWebSocket(b)
	case h.Upgrade != nil:
		b = append(b, "Connection: Upgrade\r\n"...)
		b = wire.AppendField(b, wire.Upgrade.Name(), h.Upgrade)
	case h.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case h.Length > 0 || x.method == "POST" || x.method == "PUT" || x.method == "PATCH":
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, h.Length, 10)
		b = append(b, '\r', '\n')
	}
	if h.Trailers {
		b = append(b, "TE: trailers\r\n"...)
	}
	if h.Expect {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	return append(b, '\r', '\n')
}

// present makes of the endpoint's answer what the client gets.
func (x *exchange) present() {
	a := &x.ans
	a.DropListed()
	n := 0
	for i := range a.Fields {
		f := &a.Fields[i]
		switch {
		case f.ID == wire.XRequestID, f.ID == wire.EdgeWhy:
			continue
		case f.ID == wire.ContentLength && (a.Status == 204 || a.Status < 200 || x.h.PlainConnect() && a.Status < 300):
			continue // RFC 9110 sections 8.6 and 9.3.6
		case f.ID == wire.ProxyAuthenticate && x.h.PlainConnect(): // the endpoint is the client's proxy
		case f.ID == wire.Trailer && a.Length < 0:
		case f.ID.HopByHop():
			continue
		case wire.SecWebSocketKey <= f.ID && f.ID <= wire.SecWebSocketExtensions:
			if f.ID == wire.SecWebSocketAccept && x.websock {
				continue
			}
			f.Name = f.ID.Name()
		}
		a.Fields[n] = *f
		n++
	}
	a.Fields = a.Fields[:n]
	if len(x.id) > 0 {
		a.AddBytes(wire.XRequestID, x.id)
	}
	if a.Status >= 200 || a.Status == http.StatusSwitchingProtocols {
		x.footnotes(a.Status)
	}
	if x.cookie != "" && a.Status >= 200 {
		a.Add("Set-Cookie", x.cookie)
	}
	if len(x.gen.altSvc) > 0 && x.h.Version < wire.HTTP3 && a.Status >= 200 && x.sess.s.secure() && !x.sess.s.left.Load() {
		if alt := x.gen.altSvc[x.sess.s.port]; alt != nil && a.Get(wire.AltSvc) == nil {
			a.AddBytes(wire.AltSvc, alt)
		}
	}
}
