package zone

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// maxErrors bounds how many errors of one zone are told, maxWarnings how many
// warnings, which the zone keeps.
const (
	maxErrors   = 20
	maxWarnings = 20
)

// report gathers what is wrong with a zone, and where.
type report struct {
	files  []string // names of files; empty for a zone that comes from none
	lookup func(owner string, t uint16) (file uint16, line uint32)
	errs   notes
	warns  notes
}

type notes struct {
	list []note
	more int
}

type note struct {
	file uint16
	line uint32
	text string
}

func (n *notes) add(limit int, file uint16, line uint32, format string, args []any) {
	if len(n.list) >= limit {
		n.more++
		return
	}
	n.list = append(n.list, note{file, line, fmt.Sprintf(format, args...)})
}

func (r *report) failAt(file uint16, line uint32, format string, args ...any) {
	r.errs.add(maxErrors, file, line, format, args)
}

func (r *report) warnAt(file uint16, line uint32, format string, args ...any) {
	r.warns.add(maxWarnings, file, line, format, args)
}

// fail and warn tell of the RRset of a type at a node.
func (r *report) fail(n *Node, t uint16, format string, args ...any) {
	file, line := r.where(&r.errs, maxErrors, n, t)
	r.failAt(file, line, format, args...)
}

func (r *report) warn(n *Node, t uint16, format string, args ...any) {
	file, line := r.where(&r.warns, maxWarnings, n, t)
	r.warnAt(file, line, format, args...)
}

// where finds a place only if the note will be kept: it takes long.
func (r *report) where(list *notes, limit int, n *Node, t uint16) (file uint16, line uint32) {
	if r.lookup == nil || len(list.list) >= limit {
		return 0, 0
	}
	return r.lookup(n.Name, t)
}

// texts gives the notes in order of file and line.
func (r *report) texts(n *notes, what string) []string {
	slices.SortStableFunc(n.list, func(a, b note) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	var out []string
	for _, e := range n.list {
		if len(r.files) == 0 {
			out = append(out, e.text)
			continue
		}
		out = append(out, fmt.Sprintf("%s:%d: %s", r.files[e.file], max(e.line, 1), e.text))
	}
	if n.more > 0 {
		s := fmt.Sprintf("and %d more %s", n.more, what)
		if len(r.files) > 0 {
			s = r.files[0] + ": " + s
		}
		out = append(out, s)
	}
	return out
}

func (r *report) warnings() []string { return r.texts(&r.warns, "warnings") }

func (r *report) err() error {
	var errs []error
	for _, s := range r.texts(&r.errs, "errors") {
		errs = append(errs, errors.New(s))
	}
	return errors.Join(errs...)
}
