package imports

import (
	"fmt"
	"strings"
)

// statement is one statement of named.conf: words, and for a block the
// statements inside.
type statement struct {
	words []string
	block []statement // nil where there is none
	at    string      // FILE:LINE
}

func (s *statement) word(i int) string {
	if i < len(s.words) {
		return s.words[i]
	}
	return ""
}

// get gives the first statement of a block with that first word.
func get(block []statement, name string) *statement {
	for i := range block {
		if strings.EqualFold(block[i].word(0), name) {
			return &block[i]
		}
	}
	return nil
}

// parseNamed reads named.conf's syntax with the files that it includes.
func parseNamed(name string, text []byte, files Files) ([]statement, error) {
	p := &named{newSource(name, text, files, 0)}
	return p.statements(0, false)
}

type named struct{ source }

// peek skips blanks and comments of all three kinds; 0 at the end.
func (p *named) peek() byte {
	for p.at < len(p.text) {
		rest := p.text[p.at:]
		switch {
		case rest[0] == '\n':
			p.line++
			p.at++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			p.at++
		case rest[0] == '#', strings.HasPrefix(rest, "//"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				p.at += i
			} else {
				p.at = len(p.text)
			}
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest, "*/")
			if i < 0 {
				p.at = len(p.text)
				return 0
			}
			p.line += strings.Count(rest[:i], "\n")
			p.at += i + 2
		default:
			return rest[0]
		}
	}
	return 0
}

func (p *named) word() (string, error) {
	if p.text[p.at] == '"' {
		end := strings.IndexByte(p.text[p.at+1:], '"')
		if end < 0 {
			return "", p.errorf("a quote is not closed")
		}
		w := p.text[p.at+1 : p.at+1+end]
		p.line += strings.Count(w, "\n")
		p.at += end + 2
		return w, nil
	}
	from := p.at
	for p.at < len(p.text) && !strings.ContainsRune(" \t\r\n{};\"", rune(p.text[p.at])) {
		p.at++
	}
	return p.text[from:p.at], nil
}

func (p *named) statements(depth int, closed bool) ([]statement, error) {
	if depth > maxNesting {
		return nil, p.errorf("nested more than %d deep", maxNesting)
	}
	out := []statement{}
	var s statement
	for {
		c := p.peek()
		switch c {
		case 0:
			if closed || len(s.words) > 0 {
				return nil, p.errorf("the file ends within a statement")
			}
			return out, nil
		case '}':
			p.at++
			switch {
			case !closed:
				return nil, p.errorf("a brace too many")
			case len(s.words) > 0:
				return nil, p.errorf("expected ; before }")
			}
			return out, nil
		case ';':
			p.at++
			if len(s.words) == 0 && s.block == nil {
				continue
			}
			all, err := p.included(s, depth)
			if err != nil {
				return nil, err
			}
			out = append(out, all...)
			s = statement{}
		case '{':
			p.at++
			if s.at == "" {
				s.at = fmt.Sprintf("%s:%d", p.name, p.line)
			}
			block, err := p.statements(depth+1, true)
			if err != nil {
				return nil, err
			}
			s.block = append(s.block, block...)
			if s.block == nil {
				s.block = []statement{}
			}
		default:
			if s.at == "" {
				s.at = fmt.Sprintf("%s:%d", p.name, p.line)
			}
			w, err := p.word()
			if err != nil {
				return nil, err
			}
			s.words = append(s.words, w)
		}
	}
}

// included gives a statement, or those of the file that it includes.
func (p *named) included(s statement, depth int) ([]statement, error) {
	if strings.EqualFold(s.word(0), "include") && s.block == nil && len(s.words) == 2 {
		return p.include(s.words[1], depth)
	}
	return []statement{s}, nil
}

func (p *named) include(name string, depth int) ([]statement, error) {
	in, err := p.open(name)
	if err != nil {
		return nil, err
	}
	return (&named{in}).statements(depth, false)
}
