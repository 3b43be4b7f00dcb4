package l7

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// hopByHop are the header fields that belong to one connection (RFC 9110
// section 7.6.1), and older ones of their kind.
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Http2-Settings": true,
}

// token says whether a list of comma-separated tokens holds t, in any case.
func token(values []string, t string) bool {
	for _, v := range values {
		for v != "" {
			var one string
			one, v, _ = strings.Cut(v, ",")
			if strings.EqualFold(textproto.TrimString(one), t) {
				return true
			}
		}
	}
	return false
}

// forwards says whether a field speaks about the client in the place of the
// gateway. Fields that differ from one of these only by underscores count as
// well: a CGI endpoint could not tell them apart.
func forwards(key string) bool {
	if strings.IndexByte(key, '_') >= 0 {
		key = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(key, "_", "-"))
	}
	return key == "Forwarded" || key == "X-Real-Ip" || key == "X-Request-Id" || strings.HasPrefix(key, "X-Forwarded-") || speaksOfClientCert(key)
}

// upgrade gives the protocol that a request or response switches to, or "".
func upgrade(h http.Header) string {
	if v := h["Upgrade"]; len(v) == 1 && token(h["Connection"], "upgrade") {
		return v[0]
	}
	return ""
}

var (
	noAgent     = []string{""} // keeps net/http from inventing one
	teTrailers  = []string{"trailers"}
	connUpgrade = []string{"Upgrade"}
)

// requestHeader is what the endpoint is told: the client's header without what
// belongs to its connection or speaks for the gateway, and the gateway's own
// words about the client.
func (x *exchange) requestHeader() http.Header {
	in := x.r.Header
	out := make(http.Header, len(in)+8)
	conn := in["Connection"]
	for k, v := range in {
		if hopByHop[k] || forwards(k) || len(conn) > 0 && token(conn, k) {
			continue
		}
		out[k] = v
	}
	if token(in["Te"], "trailers") {
		out["Te"] = teTrailers
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = noAgent
	}
	if u := upgrade(in); u != "" && x.r.ProtoMajor == 1 {
		out["Connection"], out["Upgrade"] = connUpgrade, []string{u}
		if strings.EqualFold(u, "websocket") {
			webSocketCase(out)
		}
	}
	if x.r.TLS != nil {
		x.gen.tellClientCert(out, x.index, x.r.TLS)
	}
	// One array serves the five fields.
	own := []string{x.id, x.scheme, x.r.Host, x.publicPort(), x.client.String()}
	out["X-Request-Id"] = own[0:1:1]
	out["X-Forwarded-Proto"] = own[1:2:2]
	out["X-Forwarded-Host"] = own[2:3:3]
	out["X-Forwarded-Port"] = own[3:4:4]
	if x.client.IsValid() {
		out["X-Forwarded-For"] = own[4:5:5]
	}
	return out
}

// publicPort is the port that the client speaks of.
func (x *exchange) publicPort() string {
	if i := strings.LastIndexByte(x.r.Host, ':'); i >= 0 && i+1 < len(x.r.Host) && !strings.HasSuffix(x.r.Host, "]") {
		return x.r.Host[i+1:]
	}
	if x.scheme == "https" {
		return "443"
	}
	return "80"
}

// webSocketCase spells the WebSocket fields as RFC 6455 does. Names are
// case-insensitive, but there are endpoints and clients that look for these.
func webSocketCase(h http.Header) {
	for _, k := range [...]string{"Key", "Version", "Extensions", "Protocol", "Accept"} {
		if v, ok := h["Sec-Websocket-"+k]; ok {
			delete(h, "Sec-Websocket-"+k)
			h["Sec-WebSocket-"+k] = v
		}
	}
}

// request makes what one try sends.
func (x *exchange) request(ctx context.Context, ep *endpoint, header http.Header) *http.Request {
	out := x.r.WithContext(ctx)
	out.Header = header
	out.URL = &url.URL{
		Scheme: "http", Host: ep.address,
		Path: x.r.URL.Path, RawPath: x.r.URL.RawPath,
		RawQuery: x.r.URL.RawQuery, ForceQuery: x.r.URL.ForceQuery,
	}
	if x.r.URL.Path == "*" {
		out.URL.Path, out.URL.Opaque = "", "*"
	}
	if p := x.pool; p.tls != nil {
		out.URL.Scheme, out.URL.Host = "https", x.serverName(ep)
	}
	out.RequestURI = ""
	out.Close = false
	out.TransferEncoding = nil
	out.Trailer = x.r.Trailer // filled in when the body ends
	out.Body = x.body.next()
	out.ContentLength = x.body.length
	return out
}

// serverName is the authority that the transport takes the TLS server name
// from, and by which it keeps connections apart. Where to connect it knows.
func (x *exchange) serverName(ep *endpoint) string {
	switch {
	case x.pool.tls.ServerName != "":
		return x.pool.tls.ServerName
	case x.host == "":
		return ep.address
	case strings.Contains(x.host, ":"):
		return "[" + x.host + "]"
	}
	return x.host
}

// requestID keeps a client's X-Request-ID of 1 to 128 harmless characters, so
// that a request can be followed from its origin on, and makes one of 128
// random bits where there is none.
func requestID(h http.Header) string {
	if v := h["X-Request-Id"]; len(v) == 1 && validID(v[0]) {
		return v[0]
	}
	var b [16]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	return hex.EncodeToString(b[:])
}

func validID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.:/+=", c) >= 0:
		default:
			return false
		}
	}
	return true
}
