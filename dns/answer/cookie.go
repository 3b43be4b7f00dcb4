package answer

import (
	"encoding/binary"
	"net/netip"
)

// cookies are the secrets of DNS cookies (RFC 7873, RFC 9018). The zero value
// has none: cookies are neither given nor checked.
type cookies struct {
	secret  func(day int64) [16]byte // nil where there are none by day
	fixed   [][16]byte               // the newest first; in place of those by day
	require bool                     // clients that know cookies must show one over UDP
}

func (c *cookies) on() bool { return c.secret != nil || len(c.fixed) > 0 }

// Lengths in octets (RFC 7873 section 4, RFC 9018 section 4).
const (
	clientCookieLen = 8
	serverCookieLen = 16
	cookieLen       = clientCookieLen + serverCookieLen
)

// Limits on a server cookie's age in seconds (RFC 9018 section 4.3).
const (
	cookieLife   = 3600
	cookieRenew  = 1800
	cookieFuture = 300
)

// cookie is the COOKIE option of a request.
type cookie struct {
	given  bool
	server int // octets of the server cookie; 0 where there is only the client's
	data   [clientCookieLen + 32]byte
}

// read takes the option's data: 8 octets of the client's, and nothing or 8 to
// 32 of the server's (RFC 7873 section 5.2.2).
func (c *cookie) read(data []byte) bool {
	n := len(data) - clientCookieLen
	if n != 0 && (n < 8 || n > 32) {
		return false
	}
	copy(c.data[:], data)
	c.given, c.server = true, n
	return true
}

// daily keeps the secrets of two days, so that deriving them is off the path
// of queries.
type daily struct {
	of   *Identity
	days [2]struct {
		day    int64 // 1 + the day; 0: empty
		secret [16]byte
	}
}

func (d *daily) secret(id *Identity, at uint32) *[16]byte {
	if d.of != id {
		*d = daily{of: id}
	}
	day := int64(at / 86400)
	e := &d.days[day%2]
	if e.day != day+1 {
		e.day, e.secret = day+1, id.Cookie(day)
	}
	return &e.secret
}

// checkCookie says whether the request shows a server cookie that is valid, and
// makes the one of the response, in w.cookie: the same one while it is fresh.
func (p *Plan) checkCookie(w *Worker, c *Client) (valid bool) {
	in, set := &w.req.cookie, &p.settings.cookies
	if !in.given || !set.on() {
		return false
	}
	copy(w.cookie[:], in.data[:cookieLen])
	if in.server == serverCookieLen && w.cookie[clientCookieLen] == 1 {
		made := binary.BigEndian.Uint32(w.cookie[12:])
		age := int32(c.Now - made) // serial arithmetic (RFC 1982)
		if age <= cookieLife && age >= -cookieFuture {
			if len(set.fixed) == 0 {
				valid = cookieHash(p.secretOf(w, made), &w.cookie, c.Addr) == binary.BigEndian.Uint64(w.cookie[16:])
			}
			for i := range set.fixed {
				valid = valid || cookieHash(&set.fixed[i], &w.cookie, c.Addr) == binary.BigEndian.Uint64(w.cookie[16:])
			}
		}
		if valid && age <= cookieRenew {
			return true
		}
	}
	w.cookie[8], w.cookie[9], w.cookie[10], w.cookie[11] = 1, 0, 0, 0
	binary.BigEndian.PutUint32(w.cookie[12:], c.Now)
	secret := p.secretOf(w, c.Now)
	binary.BigEndian.PutUint64(w.cookie[16:], cookieHash(secret, &w.cookie, c.Addr))
	return valid
}

// secretOf gives the secret for cookies made at a time.
func (p *Plan) secretOf(w *Worker, at uint32) *[16]byte {
	if len(p.settings.cookies.fixed) > 0 {
		return &p.settings.cookies.fixed[0]
	}
	return w.daily.secret(p.id, at)
}

// cookieHash hashes the client cookie, version, reserved octets and time of a
// cookie together with the client's address (RFC 9018 section 4.4).
func cookieHash(secret *[16]byte, c *[cookieLen]byte, addr netip.Addr) uint64 {
	var msg [16 + 16]byte
	n := copy(msg[:], c[:16])
	if addr.Is4() {
		a := addr.As4()
		n += copy(msg[n:], a[:])
	} else {
		a := addr.As16()
		n += copy(msg[n:], a[:])
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], sipHash(secret, msg[:n]))
	return binary.BigEndian.Uint64(b[:])
}
