package wire

// Request settles what a request's fields say of it, and refuses what any
// version of HTTP forbids. ParseRequest calls it; a carrier of HTTP/2 or HTTP/3
// does when it has set Version, the pseudo-fields and Fields. There, Length is
// then -1 unless the client gave it: a carrier that knows that no body follows
// sets it to 0 (and refuses a Length above that), and it must see to it that
// the body has that length.
func (h *Head) Request() Fault {
	var f Fault
	if h.Version >= HTTP2 {
		f = h.pseudo()
	} else {
		f = h.connection()
	}
	if f != NoFault {
		return f
	}
	if f := h.host(); f != NoFault {
		return f
	}
	if f := h.framing(); f != NoFault {
		return f
	}
	if h.Length < 0 && !h.Chunked && h.Version < HTTP2 {
		h.Length = 0 // RFC 9112 section 6.3, rule 7
	}
	if h.Length != 0 && h.Version != HTTP10 {
		if v := h.Get(Expect); v != nil {
			if !EqualFold(v, "100-continue") || h.Count(Expect) > 1 {
				return BadExpect
			}
			h.Expect = true
		}
	}
	if h.Length != 0 && h.Version < HTTP2 {
		if h.Is("TRACE") || h.Is("CONNECT") {
			return BadLength
		}
		h.Upgrade = nil // which a server may ignore (RFC 9110 section 7.8)
	}
	return NoFault
}

// connection reads Connection and what hangs on it (RFC 9110 section 7.6.1).
func (h *Head) connection() Fault {
	var upgrade, leave, stay bool
	h.listed = false
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.ID {
		case TE:
			h.Trailers = h.Trailers || Token(f.Value, "trailers")
		case Connection:
			for list := f.Value; len(list) > 0; {
				var one []byte
				one, list = cut(list)
				switch {
				case len(one) == 0:
				case EqualFold(one, "close"):
					leave = true
				case EqualFold(one, "keep-alive"):
					stay = true
				case EqualFold(one, "upgrade"):
					upgrade = true
				case !ValidName(one):
					return BadConnection
				default:
					switch Lookup(one) {
					case Host, ContentLength, TransferEncoding:
						return BadConnection // without them the message were another
					}
					h.listed = true
				}
			}
		}
	}
	h.KeepAlive = h.Version == HTTP10 && stay && !leave
	h.Close = leave || h.Version == HTTP10 && !stay
	if upgrade && h.Version == HTTP11 && h.Count(Upgrade) == 1 {
		if u := h.Get(Upgrade); switchable(u) {
			h.Upgrade = u
		}
	}
	return NoFault
}

// switchable says whether a connection may become a tunnel of that protocol:
// one token, and none by which requests would go past the gateway unread.
func switchable(u []byte) bool {
	name := u
	for i, c := range u {
		if c == '/' {
			name = u[:i]
			if !ValidName(u[i+1:]) {
				return false
			}
			break
		}
	}
	return ValidName(name) && !EqualFold(name, "h2c") && !EqualFold(name, "h2") && !EqualFold(name, "http") && !EqualFold(name, "tls")
}

// pseudo checks what RFC 9113 section 8 and RFC 9114 section 4 demand.
func (h *Head) pseudo() Fault {
	if !ValidName(h.Method) {
		return BadPseudo
	}
	switch {
	case h.Protocol != nil && (!h.Is("CONNECT") || !ValidName(h.Protocol) || len(h.Authority) == 0):
		return BadPseudo
	case h.PlainConnect():
		if h.Scheme != nil || h.Target != nil || len(h.Authority) == 0 {
			return BadPseudo
		}
	case string(h.Scheme) != "http" && string(h.Scheme) != "https":
		return BadPseudo
	case string(h.Target) == "*":
		if !h.Is("OPTIONS") {
			return BadTarget
		}
	case len(h.Target) == 0 || h.Target[0] != '/' || !validPath(h.Target):
		return BadTarget
	}
	return h.multiplexed()
}

// multiplexed checks the fields of one stream among many.
func (h *Head) multiplexed() Fault {
	for i := range h.Fields {
		f := &h.Fields[i]
		for _, c := range f.Name {
			if !tokens[c] || 'A' <= c && c <= 'Z' {
				return BadName
			}
		}
		switch {
		case len(f.Name) == 0:
			return BadName
		case !ValidValue(f.Value):
			return BadValue
		}
		switch f.ID {
		case Connection, KeepAlive, ProxyConnection, TransferEncoding, Upgrade, HTTP2Settings:
			return BadConnection
		case TE:
			if !EqualFold(f.Value, "trailers") {
				return BadConnection
			}
			h.Trailers = true
		}
	}
	return NoFault
}

// host settles whom the request is for (RFC 9112 section 3.2, RFC 9113 section
// 8.3.1).
func (h *Head) host() Fault {
	var host []byte
	n := 0
	for i := range h.Fields {
		if h.Fields[i].ID == Host {
			host = h.Fields[i].Value
			n++
		}
	}
	switch {
	case n > 1 || n == 0 && h.Version == HTTP11:
		return BadHost
	case n == 0 && h.Authority == nil && h.Version >= HTTP2:
		return BadHost
	case n == 1 && !validAuthority(host) || !validAuthority(h.Authority):
		return BadHost
	case h.Authority == nil:
		h.Authority = host
	case n == 1 && !sameAuthority(h.Authority, host, h.Scheme):
		return BadHost
	}
	return NoFault
}

// sameAuthority compares without the scheme's usual port.
func sameAuthority(a, b, scheme []byte) bool {
	port := ":80"
	if EqualFold(scheme, "https") {
		port = ":443"
	}
	return EqualFold(without(a, port), string(without(b, port)))
}

func without(b []byte, port string) []byte {
	if n := len(b) - len(port); n > 0 && string(b[n:]) == port {
		return b[:n]
	}
	return b
}

// framing finds how the body ends, as far as the fields say.
func (h *Head) framing() Fault {
	h.Length, h.Chunked = -1, false
	lengths, codings := 0, 0
	for i := range h.Fields {
		switch f := &h.Fields[i]; f.ID {
		case ContentLength:
			n, ok := number(f.Value)
			if lengths++; !ok || lengths > 1 {
				return BadLength
			}
			h.Length = n
		case TransferEncoding:
			codings++
			if codings > 1 || h.Version != HTTP11 || !EqualFold(f.Value, "chunked") {
				return BadCoding
			}
			h.Chunked = true
		}
	}
	if lengths > 0 && codings > 0 {
		return LengthAndCoding
	}
	return NoFault
}

// Answer settles what an endpoint's answer to a request of that method says of
// itself, and refuses what could be read in two ways. Length is 0 where no body
// follows whatever the fields say (HEAD, 1xx, 204, 304); -1 without Chunked: the
// body ends with the connection, and Close is set. So it does after a 2xx to
// CONNECT, which has a tunnel in the place of a body whatever the fields say.
func (h *Head) Answer(method []byte) Fault {
	var f Fault
	if h.Version >= HTTP2 {
		f = h.multiplexed()
	} else {
		f = h.connection()
	}
	if f != NoFault {
		return f
	}
	if h.Status < 100 || h.Status > 599 {
		return BadStatus
	}
	if f := h.framing(); f != NoFault {
		return f
	}
	switch {
	case string(method) == "CONNECT" && h.Status/100 == 2 && h.Version < HTTP2:
		h.Length, h.Chunked, h.Close = -1, false, true // RFC 9110 section 9.3.6
	case h.Status < 200 || h.Status == 204:
		if h.Chunked || h.Length > 0 {
			return BadLength // RFC 9110 section 8.6, RFC 9112 section 6.1
		}
		h.Length, h.Chunked = 0, false
	case h.Status == 304 || string(method) == "HEAD":
		h.Length, h.Chunked = 0, false
	case h.Length < 0 && !h.Chunked && h.Version < HTTP2:
		h.Close = true
	}
	return NoFault
}

// DropListed removes the fields that Connection names as belonging to the
// connection, but for those that always do (ID.HopByHop).
func (h *Head) DropListed() {
	if !h.listed {
		return
	}
	n := 0
	for i := range h.Fields {
		f := h.Fields[i]
		if !f.ID.HopByHop() && h.names(f.Name) {
			continue
		}
		h.Fields[n] = f // Connection fields stay among them
		n++
	}
	h.Fields = h.Fields[:n]
}

func (h *Head) names(field []byte) bool {
	for j := range h.Fields {
		if h.Fields[j].ID == Connection && HopByHop(h.Fields[j].Value, field) {
			return true
		}
	}
	return false
}
