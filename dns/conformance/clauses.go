package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Clause is one claim of a test: that a clause of an RFC holds.
type Clause struct {
	RFC     int
	Section string // "4.3.2"
	Text    string // one sentence
	Test    string // the function
	File    string // slash-separated, from the module's root
}

var (
	claimStart = regexp.MustCompile(`\s+(RFC \d+ §[0-9A-Z][0-9A-Za-z.]*: )`)
	claimForm  = regexp.MustCompile(`^RFC (\d+) §([0-9A-Z][0-9A-Za-z.]*): (.+)$`)
)

// Scan gathers the claims of all tests below root: the functions TestRFC…,
// whose comments hold lines "RFC n §s: clause.". It is an error for such a
// test to claim nothing.
func Scan(root string) ([]Clause, error) {
	var out []Clause
	var errs []error
	err := eachTestFile(root, func(path, file string) error {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "TestRFC") {
				continue
			}
			claims := claimsOf(fn.Doc.Text())
			if len(claims) == 0 {
				errs = append(errs, fmt.Errorf("%s: %s claims nothing: its comment has no line \"RFC n §s: clause.\"", file, fn.Name.Name))
			}
			for _, c := range claims {
				c.Test, c.File = fn.Name.Name, file
				out = append(out, c)
			}
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b Clause) int {
		return cmp.Or(cmp.Compare(a.RFC, b.RFC), compareSections(a.Section, b.Section), cmp.Compare(a.File, b.File))
	})
	return out, errors.Join(append(errs, err)...)
}

// eachTestFile calls visit for every file of tests below root: its path, and
// its path from root with slashes.
func eachTestFile(root string, visit func(path, file string) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if b := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(b, ".") || b == "testdata" || b == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return visit(path, filepath.ToSlash(file))
	})
}

// claimsOf reads the claims in a comment; a claim goes on until the next one
// or an empty line.
func claimsOf(doc string) []Clause {
	var out []Clause
	open := false
	for line := range strings.Lines(claimStart.ReplaceAllString(doc, "\n$1")) {
		line = strings.TrimSpace(line)
		if m := claimForm.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1]) // digits alone
			out = append(out, Clause{RFC: n, Section: m[2], Text: m[3]})
			open = true
		} else if open = open && line != ""; open {
			out[len(out)-1].Text += " " + line
		}
	}
	return out
}

// compareSections orders "4.10" behind "4.9".
func compareSections(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	return slices.CompareFunc(as, bs, func(x, y string) int {
		i, errX := strconv.Atoi(x)
		j, errY := strconv.Atoi(y)
		if errX != nil || errY != nil {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(i, j)
	})
}

// Entry is one row of the checklist: what a complete server must do.
type Entry struct {
	RFC     int    // 0 for what no RFC says
	Section string // "" for the whole RFC
	Word    string // names tests, or occurs in the clause that one claims; "" for any clause of the section
	Text    string
	Reason  string // why it is not done; "" where it is
	Line    int
}

var entryForm = regexp.MustCompile(`^(?:RFC (\d+)(?: §(\S+))?|-)(?: \{([^}]+)\})?: (.+?)(?: \| not done: (.+))?$`)

// Checklist reads a list of Lists: its entries, and the titles of the RFCs
// ("= RFC n title").
func Checklist(path string) ([]Entry, map[int]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	var out []Entry
	titles := map[int]string{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if title, ok := strings.CutPrefix(line, "= RFC "); ok {
			number, name, _ := strings.Cut(title, " ")
			rfc, err := strconv.Atoi(number)
			if err != nil {
				return nil, nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			titles[rfc] = name
			continue
		}
		m := entryForm.FindStringSubmatch(line)
		if m == nil {
			return nil, nil, fmt.Errorf("%s:%d: want \"RFC n §s {word}: text | not done: reason\"", path, n)
		}
		rfc, _ := strconv.Atoi(m[1]) // digits alone, or nothing
		out = append(out, Entry{rfc, m[2], m[3], m[4], m[5], n})
	}
	return out, titles, nil
}

// Names lists the tests that an entry names.
func (e Entry) Names() []string {
	if !strings.HasPrefix(e.Word, "Test") && !strings.HasPrefix(e.Word, "Fuzz") {
		return nil
	}
	return strings.Fields(e.Word)
}

// Proofs lists the tests among clauses and names that prove an entry.
func (e Entry) Proofs(clauses []Clause) []Clause {
	var out []Clause
	names := e.Names()
	for _, c := range clauses {
		if len(names) > 0 {
			if slices.Contains(names, c.Test) {
				out = append(out, c)
			}
			continue
		}
		if c.RFC != e.RFC || e.RFC == 0 {
			continue
		}
		if e.Section != "" && c.Section != e.Section && !strings.HasPrefix(c.Section, e.Section+".") {
			continue
		}
		if e.Word == "" || strings.Contains(strings.ToLower(c.Text+" "+c.Test), strings.ToLower(e.Word)) {
			out = append(out, c)
		}
	}
	return out
}

// Named finds the tests that entries name, whether they claim anything or not.
func Named(root string, entries []Entry) ([]Clause, error) {
	var out []Clause
	want := map[string]bool{}
	for _, e := range entries {
		for _, name := range e.Names() {
			want[name] = true
		}
	}
	err := eachTestFile(root, func(path, file string) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range funcForm.FindAllSubmatch(text, -1) {
			if name := string(m[1]); want[name] {
				out = append(out, Clause{Test: name, File: file})
			}
		}
		return nil
	})
	return out, err
}

var funcForm = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
