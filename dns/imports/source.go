package imports

import "fmt"

// source is a text that is read from its beginning, with what it includes.
type source struct {
	text  string
	at    int
	line  int
	name  string
	files Files
	deep  int // of includes
}

func newSource(name string, text []byte, files Files, deep int) source {
	return source{text: string(text), line: 1, name: name, files: files, deep: deep}
}

// open gives a file that the text includes.
func (s *source) open(name string) (source, error) {
	if s.deep >= maxInclude {
		return source{}, s.errorf("included more than %d files deep", maxInclude)
	}
	text, err := s.files(name)
	if err != nil {
		return source{}, s.errorf("include: %s", err)
	}
	return newSource(name, text, s.files, s.deep+1), nil
}

func (s *source) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", s.name, s.line, fmt.Sprintf(format, args...))
}
