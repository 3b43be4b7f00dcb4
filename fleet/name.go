package fleet

import (
	"fmt"
	"strings"
)

// Name is a domain name in canonical form: lower case, absolute, with a final
// dot and RFC 1035 escapes where a label holds a dot, a backslash or an octet
// that does not print. The zero value is not a name. Two Names are the same
// name exactly when the strings are equal.
type Name string

// ParseName reads a domain name as an operator writes it: with or without the
// final dot, in any case. A label is 1 to 63 octets, the whole at most 255
// octets on the wire (RFC 1035 section 2.3.4).
func ParseName(s string) (Name, error) {
	if s == "" {
		return "", fmt.Errorf("domain name is empty")
	}
	if s == "." {
		return ".", nil
	}
	s = strings.TrimSuffix(s, ".")
	var b strings.Builder
	wire, label := 1, 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			if label == 0 {
				return "", fmt.Errorf("domain name %q has an empty label", s)
			}
			wire += label + 1
			label = 0
			b.WriteByte('.')
			continue
		case c == '\\':
			n, err := writeEscape(&b, s, i)
			if err != nil {
				return "", err
			}
			i += n
		case 'A' <= c && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		case c <= ' ' || c >= 0x7f:
			return "", fmt.Errorf("domain name %q holds an octet that must be written \\DDD", s)
		default:
			b.WriteByte(c)
		}
		if label++; label > 63 {
			return "", fmt.Errorf("domain name %q has a label of more than 63 octets", s)
		}
	}
	if label == 0 {
		return "", fmt.Errorf("domain name %q has an empty label", s)
	}
	if wire+label+1 > 255 {
		return "", fmt.Errorf("domain name %q is longer than 255 octets", s)
	}
	b.WriteByte('.')
	return Name(b.String()), nil
}

// writeEscape copies the canonical form of the escape at s[i] and says how
// many octets follow the backslash.
func writeEscape(b *strings.Builder, s string, i int) (int, error) {
	rest := s[i+1:]
	if rest == "" {
		return 0, fmt.Errorf("domain name %q ends in a backslash", s)
	}
	v, n := rest[0], 1
	if '0' <= v && v <= '9' {
		if len(rest) < 3 {
			return 0, fmt.Errorf("domain name %q has a \\DDD escape of fewer than three digits", s)
		}
		d := 0
		for _, c := range []byte(rest[:3]) {
			if c < '0' || c > '9' {
				return 0, fmt.Errorf("domain name %q has a \\DDD escape that is not a number", s)
			}
			d = d*10 + int(c-'0')
		}
		if d > 255 {
			return 0, fmt.Errorf("domain name %q has a \\DDD escape above 255", s)
		}
		v, n = byte(d), 3
	}
	if 'A' <= v && v <= 'Z' {
		v += 'a' - 'A'
	}
	switch {
	case v <= ' ' || v >= 0x7f:
		fmt.Fprintf(b, "\\%03d", v)
	case strings.IndexByte(`.\"();@$`, v) >= 0:
		b.WriteByte('\\')
		b.WriteByte(v)
	default:
		b.WriteByte(v)
	}
	return n, nil
}

// String gives the name with its final dot.
func (n Name) String() string { return string(n) }

// In says whether n is zone itself or below it.
func (n Name) In(zone Name) bool {
	if zone == "." || n == zone {
		return true
	}
	return strings.HasSuffix(string(n), "."+string(zone)) && !escapedDot(string(n), len(n)-len(zone)-1)
}

// escapedDot says whether the dot at s[i] is an escaped one, part of a label.
func escapedDot(s string, i int) bool {
	n := 0
	for i--; i >= 0 && s[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// Under gives the name of label below zone; "@" is the zone itself and a
// label with a final dot stands for itself.
func Under(label string, zone Name) (Name, error) {
	switch {
	case label == "@":
		return zone, nil
	case strings.HasSuffix(label, ".") && !escapedDot(label, len(label)-1):
		return ParseName(label)
	case zone == ".":
		return ParseName(label + ".")
	}
	return ParseName(label + "." + string(zone))
}

// MarshalText and UnmarshalText let a Name stand in YAML, JSON and flags.
func (n Name) MarshalText() ([]byte, error) { return []byte(n), nil }

// UnmarshalText parses as ParseName does.
func (n *Name) UnmarshalText(b []byte) error {
	v, err := ParseName(string(b))
	if err == nil {
		*n = v
	}
	return err
}
