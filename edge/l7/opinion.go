package l7

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"strings"

	"meridian/edge/l7/wire"
)

// waitingOpinions bounds the heads that wait to be read a second time; more are
// passed over.
const waitingOpinions = 64

// opinion is what one reader makes of a request's head: all on which it depends where
// the request goes and where it ends.
type opinion struct {
	Method, Host, Target string
	Length               int64 // -1 where it is chunked
	Fields               int   // but for those that net/http takes out or makes up, see counts
}

// doubt is a head that is to be read a second time.
type doubt struct {
	octets []byte // a copy
	first  opinion
	c      *conn
}

// second asks for a second opinion on a request now and then.
func (f *clientFront) second(octets []byte) {
	g := f.cl.s.g
	if g.cfg.SecondOpinion == 0 || g.heads.Add(1)%g.cfg.SecondOpinion != 0 {
		return
	}
	select {
	case g.doubts <- doubt{bytes.Clone(octets), ours(&f.h), f.cl.c}:
	default:
	}
}

// ours is the engine's opinion, before anything of the head is changed.
func ours(h *wire.Head) opinion {
	o := opinion{Method: string(h.Method), Host: strings.ToLower(string(h.Authority)), Target: string(h.Target), Length: h.Length}
	if h.Chunked {
		o.Length = -1
	}
	for i := range h.Fields {
		if counts(h.Fields[i].Name) {
			o.Fields++
		}
	}
	return o
}

// counts says whether a field counts: net/http takes some out, Trailer of bodies in
// chunks alone, and makes Cache-Control of Pragma.
func counts(name []byte) bool {
	switch wire.Lookup(name) {
	case wire.Host, wire.TransferEncoding, wire.Trailer, wire.CacheControl:
		return false
	}
	return true
}

// theirs is that of net/http; false: it takes the head for malformed.
func theirs(octets []byte) (opinion, bool) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(octets)))
	if err != nil {
		return opinion{}, false
	}
	o := opinion{Method: r.Method, Host: strings.ToLower(r.Host), Target: r.RequestURI, Length: r.ContentLength}
	if len(r.TransferEncoding) > 0 {
		o.Length = -1
	}
	switch {
	case r.Method == http.MethodConnect:
		o.Target = ""
	case r.URL.IsAbs():
		o.Target = originForm(r)
	}
	for name, v := range r.Header {
		if counts([]byte(name)) {
			o.Fields += len(v)
		}
	}
	return o, true
}

// originForm is what the engine makes of a target in absolute form, with the escapes
// that it came with, which RequestURI of a URL would change.
func originForm(r *http.Request) string {
	rest := r.RequestURI[len(r.URL.Scheme)+len("://"):]
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0 && r.Method == http.MethodOptions:
		return "*"
	case i < 0:
		return "/"
	case rest[i] == '?':
		return "/" + rest[i:]
	}
	return rest[i:]
}

// compare reads heads a second time until ctx ends. Where the two disagree, neither
// is to be trusted: the client's connection, and a request under way on it, end.
func (g *Gateway) compare(ctx context.Context) {
	read := theirs
	if g.cfg.theirs != nil {
		read = g.cfg.theirs
	}
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-g.doubts:
			o, ok := read(d.octets)
			g.metrics.stress.parsed.Inc()
			if ok && o == d.first {
				continue
			}
			g.metrics.stress.disagreements.Inc()
			g.cfg.Logger.Error("gateway: two parsers disagree on a request", "head", redact(d.octets), "well_formed", ok,
				"length", d.first.Length, "other_length", o.Length, "fields", d.first.Fields, "other_fields", o.Fields)
			d.c.Conn.Close()
			d.c.abort.Fire()
		}
	}
}

// redact keeps a head's form and hides what it says: letters and digits become x,
// but for the names of fields. At most 4 KiB are kept.
func redact(head []byte) string {
	out := bytes.Clone(head[:min(len(head), 4<<10)])
	name := false // the request line has none
	for i, c := range out {
		switch {
		case c == '\n':
			name = true
		case c == ':':
			name = false
		case !name && ('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c >= 0x80):
			out[i] = 'x'
		}
	}
	return string(out)
}
