package imports

import (
	"errors"
	"fmt"
	"strings"
)

// The part of Lua that PowerDNS' records are written in: calls, tables,
// strings, numbers, and if … then return … elseif … else … end.

// luaCall is NAME(ARGUMENTS).
type luaCall struct {
	name string
	args []any // string, luaCall, luaTable
}

// luaTable is {…}: entries without and with names.
type luaTable struct {
	list  []any
	named map[string]any
}

// luaIf is a chain of conditions, each with what is returned; the last one may
// have no condition.
type luaIf struct {
	conds []*luaCall // nil: else
	then  []any
}

type luaParser struct {
	text string
	at   int
	deep int
}

var errLua = errors.New("is more Lua than can be read")

// parseLua reads the content of one Lua record: an expression, or after ";" a
// script.
func parseLua(text string) (any, error) {
	text = strings.TrimSpace(text)
	p := &luaParser{text: strings.TrimPrefix(text, ";")}
	v, err := p.statement()
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, fmt.Errorf("%w: %.20q", errLua, p.text[p.at:])
	}
	return v, nil
}

func (p *luaParser) space() {
	for p.at < len(p.text) && strings.ContainsRune(" \t\r\n;", rune(p.text[p.at])) {
		p.at++
	}
}

// name reads a name or keyword; "" where there is none.
func (p *luaParser) name() string {
	p.space()
	from := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || p.at > from && '0' <= c && c <= '9') {
			break
		}
		p.at++
	}
	return p.text[from:p.at]
}

// word takes a keyword, if it is the next one.
func (p *luaParser) word(w string) bool {
	from := p.at
	if p.name() == w {
		return true
	}
	p.at = from
	return false
}

func (p *luaParser) char(c byte) bool {
	if p.space(); p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *luaParser) statement() (any, error) {
	if p.deep++; p.deep > 32 {
		return nil, errLua
	}
	defer func() { p.deep-- }()
	if p.word("return") {
		return p.value()
	}
	if !p.word("if") {
		return p.value()
	}
	var f luaIf
	for {
		paren := p.char('(')
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		cond, ok := v.(luaCall)
		if paren && !p.char(')') || !ok || !p.word("then") {
			return nil, errLua
		}
		then, err := p.statement()
		if err != nil {
			return nil, err
		}
		f.conds, f.then = append(f.conds, &cond), append(f.then, then)
		if p.word("elseif") {
			continue
		}
		if p.word("else") {
			if then, err = p.statement(); err != nil {
				return nil, err
			}
			f.conds, f.then = append(f.conds, nil), append(f.then, then)
		}
		if !p.word("end") {
			return nil, errLua
		}
		return f, nil
	}
}

func (p *luaParser) value() (any, error) {
	if p.deep++; p.deep > 32 {
		return nil, errLua
	}
	defer func() { p.deep-- }()
	p.space()
	if p.at >= len(p.text) {
		return nil, errLua
	}
	switch c := p.text[p.at]; {
	case c == '\'' || c == '"':
		end := strings.IndexByte(p.text[p.at+1:], c)
		if end < 0 {
			return nil, errors.New("a quote is not closed")
		}
		s := p.text[p.at+1 : p.at+1+end]
		p.at += end + 2
		return s, nil
	case c == '{':
		p.at++
		return p.table()
	case '0' <= c && c <= '9' || c == '-':
		from := p.at
		for p.at++; p.at < len(p.text) && strings.IndexByte("0123456789.", p.text[p.at]) >= 0; {
			p.at++
		}
		return p.text[from:p.at], nil
	}
	name := p.name()
	if name == "" || name == "function" || name == "not" {
		return nil, fmt.Errorf("%w: %.20q", errLua, p.text[p.at:])
	}
	if !p.char('(') {
		return name, nil
	}
	call := luaCall{name: name}
	for !p.char(')') {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		call.args = append(call.args, v)
		if !p.char(',') {
			if !p.char(')') {
				return nil, errLua
			}
			break
		}
	}
	return call, nil
}

func (p *luaParser) table() (any, error) {
	t := luaTable{named: map[string]any{}}
	for !p.char('}') {
		from := p.at
		key := p.name()
		if key == "" && p.char('[') { // ["name"]
			v, err := p.value()
			if err != nil {
				return nil, err
			}
			key, _ = v.(string)
			if !p.char(']') {
				return nil, errLua
			}
		}
		if key != "" && p.char('=') {
			v, err := p.value()
			if err != nil {
				return nil, err
			}
			t.named[key] = v
		} else {
			p.at = from
			v, err := p.value()
			if err != nil {
				return nil, err
			}
			t.list = append(t.list, v)
		}
		if !p.char(',') {
			if !p.char('}') {
				return nil, errLua
			}
			break
		}
	}
	return t, nil
}

// strings gives a table's or a single value's strings; ok is false where there
// is anything else in it.
func luaStrings(v any) (out []string, ok bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, true
	case luaTable:
		for _, e := range v.list {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	return nil, false
}
