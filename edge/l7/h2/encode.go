package h2

import (
	"strconv"

	"meridian/edge/l7/wire"
)

// The encoder keeps no table and codes nothing by Huffman: fields cost the
// octets that they have, and no memory, copy or search. It may so be used by
// all streams of a connection without order among them.

// noTable is the table size update that a connection's first block begins
// with; peers that ask for a smaller table wait for it (RFC 7541 section 4.2).
const noTable = 0x20

func appendText(b, s []byte) []byte { return append(wire.AppendInteger(b, 0, 7, len(s)), s...) }

// appendIndexed appends a field that the static table has whole.
func appendIndexed(b []byte, i int) []byte { return append(b, 0x80|byte(i)) }

// appendNamed appends a field whose name the static table has.
func appendNamed(b []byte, i int, value []byte) []byte {
	return appendText(wire.AppendInteger(b, 0, 4, i), value)
}

// appendField appends a field of a head or of trailers. Fields that belong to
// one connection of HTTP/1.1 have no place in HTTP/2 (RFC 9113 section 8.2.2)
// and are left out.
func appendField(b []byte, f *wire.Field) []byte {
	var pattern byte
	switch f.ID {
	case wire.Connection, wire.KeepAlive, wire.ProxyConnection, wire.TransferEncoding, wire.Upgrade, wire.HTTP2Settings:
		return b
	case wire.Authorization, wire.Cookie, wire.SetCookie:
		pattern = 0x10 // never to be indexed (RFC 7541 section 7.1.3)
	case wire.Other:
		b = wire.AppendInteger(append(b, 0), 0, 7, len(f.Name))
		return appendText(lowered(b, f.Name), f.Value)
	}
	k := &knownNames[f.ID]
	b = wire.AppendInteger(b, pattern, 4, k.index)
	if k.index == 0 {
		b = appendText(b, k.lower)
	}
	return appendText(b, f.Value)
}

// appendStatus appends :status.
func appendStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return appendIndexed(b, staticStatus)
	case 204:
		return appendIndexed(b, staticStatus+1)
	case 206:
		return appendIndexed(b, staticStatus+2)
	case 304:
		return appendIndexed(b, staticStatus+3)
	case 400:
		return appendIndexed(b, staticStatus+4)
	case 404:
		return appendIndexed(b, staticStatus+5)
	case 500:
		return appendIndexed(b, staticStatus+6)
	}
	b = append(wire.AppendInteger(b, 0, 4, staticStatus), 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// appendAnswer appends the block of an answer's head.
func appendAnswer(b []byte, h *wire.Head) []byte {
	b = appendStatus(b, h.Status)
	for i := range h.Fields {
		b = appendField(b, &h.Fields[i])
	}
	return b
}

// appendRequest appends the block of a request's head. Host goes as :authority
// where the head has no other. What the head has settled (length, trailers,
// expectation) is told by fields made anew.
func appendRequest(b []byte, h *wire.Head, secure bool) []byte {
	switch {
	case h.Is("GET"):
		b = appendIndexed(b, staticGet)
	case h.Is("POST"):
		b = appendIndexed(b, staticPost)
	default:
		b = appendNamed(b, staticGet, h.Method)
	}
	if !h.PlainConnect() {
		if secure {
			b = appendIndexed(b, staticHTTPS)
		} else {
			b = appendIndexed(b, staticHTTP)
		}
		b = appendNamed(b, staticPath, h.Target)
	}
	authority := h.Authority
	if len(authority) == 0 {
		authority = h.Get(wire.Host)
	}
	if len(authority) > 0 {
		b = appendNamed(b, staticAuthority, authority)
	}
	if h.Protocol != nil {
		b = appendText(appendText(append(b, 0), protocolName), h.Protocol)
	}
	for i := range h.Fields {
		switch h.Fields[i].ID {
		case wire.Host, wire.ContentLength, wire.TE, wire.Expect:
		default:
			b = appendField(b, &h.Fields[i])
		}
	}
	if h.Protocol == nil && h.Length > 0 || h.Length == 0 && (h.Is("POST") || h.Is("PUT") || h.Is("PATCH")) {
		var room [20]byte
		b = appendNamed(b, knownNames[wire.ContentLength].index, strconv.AppendInt(room[:0], h.Length, 10))
	}
	if h.Trailers {
		b = appendField(b, &trailersWanted)
	}
	if h.Expect {
		b = appendField(b, &continueWanted)
	}
	return b
}

var (
	trailersWanted = wire.Field{ID: wire.TE, Value: []byte("trailers")}
	continueWanted = wire.Field{ID: wire.Expect, Value: []byte("100-continue")}
)

// appendSecure and appendPlain are appendRequest for connections with TLS and
// without.
func appendSecure(b []byte, h *wire.Head) []byte { return appendRequest(b, h, true) }
func appendPlain(b []byte, h *wire.Head) []byte  { return appendRequest(b, h, false) }

var protocolName = []byte(":protocol")

// appendFields appends the block of trailers.
func appendFields(b []byte, h *wire.Head) []byte {
	for i := range h.Fields {
		b = appendField(b, &h.Fields[i])
	}
	return b
}
