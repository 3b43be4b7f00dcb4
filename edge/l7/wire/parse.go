package wire

import "bytes"

// Limit bounds a head. Each of its numbers must be above 0.
type Limit struct {
	Octets int // of the whole head, its last CRLF among them
	Line   int // octets of the request or status line
	Fields int
}

// Usual limits, but for Octets, which the operator sets.
const (
	MaxLine   = 16 << 10
	MaxFields = 128
)

// ParseRequest reads the head of an HTTP/1.1 or HTTP/1.0 request that begins
// with b's first octet (RFC 9112 sections 2 to 6), and gives the number of
// octets that it takes. Nothing is copied: h's slices lie in b, until h's
// Reset. 0 and NoFault: it is not complete; call again with the same octets
// and more, at the same place or another, and what was looked at is not looked
// at again. After a fault, what h holds is of no worth but for Version and
// Method. It does not allocate, once h has grown.
func ParseRequest(b []byte, h *Head, limit Limit) (int, Fault) {
	n, f := h.end(b, limit)
	if n == 0 || f != NoFault {
		return 0, f
	}
	line := b[:bytes.IndexByte(b, '\n')-1]
	if f := h.requestLine(line); f != NoFault {
		return 0, f
	}
	if f := h.fields(b[len(line)+2:n-2], limit.Fields); f != NoFault {
		return 0, f
	}
	if f := h.Request(); f != NoFault {
		return 0, f
	}
	return n, NoFault
}

// ParseAnswer reads the head of an answer to a request of that method, as
// ParseRequest does a request's.
func ParseAnswer(b []byte, h *Head, method []byte, limit Limit) (int, Fault) {
	n, f := h.end(b, limit)
	if n == 0 || f != NoFault {
		return 0, f
	}
	line := b[:bytes.IndexByte(b, '\n')-1]
	if f := h.statusLine(line); f != NoFault {
		return 0, f
	}
	if f := h.fields(b[len(line)+2:n-2], limit.Fields); f != NoFault {
		return 0, f
	}
	if f := h.Answer(method); f != NoFault {
		return 0, f
	}
	return n, NoFault
}

// end finds the empty line that ends a head, and gives the octets up to and
// with it; 0 where it is not there yet. Every line must end in CRLF.
func (h *Head) end(b []byte, limit Limit) (int, Fault) {
	at := h.scanned // the first octet of a line
	for {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		lf := at + i
		switch {
		case i == 0 || b[lf-1] != '\r':
			return 0, BareLF
		case at == 0 && lf-1 > limit.Line:
			return 0, TargetTooLong
		case lf >= limit.Octets:
			return 0, TooLarge
		case i == 1 && at == 0:
			return 0, BadLine // empty
		case i == 1:
			h.scanned = 0
			return lf + 1, NoFault
		}
		at = lf + 1
	}
	h.scanned = at
	switch {
	case at == 0 && len(b) > limit.Line:
		return 0, TargetTooLong
	case len(b) >= limit.Octets:
		return 0, TooLarge
	}
	return 0, NoFault
}

// version reads "HTTP/1.1" and "HTTP/1.0".
func (h *Head) version(b []byte) Fault {
	switch string(b) {
	case "HTTP/1.1":
		h.Version = HTTP11
	case "HTTP/1.0":
		h.Version = HTTP10
	default:
		if len(b) == 8 && string(b[:5]) == "HTTP/" && b[6] == '.' && number1(b[5]) && number1(b[7]) {
			return BadVersion
		}
		return BadLine
	}
	return NoFault
}

func number1(c byte) bool { return '0' <= c && c <= '9' }

// requestLine reads METHOD SP TARGET SP VERSION with single spaces.
func (h *Head) requestLine(line []byte) Fault {
	first := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if first <= 0 || first == last || !ValidName(line[:first]) {
		return BadLine
	}
	h.Method = line[:first:first]
	if f := h.version(line[last+1:]); f != NoFault {
		return f
	}
	target := line[first+1 : last : last]
	switch {
	case len(target) == 0:
		return BadTarget
	case target[0] == '/':
		h.Target = target
	case h.Is("CONNECT"):
		i := bytes.LastIndexByte(target, ':')
		if i <= 0 || i == len(target)-1 || !validAuthority(target) {
			return BadTarget
		}
		h.Authority = target
		return NoFault
	case len(target) == 1 && target[0] == '*':
		if !h.Is("OPTIONS") {
			return BadTarget
		}
		h.Target = target
	default:
		return h.absolute(target)
	}
	if h.Is("CONNECT") || !validPath(h.Target) {
		return BadTarget
	}
	return NoFault
}

var slash, star = []byte("/"), []byte("*")

// absolute reads http://AUTHORITY[/PATH][?QUERY], and https alike.
func (h *Head) absolute(target []byte) Fault {
	i := bytes.Index(target, []byte("://"))
	if i < 0 || !EqualFold(target[:i], "http") && !EqualFold(target[:i], "https") {
		return BadTarget
	}
	h.Scheme = target[:i:i]
	rest := target[i+3:]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	h.Authority = rest[:end:end]
	if end == 0 || !validAuthority(h.Authority) || !validPath(rest[end:]) {
		return BadTarget
	}
	switch path := rest[end:]; {
	case len(path) == 0 && h.Is("OPTIONS"):
		h.Target = star // RFC 9112 section 3.2.4
	case len(path) == 0:
		h.Target = slash
	case path[0] == '?':
		h.arena = append(h.arena, '/')
		h.arena = append(h.arena, path...)
		h.Target = h.arena[len(h.arena)-len(path)-1:]
	default:
		h.Target = path
	}
	return NoFault
}

// statusLine reads VERSION SP 3DIGIT [SP REASON]; the space before an empty
// reason is often left out.
func (h *Head) statusLine(line []byte) Fault {
	if len(line) < 12 || line[8] != ' ' {
		return BadLine
	}
	if f := h.version(line[:8]); f != NoFault {
		return f
	}
	status, ok := number(line[9:12])
	if !ok || len(line) > 12 && line[12] != ' ' || !plain(line[12:]) {
		return BadLine
	}
	if h.Status = int(status); status < 100 || status > 599 {
		return BadStatus
	}
	if len(line) > 13 {
		h.Reason = line[13:]
	}
	return NoFault
}

// fields reads lines that each end in CRLF; end has seen to that.
func (h *Head) fields(b []byte, limit int) Fault {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n') - 1
		line := b[:i:i]
		b = b[i+2:]
		if blank(line[0]) {
			return BadFold
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 {
			return BadName
		}
		name, value := line[:colon:colon], trim(line[colon+1:])
		switch {
		case !ValidName(name):
			return BadName
		case !plain(value):
			return BadValue
		case len(h.Fields) == limit:
			return TooLarge
		}
		h.Fields = append(h.Fields, Field{Lookup(name), name, value})
	}
	return NoFault
}
