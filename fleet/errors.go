package fleet

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// FieldError says which field of a document is wrong and what was expected.
type FieldError struct {
	Path string // where in the document, as services[0].healthcheck.path
	Line int    // line in the source, from 1; 0 where it is not known
	Msg  string // what is wrong and what was expected
}

// Error gives the line (if known), the path and the message.
func (e *FieldError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s: %s", e.Line, e.Path, e.Msg)
	}
	return e.Path + ": " + e.Msg
}

// Errors collects every FieldError of one document. The zero value is empty
// and ready; it is not safe for concurrent use.
type Errors struct{ list []*FieldError }

// Addf notes one wrong field.
func (es *Errors) Addf(path, format string, args ...any) {
	es.list = append(es.list, &FieldError{Path: path, Msg: fmt.Sprintf(format, args...)})
}

// Join adds all of other's errors.
func (es *Errors) Join(other *Errors) { es.list = append(es.list, other.list...) }

// Len is the number of errors noted.
func (es *Errors) Len() int { return len(es.list) }

// Err gives nil where nothing was noted, else all FieldErrors joined, in the
// order of their lines.
func (es *Errors) Err() error {
	if len(es.list) == 0 {
		return nil
	}
	sort.SliceStable(es.list, func(i, j int) bool { return es.list[i].Line < es.list[j].Line })
	errs := make([]error, len(es.list))
	for i, e := range es.list {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// FieldErrors lists the FieldErrors that err holds, in order.
func FieldErrors(err error) []*FieldError {
	if err == nil {
		return nil
	}
	if fe, ok := err.(*FieldError); ok {
		return []*FieldError{fe}
	}
	var out []*FieldError
	switch u := err.(type) {
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			out = append(out, FieldErrors(e)...)
		}
	case interface{ Unwrap() error }:
		out = FieldErrors(u.Unwrap())
	}
	return out
}

// locate fills in the lines of errors from the document's index of paths. A
// path that the document does not hold takes the line of its nearest parent.
func (es *Errors) locate(lines map[string]int) {
	for _, e := range es.list {
		if e.Line > 0 {
			continue
		}
		for p := e.Path; p != ""; {
			if n, ok := lines[p]; ok {
				e.Line = n
				break
			}
			cut := strings.LastIndexAny(p, ".[")
			if cut < 0 {
				break
			}
			p = p[:cut]
		}
	}
}
