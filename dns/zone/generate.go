package zone

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

var errRange = errors.New("$GENERATE: the range is not START-STOP or START-STOP/STEP")

// generate makes records of a pattern, as BIND does: $GENERATE START-STOP[/STEP]
// OWNER [TTL] [CLASS] TYPE RDATA, in which $ stands for the number,
// ${OFFSET,WIDTH,BASE} for the number written so, and $$ or \$ for a dollar
// sign.
func (p *parser) generate() error {
	line := p.tokLine
	if err := p.need(); err != nil {
		return fmt.Errorf("$GENERATE: %w", err)
	}
	start, stop, step, err := parseRange(p.tok)
	if err != nil {
		return err
	}
	pattern, err := p.pattern()
	if err != nil {
		return fmt.Errorf("$GENERATE: %w", err)
	}
	p.ended = true
	p.tokLine = line
	if *p.made += (stop-start)/step + 1; *p.made > maxGenerated {
		return fmt.Errorf("$GENERATE: more than %d records", maxGenerated)
	}
	in := parser{b: p.b, file: p.file, origin: p.origin, ttl: p.ttl, made: p.made}
	var text []byte
	for i := start; i <= stop; i += step {
		if text, err = expand(text[:0], pattern, i); err != nil {
			return fmt.Errorf("$GENERATE: %w", err)
		}
		if octets[text[0]] == blank || text[0] == '$' {
			return errors.New("$GENERATE: the pattern makes no owner")
		}
		in.data, in.at, in.line, in.ended = text, 0, line, false
		if err := in.entry(); err != nil {
			return fmt.Errorf("$GENERATE: %w", err)
		}
	}
	p.ttl.last = in.ttl.last
	p.owner = append(p.owner[:0], in.owner...)
	return nil
}

// pattern gathers what is left of the line. RDATA of several words may stand
// in quotes, as BIND asks for, and is what is inside of them.
func (p *parser) pattern() ([]byte, error) {
	var out, last []byte
	rdata, quoted := 0, false // words behind the type, and whether the last stood in quotes
	typed := false
	for first := true; ; first = false {
		more, err := p.next()
		if err != nil || !more {
			if rdata == 1 && quoted {
				out = append(out[:len(out)-len(last)-2], bytes.ReplaceAll(last, []byte(`\"`), []byte{'"'})...)
			}
			return out, err
		}
		if !first {
			out = append(out, ' ')
		}
		if typed {
			rdata++
		} else if _, ttl := parseTTL(p.tok); !first && !ttl {
			_, typed = p.typeOf(p.tok)
		}
		if last, quoted = p.tok, p.quoted; quoted {
			out = append(append(append(out, '"'), last...), '"')
		} else {
			out = append(out, last...)
		}
	}
}

// maxGenerateNumber bounds the numbers of $GENERATE, as BIND does.
const maxGenerateNumber = 1<<31 - 1

func parseRange(tok []byte) (start, stop, step int, err error) {
	step = 1
	span, every, stepped := bytes.Cut(tok, []byte("/"))
	a, b, ok := bytes.Cut(span, []byte("-"))
	from, ok1 := number(a, maxGenerateNumber)
	to, ok2 := number(b, maxGenerateNumber)
	if stepped {
		v, ok := number(every, maxGenerateNumber)
		if !ok || v == 0 {
			return 0, 0, 0, errRange
		}
		step = int(v)
	}
	if !ok || !ok1 || !ok2 || to < from {
		return 0, 0, 0, errRange
	}
	return int(from), int(to), step, nil
}

// expand writes the pattern for one number.
func expand(dst, pattern []byte, number int) ([]byte, error) {
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '\\' && i+1 < len(pattern):
			dst = append(dst, c, pattern[i+1])
			i++
		case c != '$':
			dst = append(dst, c)
		case i+1 < len(pattern) && pattern[i+1] == '$':
			dst = append(dst, '\\', '$')
			i++
		case i+1 < len(pattern) && pattern[i+1] == '{':
			end := bytes.IndexByte(pattern[i:], '}')
			if end < 0 {
				return nil, errors.New("${ without }")
			}
			var err error
			if dst, err = appendModified(dst, pattern[i+2:i+end], number); err != nil {
				return nil, err
			}
			i += end
		default:
			dst = strconv.AppendInt(dst, int64(number), 10)
		}
	}
	if len(dst) == 0 {
		return nil, errors.New("there is no pattern")
	}
	return dst, nil
}

// appendModified writes a number as OFFSET[,WIDTH[,BASE]] says.
func appendModified(dst, modifier []byte, n int) ([]byte, error) {
	bad := fmt.Errorf("${%s} is not ${OFFSET,WIDTH,BASE}", modifier)
	parts := bytes.Split(modifier, []byte(","))
	if len(parts) > 3 {
		return nil, bad
	}
	digits := bytes.TrimPrefix(parts[0], []byte("-"))
	v, ok := number(bytes.TrimPrefix(digits, []byte("+")), maxGenerateNumber)
	if !ok {
		return nil, bad
	}
	if n += int(v); len(digits) < len(parts[0]) {
		n -= 2 * int(v)
	}
	if n < 0 {
		return nil, fmt.Errorf("${%s} makes a number below 0", modifier)
	}
	width, base := uint64(0), byte('d')
	if len(parts) > 1 {
		if width, ok = number(parts[1], 255); !ok {
			return nil, bad
		}
	}
	if len(parts) > 2 {
		if len(parts[2]) != 1 {
			return nil, bad
		}
		base = parts[2][0]
	}
	switch base {
	case 'd', 'o', 'x', 'X':
		return fmt.Appendf(dst, "%0*"+string(base), int(width), n), nil
	case 'n', 'N':
		return appendNibbles(dst, n, int(width), base == 'N'), nil
	}
	return nil, bad
}

// appendNibbles writes a number as hexadecimal digits, the lowest first, each
// a label of its own; width counts the dots too.
func appendNibbles(dst []byte, n, width int, upper bool) []byte {
	digits := "0123456789abcdef"
	if upper {
		digits = "0123456789ABCDEF"
	}
	for {
		dst = append(dst, digits[n&15])
		n >>= 4
		width--
		if width <= 0 && n == 0 {
			return dst
		}
		dst = append(dst, '.')
		if width--; width <= 0 && n == 0 {
			return dst
		}
	}
}
