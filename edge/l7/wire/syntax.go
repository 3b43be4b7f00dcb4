package wire

import "encoding/binary"

// tokens marks the octets of RFC 9110 section 5.6.2.
var tokens = makeTokens()

func makeTokens() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}

// ValidName says whether b is a field name (RFC 9110 section 5.1).
func ValidName(b []byte) bool {
	for _, c := range b {
		if !tokens[c] {
			return false
		}
	}
	return len(b) > 0
}

// ValidValue says whether b is a field value (RFC 9110 section 5.5): no
// controls but tabs, and no space around it. Octets beyond ASCII pass.
func ValidValue(b []byte) bool {
	if n := len(b); n > 0 && (blank(b[0]) || blank(b[n-1])) {
		return false
	}
	return plain(b)
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// plain says whether b holds no control but tabs.
func plain(b []byte) bool {
	const ones = 0x0101010101010101
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		del := x ^ ones*0x7f
		if (x-ones*0x20)&^x&(ones*0x80) != 0 || (del-ones)&^del&(ones*0x80) != 0 {
			if !plainly(b[:8]) {
				return false
			}
		}
		b = b[8:]
	}
	return plainly(b)
}

func plainly(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim takes spaces and tabs off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// cut takes the first element off a list (RFC 9110 section 5.6.1).
func cut(list []byte) (first, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), nil
}

// HopByHop says whether conn, the value of a Connection field, names the field.
func HopByHop(conn, name []byte) bool {
	for len(conn) > 0 {
		var one []byte
		one, conn = cut(conn)
		if EqualFold(one, string(name)) {
			return true
		}
	}
	return false
}

// Token says whether the list holds the token, in any case.
func Token(list []byte, token string) bool {
	for len(list) > 0 {
		var one []byte
		one, list = cut(list)
		if EqualFold(one, token) {
			return true
		}
	}
	return false
}

// number reads digits alone, so many as always fit.
func number(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// validAuthority accepts a name or an address, with or without a port (RFC
// 3986 section 3.2.2, less what names of hosts never hold). None at all is
// allowed.
func validAuthority(b []byte) bool {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		for i = 1; i < len(b) && b[i] != ']'; i++ {
			if c := b[i]; Unhex(c) > 15 && c != ':' && c != '.' {
				return false
			}
		}
		if i < 3 || i >= len(b) {
			return false
		}
		i++
	} else {
		for ; i < len(b) && b[i] != ':'; i++ {
			if c := lower(b[i]); (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
				return false
			}
		}
		if i == 0 && len(b) > 0 {
			return false // a port alone
		}
	}
	if i == len(b) {
		return true
	}
	port := b[i+1:]
	if b[i] != ':' || len(port) > 5 {
		return false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// Unhex gives the value of a hexadecimal digit, or 255.
func Unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// validPath accepts a path and query: visible ASCII without "#", whose path
// has no broken escape.
func validPath(b []byte) bool {
	query := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return false
		case c == '?':
			query = true
		case c == '%' && !query:
			if i+2 >= len(b) || Unhex(b[i+1]) > 15 || Unhex(b[i+2]) > 15 {
				return false
			}
		}
	}
	return true
}
