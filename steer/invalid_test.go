package steer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meridian/fleet"
)

// A Spec that breaks a rule of steering is refused with the exact message: each
// file in testdata/invalid begins with the errors expected, as comments.
func TestInvalidSpecsSayWhatIsWrong(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(doc)) {
				if !strings.HasPrefix(line, "# ") {
					break
				}
				want = append(want, strings.TrimSpace(line[2:]))
			}
			_, err = fleet.Compile(doc, 0, Check)
			if err == nil {
				t.Fatalf("compiled; want errors:\n%s", strings.Join(want, "\n"))
			}
			if got := err.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}
