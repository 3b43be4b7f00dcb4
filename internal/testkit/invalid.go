package testkit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Invalid gives each document in testdata/invalid to read, which is to refuse
// it with the exact message that the document begins with, as comments.
func Invalid(t *testing.T, read func(doc []byte) error) {
	t.Helper()
	files, err := filepath.Glob("testdata/invalid/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for line := range strings.Lines(string(doc)) {
				if !strings.HasPrefix(line, "# ") {
					break
				}
				lines = append(lines, strings.TrimSpace(line[2:]))
			}
			want := strings.Join(lines, "\n")
			if err = read(doc); err == nil {
				t.Fatalf("taken; want errors:\n%s", want)
			}
			if got := err.Error(); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
