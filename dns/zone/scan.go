package zone

import "errors"

// scanner splits master-file text into tokens (RFC 1035 section 5.1).
type scanner struct {
	data  []byte
	at    int
	line  uint32 // of data[at]
	depth int    // open parentheses
	open  uint32 // line of the first of them

	tok     []byte // the last token: without its quotes, escapes as written
	tokLine uint32 // where it begins
	quoted  bool   // it stood in quotes
	escaped bool   // it holds a backslash
	inner   bool   // it is a word with quotes inside
}

// What an octet is to the scanner.
const (
	plain = iota
	blank
	special // ends a word, or a backslash or quote in it
)

var octets = func() (t [256]uint8) {
	for _, c := range []byte(" \t\r") {
		t[c] = blank
	}
	for _, c := range []byte("\n;()\"\\") {
		t[c] = special
	}
	return t
}()

var (
	errOpen   = errors.New("a parenthesis is not closed")
	errClose  = errors.New("a parenthesis is closed and none is open")
	errQuote  = errors.New("a quoted string does not end on its line")
	errEscape = errors.New("a backslash ends the line")
)

// next moves to the next token; false at the end of the entry, whose newline
// is taken.
func (s *scanner) next() (bool, error) {
	s.escaped, s.inner, s.quoted = false, false, false
	for s.at < len(s.data) {
		c := s.data[s.at]
		switch {
		case octets[c] == blank:
			s.at++
		case c == '\n':
			s.tokLine = s.line
			s.at++
			s.line++
			if s.depth == 0 {
				return false, nil
			}
		case c == ';':
			s.comment()
		case c == '(':
			if s.depth++; s.depth == 1 {
				s.open = s.line
			}
			s.at++
		case c == ')':
			s.at++
			if s.depth == 0 {
				s.tokLine = s.line
				return false, errClose
			}
			s.depth--
		case c == '"':
			s.tokLine = s.line
			s.at++
			from := s.at
			if err := s.quote(); err != nil {
				return false, err
			}
			s.quoted = true
			s.tok = s.data[from : s.at-1]
			return true, nil
		default:
			return true, s.word()
		}
	}
	s.tokLine = s.line
	if s.depth > 0 {
		s.depth, s.tokLine = 0, s.open
		return false, errOpen
	}
	return false, nil
}

func (s *scanner) comment() {
	for s.at < len(s.data) && s.data[s.at] != '\n' {
		s.at++
	}
}

// quote moves behind the quote that ends a string.
func (s *scanner) quote() error {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case '"':
			s.at++
			return nil
		case '\n':
			return errQuote
		case '\\':
			s.escaped = true
			s.at++
			if s.at == len(s.data) || s.data[s.at] == '\n' {
				return errQuote
			}
		}
		s.at++
	}
	return errQuote
}

// word takes a token without quotes around it.
func (s *scanner) word() error {
	from := s.at
	s.tokLine = s.line
	for s.at < len(s.data) {
		c := s.data[s.at]
		if octets[c] == plain {
			s.at++
			continue
		}
		switch c {
		case '\\':
			s.escaped = true
			s.at++
			if s.at == len(s.data) || s.data[s.at] == '\n' {
				return errEscape
			}
			s.at++
			continue
		case '"':
			s.inner = true
			s.at++
			if err := s.quote(); err != nil {
				return err
			}
			continue
		}
		break
	}
	s.tok = s.data[from:s.at]
	return nil
}

// skip moves to the end of the entry after an error.
func (s *scanner) skip() {
	for {
		more, err := s.next()
		switch {
		case !more && err == nil:
			return
		case err == errOpen:
			return
		case err == errQuote || err == errEscape:
			s.comment() // the rest of the line means nothing
		}
	}
}

// digit gives the value of a decimal digit, or a number above 9.
func digit(c byte) uint8 { return c - '0' }

var errDDD = errors.New("a backslash is followed by a digit and not by three that make an octet")

// unescape gives the octet that the escape at tok[i] stands for, and how many
// octets it takes (RFC 1035 section 5.1).
func unescape(tok []byte, i int) (c byte, n int, err error) {
	if i+1 >= len(tok) {
		return 0, 0, errEscape
	}
	if digit(tok[i+1]) > 9 {
		return tok[i+1], 2, nil
	}
	if i+3 >= len(tok) || digit(tok[i+2]) > 9 || digit(tok[i+3]) > 9 {
		return 0, 0, errDDD
	}
	v := int(digit(tok[i+1]))*100 + int(digit(tok[i+2]))*10 + int(digit(tok[i+3]))
	if v > 255 {
		return 0, 0, errDDD
	}
	return byte(v), 4, nil
}

var (
	errEmptyLabel = errors.New("a name has an empty label")
	errLongLabel  = errors.New("a name has a label of more than 63 octets")
	errLongName   = errors.New("a name is longer than 255 octets")
	errInner      = errors.New("a quote stands inside of a word")
)

// appendName appends the wire form of a name as written; origin ends those
// without a final dot.
func appendName(dst, tok, origin []byte) ([]byte, error) {
	if len(tok) == 1 && tok[0] == '@' {
		return append(dst, origin...), nil
	}
	if len(tok) == 1 && tok[0] == '.' {
		return append(dst, 0), nil
	}
	if len(tok) == 0 {
		return dst, errEmptyLabel
	}
	from := len(dst)
	label := from
	dst = append(dst, 0)
	for i := 0; i < len(tok); i++ {
		c := tok[i]
		switch c {
		case '.':
			n := len(dst) - label - 1
			if n == 0 {
				return dst, errEmptyLabel
			}
			if n > 63 {
				return dst, errLongLabel
			}
			dst[label] = byte(n)
			label = len(dst)
			dst = append(dst, 0)
			continue
		case '\\':
			v, n, err := unescape(tok, i)
			if err != nil {
				return dst, err
			}
			c = v
			i += n - 1
		case '"':
			return dst, errInner
		}
		dst = append(dst, c)
	}
	if n := len(dst) - label - 1; n > 63 {
		return dst, errLongLabel
	} else if n > 0 {
		dst[label] = byte(n)
		dst = append(dst, origin...)
	}
	if len(dst)-from > 255 {
		return dst, errLongName
	}
	return dst, nil
}
