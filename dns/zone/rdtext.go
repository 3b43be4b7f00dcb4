package zone

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

var (
	errShort = errors.New("data is missing")
	errMore  = errors.New("there is more data than the type has")
)

// readRDATA appends the wire form of the RDATA that follows.
func (p *parser) readRDATA(dst []byte, t uint16) ([]byte, error) {
	if err := p.need(); err != nil {
		return dst, err
	}
	if !p.quoted && len(p.tok) == 2 && p.tok[0] == '\\' && p.tok[1] == '#' {
		return p.readGeneric(dst)
	}
	form := textForm(t)
	if form == "" {
		return p.readRare(dst, t)
	}
	var err error
	for i := 0; i < len(form); i++ {
		f := form[i]
		if f == 'T' || f == 'x' || f == 'b' || f == 'B' || f == 'c' {
			return p.readRest(dst, f, i > 0)
		}
		if i > 0 {
			if err = p.need(); err != nil {
				return dst, err
			}
		}
		if p.inner {
			return dst, errInner
		}
		if dst, err = p.readField(dst, f); err != nil {
			return dst, err
		}
	}
	return dst, p.end()
}

// need moves to a token that must be there.
func (p *parser) need() error {
	more, err := p.next()
	if err == nil && !more {
		p.ended = true
		err = errShort
	}
	return err
}

// end asks for the end of the entry.
func (p *parser) end() error {
	more, err := p.next()
	if err != nil {
		return err
	}
	if more {
		return errMore
	}
	p.ended = true
	return nil
}

// readField appends the field that the token tells.
func (p *parser) readField(dst []byte, f byte) ([]byte, error) {
	tok := p.tok
	switch f {
	case '1', '2', '4':
		n := int(f - '0')
		v, ok := number(tok, 1<<(8*n)-1)
		if !ok {
			return dst, fmt.Errorf("%q is not a number of %d bits", tok, 8*n)
		}
		return appendNumber(dst, n, v), nil
	case 'n':
		return appendName(dst, tok, p.origin)
	case 'h':
		return appendGroups(dst, tok)
	case 'i':
		a, ok := parseIPv4(tok)
		if !ok {
			return dst, fmt.Errorf("%q is not an IPv4 address", tok)
		}
		return append(dst, a[:]...), nil
	case 'v':
		a, err := netip.ParseAddr(string(tok))
		if err != nil || !a.Is6() || a.Zone() != "" {
			return dst, fmt.Errorf("%q is not an IPv6 address", tok)
		}
		b := a.As16()
		return append(dst, b[:]...), nil
	case 'g':
		if !isTag(tok) {
			return dst, fmt.Errorf("%q is not of letters and digits", tok)
		}
		fallthrough
	case 's':
		return p.appendString(dst)
	case 't':
		v, ok := parseTTL(tok)
		if !ok {
			return dst, fmt.Errorf("%q is not a time in seconds", tok)
		}
		return binary.BigEndian.AppendUint32(dst, v), nil
	case 'd':
		v, ok := parseMoment(tok)
		if !ok {
			return dst, fmt.Errorf("%q is not a moment as YYYYMMDDHHmmSS", tok)
		}
		return binary.BigEndian.AppendUint32(dst, v), nil
	}
	return p.readCode(dst, f)
}

// readCode appends a field that is written in a code of its own: a type, an
// algorithm, a salt or a hash.
func (p *parser) readCode(dst []byte, f byte) ([]byte, error) {
	tok := p.tok
	switch f {
	case 'y':
		t, ok := p.typeOf(tok)
		if !ok {
			return dst, fmt.Errorf("%q is not a type", tok)
		}
		return binary.BigEndian.AppendUint16(dst, t), nil
	case 'a':
		if v, ok := number(tok, 255); ok {
			return append(dst, byte(v)), nil
		}
		v, ok := dns.StringToAlgorithm[strings.ToUpper(string(tok))]
		if !ok {
			return dst, fmt.Errorf("%q is not a DNSSEC algorithm", tok)
		}
		return append(dst, v), nil
	case 'S':
		return appendSalt(dst, tok)
	case 'H':
		hash, err := hexBase32.DecodeString(strings.ToUpper(string(tok)))
		if err != nil || len(hash) == 0 || len(hash) > 255 {
			return dst, fmt.Errorf("%q is not a hash in base32", tok)
		}
		return append(append(dst, byte(len(hash))), hash...), nil
	}
	return dst, errRDATA
}

// another moves to the record's next token; false, and the end is noted, where
// there is none.
func (p *parser) another() (bool, error) {
	more, err := p.next()
	if err == nil && !more {
		p.ended = true
	}
	return more, err
}

// readRest appends a field that takes all tokens that are left; move says to
// begin with the next one.
func (p *parser) readRest(dst []byte, f byte, move bool) ([]byte, error) {
	p.gather = p.gather[:0]
	for count := 0; ; count++ {
		if move || count > 0 {
			more, err := p.another()
			if err != nil {
				return dst, err
			}
			if !more {
				return p.endRest(dst, f, count)
			}
		}
		var err error
		if dst, err = p.readPart(dst, f, count); err != nil {
			return dst, err
		}
	}
}

// readPart takes one token of a field of several; count came before it.
func (p *parser) readPart(dst []byte, f byte, count int) ([]byte, error) {
	switch {
	case p.inner:
		return dst, errInner
	case f == 'T':
		return p.appendString(dst)
	case f == 'c' && count > 0:
		return dst, errMore
	case f == 'c':
		return appendOctets(dst, p.tok)
	case f == 'B':
		t, ok := p.typeOf(p.tok)
		if !ok {
			return dst, fmt.Errorf("%q is not a type", p.tok)
		}
		p.types = append(p.types, t)
	default:
		p.gather = append(p.gather, p.tok...)
	}
	return dst, nil
}

// endRest appends what the tokens of a field of several come to.
func (p *parser) endRest(dst []byte, f byte, count int) ([]byte, error) {
	switch {
	case f == 'B':
		slices.Sort(p.types)
		dst = AppendBitmap(dst, p.types)
		p.types = p.types[:0]
		return dst, nil
	case count == 0:
		return dst, errShort
	case f == 'x':
		return appendHex(dst, p.gather)
	case f == 'b':
		if len(p.gather) == 1 && p.gather[0] == '0' { // the key of a CDNSKEY that deletes (RFC 8078 section 4)
			return append(dst, 0), nil
		}
		out, err := base64.StdEncoding.AppendDecode(dst, p.gather)
		if err != nil {
			return dst, errors.New("the data is not base64")
		}
		return out, nil
	}
	return dst, nil
}

// readGeneric appends RDATA in the form for unknown types (RFC 3597 section 5).
func (p *parser) readGeneric(dst []byte) ([]byte, error) {
	if err := p.need(); err != nil {
		return dst, err
	}
	want, ok := number(p.tok, 65535)
	if !ok {
		return dst, fmt.Errorf("%q is not a length in octets", p.tok)
	}
	from := len(dst)
	p.gather = p.gather[:0]
	for {
		more, err := p.another()
		if err != nil {
			return dst, err
		}
		if !more {
			break
		}
		p.gather = append(p.gather, p.tok...)
	}
	dst, err := appendHex(dst, p.gather)
	if err != nil {
		return dst, err
	}
	if len(dst)-from != int(want) {
		return dst, fmt.Errorf("%d octets are announced and %d are there", want, len(dst)-from)
	}
	return dst, nil
}

// readRare appends RDATA of a type that miekg/dns parses.
func (p *parser) readRare(dst []byte, t uint16) ([]byte, error) {
	if dns.TypeToRR[t] == nil {
		return dst, fmt.Errorf("the data of this type must be written as \\# (RFC 3597)")
	}
	var line strings.Builder
	fmt.Fprintf(&line, ". 0 IN %s", TypeName(t))
	for more := true; more; {
		if p.quoted {
			fmt.Fprintf(&line, " \"%s\"", p.tok)
		} else {
			fmt.Fprintf(&line, " %s", p.tok)
		}
		var err error
		if more, err = p.next(); err != nil {
			return dst, err
		}
	}
	p.ended = true
	line.WriteByte('\n')
	zp := dns.NewZoneParser(strings.NewReader(line.String()), string(Text(p.origin)), "")
	rr, ok := zp.Next()
	if err := zp.Err(); err != nil {
		if m := syntaxForm.FindStringSubmatch(err.Error()); m != nil {
			said := strings.TrimSuffix(m[1], `: ""`)
			if at, ok := strings.CutPrefix(said, ": "); ok { // of the value of a service parameter
				said = "not understood: " + at
			}
			return dst, errors.New(said)
		}
		return dst, err
	}
	if !ok {
		return dst, errShort
	}
	_, rdata, err := pack(rr)
	if err != nil {
		return dst, err
	}
	if err := CheckRDATA(t, rdata); err != nil {
		return dst, err
	}
	return append(dst, rdata...), nil
}

// isTag says whether a string is of letters and digits (RFC 8659 section 4.1).
func isTag(s []byte) bool {
	for _, c := range s {
		if l := Lower(c); digit(c) > 9 && (l < 'a' || l > 'z') {
			return false
		}
	}
	return len(s) > 0
}

// appendString appends the token as a character string.
func (p *parser) appendString(dst []byte) ([]byte, error) {
	from := len(dst)
	dst = append(dst, 0)
	if !p.escaped {
		dst = append(dst, p.tok...)
	} else {
		var err error
		if dst, err = appendOctets(dst, p.tok); err != nil {
			return dst, err
		}
	}
	n := len(dst) - from - 1
	if n > 255 {
		return dst, errors.New("a character string is longer than 255 octets")
	}
	dst[from] = byte(n)
	return dst, nil
}

// appendOctets appends what a token stands for.
func appendOctets(dst, tok []byte) ([]byte, error) {
	for i := 0; i < len(tok); i++ {
		c := tok[i]
		if c == '\\' {
			v, n, err := unescape(tok, i)
			if err != nil {
				return dst, err
			}
			c = v
			i += n - 1
		}
		dst = append(dst, c)
	}
	return dst, nil
}

func appendSalt(dst, tok []byte) ([]byte, error) {
	if len(tok) == 1 && tok[0] == '-' {
		return append(dst, 0), nil
	}
	if len(tok) > 510 {
		return dst, errors.New("the salt is longer than 255 octets")
	}
	return appendHex(append(dst, byte(len(tok)/2)), tok)
}

func appendHex(dst, text []byte) ([]byte, error) {
	if len(text)%2 != 0 {
		return dst, errors.New("hexadecimal data has an odd number of digits")
	}
	for i := 0; i < len(text); i += 2 {
		a, b := hexDigit(text[i]), hexDigit(text[i+1])
		if a > 15 || b > 15 {
			return dst, errors.New("the data is not hexadecimal")
		}
		dst = append(dst, a<<4|b)
	}
	return dst, nil
}

func hexDigit(c byte) byte {
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

func appendNumber(dst []byte, octets int, v uint64) []byte {
	for i := octets - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

// number reads a decimal number of at most limit.
func number(tok []byte, limit uint64) (uint64, bool) {
	if len(tok) == 0 || len(tok) > 19 {
		return 0, false
	}
	var v uint64
	for _, c := range tok {
		d := digit(c)
		if d > 9 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	return v, v <= limit
}

// parseIPv4 reads an address as four decimal numbers.
func parseIPv4(tok []byte) (a [4]byte, ok bool) {
	at := 0
	for i := range a {
		v, from := 0, at
		for at < len(tok) && digit(tok[at]) <= 9 && at-from < 3 {
			v = v*10 + int(digit(tok[at]))
			at++
		}
		if at == from || v > 255 || at-from > 1 && tok[from] == '0' {
			return a, false
		}
		a[i] = byte(v)
		if i < 3 {
			if at == len(tok) || tok[at] != '.' {
				return a, false
			}
			at++
		}
	}
	return a, at == len(tok)
}

// parseTTL reads seconds, or numbers with units (1h30m): w, d, h, m, s.
func parseTTL(tok []byte) (uint32, bool) {
	var sum, v uint64
	digits, unit := 0, false
	for _, c := range tok {
		if d := digit(c); d <= 9 {
			v = v*10 + uint64(d)
			digits++
			if v > 1<<32-1 {
				return 0, false
			}
			continue
		}
		if digits == 0 {
			return 0, false
		}
		switch Lower(c) {
		case 'w':
			v *= 7 * 86400
		case 'd':
			v *= 86400
		case 'h':
			v *= 3600
		case 'm':
			v *= 60
		case 's':
		default:
			return 0, false
		}
		sum += v
		v, digits, unit = 0, 0, true
	}
	if digits > 0 == unit { // digits behind the last unit, or nothing at all
		return 0, false
	}
	sum += v
	return uint32(sum), sum <= 1<<32-1
}

// parseMoment reads a moment of a signature (RFC 4034 section 3.2).
func parseMoment(tok []byte) (uint32, bool) {
	if len(tok) != 14 {
		v, ok := number(tok, 1<<32-1)
		return uint32(v), ok
	}
	at, err := time.Parse("20060102150405", string(tok))
	return uint32(at.Unix()), err == nil // serial arithmetic: RFC 4034 section 3.1.5
}
