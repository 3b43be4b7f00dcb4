package route

import (
	"bytes"
	"strings"

	"meridian/edge/l7/wire"
)

// Parameter gives the first value of a parameter of a query (the
// application/x-www-form-urlencoded form of the URL standard), decoded. It
// allocates only where there is something to decode.
func Parameter(query []byte, name string) ([]byte, bool) {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		key, value, _ := bytes.Cut(pair, []byte{'='})
		if string(decode(key)) == name && len(pair) > 0 {
			return decode(value), true
		}
	}
	return nil, false
}

// decode turns + and escapes to what they stand for; what is no escape stays.
func decode(s []byte) []byte {
	if bytes.IndexByte(s, '%') < 0 && bytes.IndexByte(s, '+') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(s) && wire.Unhex(s[i+1]) < 16 && wire.Unhex(s[i+2]) < 16:
			c = wire.Unhex(s[i+1])<<4 | wire.Unhex(s[i+2])
			i += 2
		}
		out = append(out, c)
	}
	return out
}

// Cookie gives the first cookie of that name (RFC 6265 section 4.2.1). It does
// not allocate.
func Cookie(h *wire.Head, name string) ([]byte, bool) {
	for i := range h.Fields {
		if h.Fields[i].ID != wire.Cookie {
			continue
		}
		for rest := h.Fields[i].Value; len(rest) > 0; {
			var one []byte
			one, rest, _ = bytes.Cut(rest, []byte{';'})
			one = bytes.TrimLeft(one, " \t")
			if len(one) > len(name) && one[len(name)] == '=' && string(one[:len(name)]) == name {
				return bytes.Trim(one[len(name)+1:], " \t"), true
			}
		}
	}
	return nil, false
}

// under says whether path is prefix itself or below it.
func under(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}
