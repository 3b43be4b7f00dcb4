package route

import (
	"errors"
	"net/netip"
	"strings"

	"meridian/edge/l7/wire"
)

var (
	errHost     = errors.New("the host is malformed")
	errPath     = errors.New("the path is malformed")
	errSegments = errors.New("the path holds . or .. segments")
)

// Host brings the value of a Host header (RFC 9110 section 7.2) to the form
// that the table uses: lower case, without port and without a final dot. An
// empty host is allowed and stays empty. Names longer than 253 octets, or with
// anything but letters, digits, hyphens, underscores and dots, are refused, as
// is a literal that is no address. A host that is in that form already is
// returned without allocating.
func Host(raw string) (string, error) {
	if strings.HasPrefix(raw, "[") {
		return literal(raw)
	}
	if i := strings.IndexByte(raw, ':'); i >= 0 {
		if i == 0 || !isPort(raw[i+1:]) {
			return "", errHost
		}
		raw = raw[:i]
	}
	if raw == "" {
		return "", nil
	}
	host := strings.TrimSuffix(raw, ".")
	if host == "" || len(host) > 253 {
		return "", errHost
	}
	label, upper := 0, false
	for i := 0; i < len(host); i++ {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case 'A' <= c && c <= 'Z':
			label++
			upper = true
		case c == '.' && label > 0:
			label = 0
		default:
			return "", errHost
		}
	}
	if label == 0 {
		return "", errHost
	}
	if upper {
		host = strings.ToLower(host)
	}
	return host, nil
}

// literal reads [IPv6] or [IPv6]:port (RFC 3986 section 3.2.2).
func literal(raw string) (string, error) {
	end := strings.IndexByte(raw, ']')
	if end < 0 {
		return "", errHost
	}
	if rest := raw[end+1:]; rest != "" && (rest[0] != ':' || !isPort(rest[1:])) {
		return "", errHost
	}
	a, err := netip.ParseAddr(raw[1:end])
	if err != nil || !a.Is6() || a.Zone() != "" {
		return "", errHost
	}
	return a.String(), nil
}

// isPort accepts the digits of a port; none at all is allowed (RFC 3986
// section 3.2.3).
func isPort(s string) bool {
	if len(s) > 5 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Path brings an escaped path to the form that routes are matched in (RFC 3986
// sections 6.2.2.1 and 6.2.2.2): escapes of unreserved octets are decoded, the
// others are upper-cased, so that no spelling of a path finds another route
// than its plain one. Dot segments are refused, plain or escaped: every client
// of good will has removed them, and what an endpoint makes of them is not
// known here. A path that is in that form already is returned without
// allocating. The path must begin with a slash; "*" (OPTIONS) stands for "/".
func Path(escaped string) (string, error) {
	if escaped == "*" {
		return "/", nil
	}
	if escaped == "" || escaped[0] != '/' {
		return "", errPath
	}
	path := escaped
	if strings.IndexByte(escaped, '%') >= 0 {
		var err error
		if path, err = decodeUnreserved(escaped); err != nil {
			return "", err
		}
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c <= ' ' || c == 0x7f:
			return "", errPath
		case c == '/' && dots(path[i+1:]):
			return "", errSegments
		}
	}
	return path, nil
}

// dots says whether s begins with a segment of one or two dots.
func dots(s string) bool {
	n := 0
	for n < len(s) && s[n] == '.' {
		n++
	}
	return (n == 1 || n == 2) && (n == len(s) || s[n] == '/')
}

func decodeUnreserved(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errPath
		}
		hi, lo := wire.Unhex(s[i+1]), wire.Unhex(s[i+2])
		if hi > 15 || lo > 15 {
			return "", errPath
		}
		i += 2
		c := hi<<4 | lo
		switch {
		case c == 0:
			return "", errPath
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			const digits = "0123456789ABCDEF"
			b.Write([]byte{'%', digits[hi], digits[lo]})
		}
	}
	return b.String(), nil
}
