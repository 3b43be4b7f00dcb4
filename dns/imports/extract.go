package imports

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"meridian/fleet"
)

// dynamic is a record of a type that only its own server knows.
type dynamic struct {
	owner fleet.Name
	ttl   string
	rtype string
	data  string
	line  int
}

// extract takes records of some types out of a master file and gives the rest
// with as many lines.
func extract(text []byte, origin fleet.Name, types ...string) (rest []byte, found []dynamic, err error) {
	x := extractor{origin: origin, owner: origin, types: types}
	var out bytes.Buffer
	for i, line := range strings.SplitAfter(string(text), "\n") {
		kept, err := x.line(strings.TrimRight(line, "\r\n"), i+1)
		if err != nil {
			return nil, nil, err
		}
		out.WriteString(kept)
		if strings.HasSuffix(line, "\n") {
			out.WriteByte('\n')
		}
	}
	return out.Bytes(), x.found, nil
}

type extractor struct {
	origin, owner fleet.Name
	depth         int  // of parentheses
	taking        bool // the lines up to the closing parenthesis belong to the last one found
	orphaned      bool // the owner stood in a line that is gone
	types         []string
	found         []dynamic
}

func (x *extractor) line(line string, n int) (string, error) {
	inside := x.depth > 0
	words := split(line, &x.depth)
	switch {
	case inside && x.taking:
		last := &x.found[len(x.found)-1]
		last.data += " " + strings.Join(words, " ")
		x.taking = x.depth > 0
		return "", nil
	case inside || len(words) == 0:
		return line, nil
	case strings.EqualFold(words[0], "$ORIGIN") && len(words) > 1:
		next, err := fleet.Under(words[1], x.origin)
		if err != nil {
			return "", fmt.Errorf("line %d: $ORIGIN: %w", n, err)
		}
		x.origin = next
		return line, nil
	case words[0][0] == '$':
		return line, nil
	}
	blank := line[0] == ' ' || line[0] == '\t'
	if !blank {
		name, err := fleet.Under(words[0], x.origin)
		if err != nil {
			return line, nil // the zone's own reader tells
		}
		x.owner, x.orphaned, words = name, false, words[1:]
	}
	if d, ok := x.dynamic(words, n); ok {
		x.found = append(x.found, d)
		x.orphaned, x.taking = true, x.depth > 0
		return "", nil
	}
	if blank && x.orphaned {
		x.orphaned = false
		return string(x.owner) + line, nil
	}
	return line, nil
}

// dynamic reads what follows an owner: TTL and class in any order, type, data.
func (x *extractor) dynamic(words []string, n int) (dynamic, bool) {
	ttl := ""
	for i, w := range words {
		if slices.ContainsFunc(x.types, func(t string) bool { return strings.EqualFold(t, w) }) {
			return dynamic{x.owner, ttl, strings.ToUpper(w), strings.Join(words[i+1:], " "), n}, true
		}
		if strings.EqualFold(w, "IN") {
			continue
		}
		if ttl != "" || w[0] < '0' || w[0] > '9' {
			break
		}
		ttl = w
	}
	return dynamic{}, false
}

// split gives the words of a line, quoted ones with their quotes and without
// comments, and follows parentheses.
func split(line string, depth *int) []string {
	var out []string
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			out = append(out, word.String())
			word.Reset()
		}
	}
	quoted := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && i+1 < len(line):
			word.WriteString(line[i : i+2])
			i++
		case c == '"':
			quoted = !quoted
			word.WriteByte(c)
		case quoted:
			word.WriteByte(c)
		case c == ';':
			end()
			return out
		case c == '(':
			*depth++
			end()
		case c == ')':
			*depth = max(0, *depth-1)
			end()
		case c == ' ' || c == '\t':
			end()
		default:
			word.WriteByte(c)
		}
	}
	end()
	return out
}

// maxFlat bounds a zone with all that it includes, in octets, and maxInclude
// how deep files include each other.
const (
	maxFlat    = 64 << 20
	maxInclude = 10
)

// flatten puts the files that a master file includes in their place.
func flatten(name string, origin fleet.Name, files Files) ([]byte, error) {
	var out bytes.Buffer
	err := flattenTo(&out, name, origin, files, 0)
	return out.Bytes(), err
}

func flattenTo(out *bytes.Buffer, name string, origin fleet.Name, files Files, deep int) error {
	if deep > maxInclude {
		return fmt.Errorf("%s: included more than %d files deep", name, maxInclude)
	}
	text, err := files(name)
	if err != nil {
		return err
	}
	if out.Len()+len(text) > maxFlat {
		return fmt.Errorf("%s: larger than %d octets with all that it includes", name, maxFlat)
	}
	depth := 0
	for i, line := range strings.SplitAfter(string(text), "\n") {
		inside := depth > 0
		words := split(strings.TrimRight(line, "\r\n"), &depth)
		if inside || len(words) < 2 || words[0][0] != '$' {
			out.WriteString(line)
			continue
		}
		switch strings.ToUpper(words[0]) {
		case "$ORIGIN":
			if origin, err = fleet.Under(words[1], origin); err != nil {
				return fmt.Errorf("%s:%d: $ORIGIN: %w", name, i+1, err)
			}
			out.WriteString(line)
		case "$INCLUDE":
			file, inner := strings.Trim(words[1], `"`), origin
			if len(words) > 2 {
				if inner, err = fleet.Under(words[2], origin); err != nil {
					return fmt.Errorf("%s:%d: $INCLUDE: %w", name, i+1, err)
				}
			}
			if !path.IsAbs(file) && path.Dir(name) != "." {
				if _, err := files(file); err != nil {
					file = path.Join(path.Dir(name), file)
				}
			}
			fmt.Fprintf(out, "$ORIGIN %s\n", inner)
			if err := flattenTo(out, file, inner, files, deep+1); err != nil {
				return err
			}
			fmt.Fprintf(out, "\n$ORIGIN %s\n", origin)
		default:
			out.WriteString(line)
		}
	}
	return nil
}
