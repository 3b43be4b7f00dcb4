package imports

import (
	"slices"
	"strings"
)

// hash, array and string are the values of gdnsd's configuration language.
// A hash keeps the order of its keys.
type hash struct {
	keys []string
	vals map[string]any
	line map[string]int
}

func (h *hash) get(key string) any {
	if h == nil {
		return nil
	}
	return h.vals[key]
}

func (h *hash) sub(key string) *hash {
	v, _ := h.get(key).(*hash)
	return v
}

// text gives a single value, of a list of one too.
func (h *hash) text(key string) string {
	switch v := h.get(key).(type) {
	case string:
		return v
	case []any:
		if len(v) == 1 {
			s, _ := v[0].(string)
			return s
		}
	}
	return ""
}

// list gives a value's strings, be it one or several.
func list(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// parseVSCF reads gdnsd's configuration language (gdnsd.config(5)): hashes,
// arrays and scalars; the file is a hash without braces.
func parseVSCF(name string, text []byte, files Files) (*hash, error) {
	p := &vscf{newSource(name, text, files, 0)}
	h := newHash()
	if err := p.pairs(h, 0, false); err != nil {
		return nil, err
	}
	return h, nil
}

func newHash() *hash { return &hash{vals: map[string]any{}, line: map[string]int{}} }

type vscf struct{ source }

const maxNesting = 64

// space skips blanks, comments and commas.
func (p *vscf) space() {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '\n':
			p.line++
		case c == ' ' || c == '\t' || c == '\r' || c == ',' || c == ';':
		case c == '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
			continue
		default:
			return
		}
		p.at++
	}
}

func (p *vscf) peek() byte {
	if p.space(); p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// word reads a scalar, quoted or not.
func (p *vscf) word() (string, error) {
	var b strings.Builder
	if p.peek() == '"' {
		for p.at++; p.at < len(p.text); p.at++ {
			switch c := p.text[p.at]; c {
			case '"':
				p.at++
				return b.String(), nil
			case '\\':
				if p.at++; p.at < len(p.text) {
					b.WriteByte(p.text[p.at])
				}
			default:
				if c == '\n' {
					p.line++
				}
				b.WriteByte(c)
			}
		}
		return "", p.errorf("a quote is not closed")
	}
	for p.at < len(p.text) && !strings.ContainsRune(" \t\r\n,;#{}[]=\"", rune(p.text[p.at])) {
		if p.text[p.at] == '\\' && p.at+1 < len(p.text) {
			p.at++
		}
		b.WriteByte(p.text[p.at])
		p.at++
	}
	if b.Len() == 0 {
		return "", p.errorf("expected a word, found %q", p.peek())
	}
	return b.String(), nil
}

func (p *vscf) pairs(h *hash, depth int, closed bool) error {
	if depth > maxNesting {
		return p.errorf("nested more than %d deep", maxNesting)
	}
	for {
		switch p.peek() {
		case 0:
			if closed {
				return p.errorf("a brace is not closed")
			}
			return nil
		case '}':
			if !closed {
				return p.errorf("a brace too many")
			}
			p.at++
			return nil
		}
		line := p.line
		key, err := p.word()
		if err != nil {
			return err
		}
		if key == "$include" {
			if err := p.include(h, depth); err != nil {
				return err
			}
			continue
		}
		if p.peek() != '=' {
			return p.errorf("expected = or => after %q", key)
		}
		if p.at++; p.at < len(p.text) && p.text[p.at] == '>' {
			p.at++
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		if slices.Contains(h.keys, key) {
			return p.errorf("%q is given twice", key)
		}
		h.keys, h.vals[key], h.line[key] = append(h.keys, key), v, line
	}
}

// include reads $include{FILE} as if its pairs stood here.
func (p *vscf) include(h *hash, depth int) error {
	if p.peek() != '{' {
		return p.errorf("expected $include{FILE}")
	}
	p.at++
	name, err := p.word()
	if err != nil {
		return err
	}
	if p.peek() != '}' {
		return p.errorf("expected $include{FILE}")
	}
	p.at++
	in, err := p.open(name)
	if err != nil {
		return err
	}
	return (&vscf{in}).pairs(h, depth, false)
}

func (p *vscf) value(depth int) (any, error) {
	if depth > maxNesting {
		return nil, p.errorf("nested more than %d deep", maxNesting)
	}
	switch p.peek() {
	case '{':
		p.at++
		h := newHash()
		return h, p.pairs(h, depth, true)
	case '[':
		p.at++
		out := []any{}
		for p.peek() != ']' {
			if p.peek() == 0 {
				return nil, p.errorf("a bracket is not closed")
			}
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		p.at++
		return out, nil
	}
	return p.word()
}
