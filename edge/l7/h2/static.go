package h2

import "meridian/edge/l7/wire"

// staticField is an entry of HPACK's static table.
type staticField struct{ field }

// static is that table (RFC 7541 appendix A); its first entry stands for index 0.
var static = makeStatic(
	"", "", ":authority", "", ":method", "GET", ":method", "POST", ":path", "/", ":path", "/index.html",
	":scheme", "http", ":scheme", "https", ":status", "200", ":status", "204", ":status", "206", ":status", "304",
	":status", "400", ":status", "404", ":status", "500", "accept-charset", "", "accept-encoding", "gzip, deflate",
	"accept-language", "", "accept-ranges", "", "accept", "", "access-control-allow-origin", "", "age", "", "allow", "",
	"authorization", "", "cache-control", "", "content-disposition", "", "content-encoding", "", "content-language", "",
	"content-length", "", "content-location", "", "content-range", "", "content-type", "", "cookie", "", "date", "",
	"etag", "", "expect", "", "expires", "", "from", "", "host", "", "if-match", "", "if-modified-since", "",
	"if-none-match", "", "if-range", "", "if-unmodified-since", "", "last-modified", "", "link", "", "location", "",
	"max-forwards", "", "proxy-authenticate", "", "proxy-authorization", "", "range", "", "referer", "", "refresh", "",
	"retry-after", "", "server", "", "set-cookie", "", "strict-transport-security", "", "transfer-encoding", "",
	"user-agent", "", "vary", "", "via", "", "www-authenticate", "",
)

// Indexes of the static table that the encoder names.
const (
	staticAuthority = 1
	staticGet       = 2
	staticPost      = 3
	staticPath      = 4
	staticHTTP      = 6
	staticHTTPS     = 7
	staticStatus    = 8
)

func makeStatic(list ...string) []staticField {
	out := make([]staticField, 0, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		name := []byte(list[i])
		out = append(out, staticField{field{id: wire.Lookup(name), name: name, value: []byte(list[i+1])}})
	}
	return out
}

// knownName is what the encoder needs of a known name: its index in the static
// table, 0 where it has none, and its lower-case spelling.
type knownName struct {
	index int
	lower []byte
}

var knownNames = makeKnown()

func makeKnown() (out [wire.IDs]knownName) {
	for id := 1; id < len(out); id++ {
		out[id].lower = lowered(nil, wire.ID(id).Name())
	}
	for i := len(static) - 1; i > 0; i-- {
		if id := static[i].id; id != wire.Other {
			out[id].index = i
		}
	}
	return out
}

// lowered appends name in lower case.
func lowered(b, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}
