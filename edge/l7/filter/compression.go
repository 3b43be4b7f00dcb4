package filter

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// Compression says which answers are compressed, and how.
type Compression struct {
	codings   []fleet.Coding // the preferred first
	types     map[string]bool
	families  []string // "text/" of text/*
	minLength int64
}

// compressible are the media types that are compressed unless the Spec says
// otherwise.
var compressible = []string{"text/*", "application/json", "application/javascript", "application/xml", "application/xhtml+xml",
	"application/rss+xml", "application/atom+xml", "application/ld+json", "application/manifest+json", "application/problem+json",
	"application/geo+json", "application/graphql-response+json", "application/wasm", "application/x-ndjson", "image/svg+xml", "font/ttf", "font/otf"}

func compileCompression(c *fleet.Compression, at string, errs *fleet.Errors) *Compression {
	if c == nil || c.Off {
		return nil
	}
	out := &Compression{codings: c.Encodings, types: map[string]bool{}, minLength: int64(c.MinLength)}
	for i, e := range c.Encodings {
		if slices.Contains(c.Encodings[:i], e) {
			errs.Addf(fmt.Sprintf("%s.encodings[%d]", at, i), "%s is given twice", e)
		}
	}
	types := c.Types
	if len(types) == 0 {
		types = compressible
	}
	for i, t := range types {
		major, minor, ok := strings.Cut(strings.ToLower(t), "/")
		switch {
		case !ok || !validName(major) || !validName(minor):
			errs.Addf(fmt.Sprintf("%s.types[%d]", at, i), "%q: expected a media type such as text/html or text/*", t)
		case minor == "*":
			out.families = append(out.families, major+"/")
		default:
			out.types[major+"/"+minor] = true
		}
	}
	return out
}

// Choose gives the coding for an answer, "" for none. Where the answer could be
// coded for another client it gets Vary (RFC 9110 section 12.5.5). Left as they
// are: answers without body or to HEAD, parts (206) and those to requests for
// parts, encoded ones, those with no-transform (RFC 9111 section 5.2.2.6), and
// too short ones.
func (c *Compression) Choose(req, answer *wire.Head) fleet.Coding {
	if c == nil || req.Is("HEAD") || answer.Status < 200 || answer.Status == 204 || answer.Status == 206 || answer.Status == 304 ||
		answer.Length >= 0 && answer.Length < c.minLength || len(answer.Get(wire.ContentEncoding)) > 0 ||
		!c.typed(answer.Get(wire.ContentType)) || hasToken(answer, wire.CacheControl, "no-transform") || answer.Find("Content-Range", 0) >= 0 {
		return ""
	}
	addVary(answer, "Accept-Encoding")
	if req.Find("Range", 0) >= 0 || hasToken(req, wire.CacheControl, "no-transform") {
		return ""
	}
	return c.negotiate(req)
}

// typed says whether bodies of that Content-Type are compressed.
func (c *Compression) typed(value []byte) bool {
	if i := bytes.IndexByte(value, ';'); i >= 0 {
		value = value[:i]
	}
	var buf [64]byte
	value = bytes.TrimSpace(value)
	if len(value) == 0 || len(value) > len(buf) {
		return false
	}
	lower := buf[:len(value)]
	for i, ch := range value {
		if 'A' <= ch && ch <= 'Z' {
			ch |= 0x20
		}
		lower[i] = ch
	}
	if c.types[string(lower)] {
		return true
	}
	for _, f := range c.families {
		if len(lower) > len(f) && string(lower[:len(f)]) == f && string(lower) != "text/event-stream" {
			return true
		}
	}
	return false
}

// negotiate picks by Accept-Encoding (RFC 9110 section 12.5.3): the highest
// quality, of equals the gateway's preference.
func (c *Compression) negotiate(req *wire.Head) fleet.Coding {
	var best fleet.Coding
	top := 0
	for _, coding := range c.codings {
		if q := quality(req, string(coding)); q > top {
			best, top = coding, q
		}
	}
	if top < quality(req, "identity") && quality(req, "identity") < 1001 {
		return "" // the client names identity, and likes it more
	}
	return best
}

// quality gives how much the client likes a coding, in thousandths; 1001 is
// identity that it does not name.
func quality(req *wire.Head, coding string) int {
	q, star := -1, -1
	for i := range req.Fields {
		if req.Fields[i].ID != wire.AcceptEncoding {
			continue
		}
		for rest := req.Fields[i].Value; len(rest) > 0; {
			var one []byte
			one, rest, _ = bytes.Cut(rest, []byte{','})
			name, param, _ := bytes.Cut(one, []byte{';'})
			switch name = bytes.TrimSpace(name); {
			case fold(name, coding), coding == "gzip" && fold(name, "x-gzip"):
				q = weight(param)
			case string(name) == "*":
				star = weight(param)
			}
		}
	}
	switch {
	case q >= 0:
		return q
	case coding == "identity":
		return 1001
	case star >= 0:
		return star
	}
	return 0
}

// weight reads ;q=0.5 in thousandths; what is none counts as 0.
func weight(param []byte) int {
	param = bytes.TrimSpace(param)
	if len(param) == 0 {
		return 1000
	}
	if len(param) < 3 || len(param) > 7 || param[0]|0x20 != 'q' || param[1] != '=' || param[2] > '1' || param[2] < '0' {
		return 0
	}
	q, unit := int(param[2]-'0')*1000, 100
	for i, ch := range param[3:] {
		switch {
		case i == 0 && ch == '.':
		case i > 0 && '0' <= ch && ch <= '9':
			q += int(ch-'0') * unit
			unit /= 10
		default:
			return 0
		}
	}
	return min(q, 1000)
}

// Mark makes an answer's head that of its coded form: without length, and with
// a weak entity tag, since its octets are others (RFC 9110 section 8.8.1).
func Mark(answer *wire.Head, coding fleet.Coding) {
	answer.Del("Content-Length")
	answer.Del("Accept-Ranges")
	answer.Del("Content-Digest")
	answer.Del("Repr-Digest")
	answer.Length = -1
	answer.AddID(wire.ContentEncoding, string(coding))
	for i := range answer.Fields {
		if f := &answer.Fields[i]; f.ID == wire.ETag && bytes.HasPrefix(f.Value, []byte{'"'}) {
			f.Value = answer.Keep(append([]byte("W/"), f.Value...))
		}
	}
}

// hasToken says whether a field's comma-separated list holds the token.
func hasToken(h *wire.Head, id wire.ID, token string) bool {
	for i := range h.Fields {
		if h.Fields[i].ID != id {
			continue
		}
		for rest := h.Fields[i].Value; len(rest) > 0; {
			var one []byte
			one, rest, _ = bytes.Cut(rest, []byte{','})
			if fold(bytes.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}

// addVary adds a name to Vary unless it is there, or all are.
func addVary(h *wire.Head, name string) {
	if !hasToken(h, wire.Vary, strings.ToLower(name)) && !hasToken(h, wire.Vary, "*") {
		h.AddID(wire.Vary, name)
	}
}
