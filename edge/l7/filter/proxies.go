package filter

import (
	"bytes"
	"net/netip"
	"unsafe"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Proxies knows whose word about clients is believed.
type Proxies struct {
	nets  []netip.Prefix
	field fleet.TrustedField
}

// NewProxies makes it of the Spec's part.
func NewProxies(g *fleet.Gateway) *Proxies {
	p := &Proxies{field: g.TrustedField}
	for _, n := range g.TrustedProxies {
		p.nets = append(p.nets, n.Masked())
	}
	return p
}

// Trusts says whether an address is one of theirs. Of nil it is none.
func (p *Proxies) Trusts(a netip.Addr) bool {
	if p == nil {
		return false
	}
	for _, n := range p.nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// Client gives the client's address and scheme ("" where nobody trusted tells):
// of the addresses that the trusted field lists, and the connection's own last,
// the rightmost that is no trusted proxy's; where all are, the leftmost. What is
// no address ends the search, since what stands left of it is nobody's word. It
// does not allocate.
func (p *Proxies) Client(peer netip.Addr, h *wire.Head) (client netip.Addr, scheme string) {
	if !p.Trusts(peer) {
		return peer, ""
	}
	client = peer
	id := wire.XForwardedFor
	if p.field == fleet.TrustForwarded {
		id = wire.Forwarded
	} else {
		scheme = schemeOf(h.Get(wire.XForwardedProto))
	}
	for i := len(h.Fields) - 1; i >= 0; i-- {
		if h.Fields[i].ID != id {
			continue
		}
		for rest := h.Fields[i].Value; rest != nil; {
			var one []byte
			if rest, one = lastElement(rest); id == wire.Forwarded {
				var proto []byte
				if one, proto = forwardedElement(one); proto != nil {
					scheme = schemeOf(proto)
				}
			}
			a, ok := address(one)
			if !ok {
				return client, scheme
			}
			if client = a; !p.Trusts(a) {
				return client, scheme
			}
		}
	}
	return client, scheme
}

func schemeOf(b []byte) string {
	switch string(b) {
	case "http":
		return "http"
	case "https":
		return "https"
	}
	return ""
}

// lastElement takes the last element off a list; rest is nil where there was
// only one. A comma within quotes is none; quotes hold no backslash that
// matters here, since addresses have none.
func lastElement(list []byte) (rest, last []byte) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch list[i] {
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				return list[:i:i], bytes.Trim(list[i+1:], " \t")
			}
		}
	}
	return nil, bytes.Trim(list, " \t")
}

// forwardedElement gives the parameters for and proto (RFC 7239 section 4).
func forwardedElement(one []byte) (of, proto []byte) {
	for len(one) > 0 {
		var pair []byte
		pair, one, _ = bytes.Cut(one, []byte{';'})
		name, value, _ := bytes.Cut(bytes.Trim(pair, " \t"), []byte{'='})
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		switch {
		case fold(name, "for"):
			of = value
		case fold(name, "proto"):
			proto = value
		}
	}
	return of, proto
}

func fold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// address reads an address, with or without port, IPv6 with or without
// brackets.
func address(b []byte) (netip.Addr, bool) {
	if len(b) == 0 || len(b) > 64 || bytes.IndexByte(b, '%') >= 0 {
		return netip.Addr{}, false
	}
	s := unsafe.String(&b[0], len(b)) // ParseAddr keeps it in errors alone, and those go no further
	if s[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		s = s[1:end]
	} else if i := bytes.IndexByte(b, ':'); i >= 0 && bytes.IndexByte(b, '.') >= 0 && bytes.LastIndexByte(b, ':') == i {
		s = s[:i]
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// AppendForwarded appends one element of Forwarded (RFC 7239).
func AppendForwarded(b []byte, client netip.Addr, host []byte, scheme string) []byte {
	b = append(b, "for="...)
	switch {
	case !client.IsValid():
		b = append(b, "unknown"...)
	case client.Is6():
		b = append(client.AppendTo(append(b, `"[`...)), `]"`...)
	default:
		b = client.AppendTo(b)
	}
	if len(host) > 0 {
		b = append(append(append(b, `;host="`...), host...), '"')
	}
	return append(append(b, ";proto="...), scheme...)
}

// Networks is a set of client networks.
type Networks []netip.Prefix

// Has says whether the address is in the set.
func (n Networks) Has(a netip.Addr) bool {
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func networks(list []string) Networks {
	var out Networks
	for _, s := range list {
		if p, err := fleet.ParseNetwork(s); err == nil { // fleet has checked
			out = append(out, p)
		}
	}
	return out
}

// Access says which clients are served.
type Access struct {
	lines   []fleet.Access
	refuses bool // all lines refuse
}

func compileAccess(list []string) *Access {
	if len(list) == 0 {
		return nil
	}
	a := &Access{refuses: true}
	for _, s := range list {
		line, err := fleet.ParseAccess(s)
		if err != nil {
			continue // fleet has checked
		}
		a.lines = append(a.lines, line)
		a.refuses = a.refuses && line.Deny
	}
	return a
}

// Allows: the first line that fits decides; a client that none fits is served
// where all lines refuse.
func (a *Access) Allows(client netip.Addr) bool {
	if a == nil {
		return true
	}
	for i := range a.lines {
		if a.lines[i].From.Contains(client) {
			return !a.lines[i].Deny
		}
	}
	return a.refuses
}
