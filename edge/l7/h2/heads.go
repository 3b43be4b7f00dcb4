package h2

import (
	"meridian/edge/l7/wire"
)

// pseudo is a set of pseudo-fields.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus

	ofRequests = pseudoMethod | pseudoScheme | pseudoAuthority | pseudoPath | pseudoProtocol
	ofAnswers  = pseudoStatus
)

// decode decodes a block into h, nil for nowhere: the table must follow all
// that the peer sends. The error ends the connection; the fault is the
// message's own.
func (c *conn) decode(block []byte, h *wire.Head, allowed pseudo) (bad wire.Fault, err error) {
	var seen pseudo
	size, crumbs, begin := 0, 0, true
	if h == nil {
		bad = wire.TooLarge
	}
	for len(block) > 0 {
		var f field
		if f, block, err = c.decoder.next(block, begin); err != nil {
			return 0, err
		}
		if f.resized {
			continue
		}
		begin = false
		if size += len(f.name) + len(f.value) + entryCost; size > c.listLimit {
			bad = wire.TooLarge
		}
		if f.id == wire.Cookie { // clients make many of one (RFC 9113 section 8.2.3)
			crumbs++
		}
		switch {
		case bad == wire.TooLarge:
		case len(f.name) > 0 && f.name[0] == ':':
			p := pseudoField(h, &f)
			if p == 0 || p&allowed == 0 || p&seen != 0 || len(h.Fields) > 0 {
				bad = wire.BadPseudo
			}
			seen |= p
		case len(h.Fields)-crumbs >= maxFields(c.client):
			bad = wire.TooLarge
		default:
			if !addField(h, &f) {
				bad = wire.BadName
			}
		}
	}
	return bad, nil
}

// maxFields is how many fields a head may have: as over HTTP/1.1.
func maxFields(answer bool) int {
	if answer {
		return 2 * wire.MaxFields
	}
	return wire.MaxFields
}

// pseudoField puts a pseudo-field into h; 0: there is none of that name.
func pseudoField(h *wire.Head, f *field) pseudo {
	switch string(f.name) {
	case ":method":
		h.Method = h.Keep(f.value)
		return pseudoMethod
	case ":scheme":
		h.Scheme = h.Keep(f.value)
		return pseudoScheme
	case ":authority":
		h.Authority = h.Keep(f.value)
		return pseudoAuthority
	case ":path":
		h.Target = h.Keep(f.value)
		return pseudoPath
	case ":protocol":
		h.Protocol = h.Keep(f.value)
		return pseudoProtocol
	case ":status":
		h.Status = 0
		for _, d := range f.value {
			if d < '0' || d > '9' || len(f.value) != 3 {
				return 0
			}
			h.Status = 10*h.Status + int(d-'0')
		}
		return pseudoStatus
	}
	return 0
}

// addField appends a field; a name that the gateway knows is not copied. False:
// the name has a capital letter (RFC 9113 section 8.2.1).
func addField(h *wire.Head, f *field) bool {
	for _, b := range f.name {
		if 'A' <= b && b <= 'Z' {
			return false
		}
	}
	name := knownNames[f.id].lower
	if f.id == wire.Other {
		name = h.Keep(f.name)
	}
	h.Fields = append(h.Fields, wire.Field{ID: f.id, Name: name, Value: h.Keep(f.value)})
	return true
}

// decodeRequest decodes a request's head and settles it.
func (c *conn) decodeRequest(f *frame, h *wire.Head) (wire.Fault, error) {
	h.Version = wire.HTTP2
	bad, err := c.decode(f.payload, h, ofRequests)
	if err != nil || bad != wire.NoFault {
		return bad, err
	}
	if bad := h.Request(); bad != wire.NoFault {
		return bad, nil
	}
	if f.has(flagEndStream) {
		if h.Length > 0 {
			return wire.BadLength, nil
		}
		h.Length = 0
	}
	return wire.NoFault, nil
}
