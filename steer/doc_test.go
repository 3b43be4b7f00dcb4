package steer

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"meridian/fleet"
)

// Every example of the operators' page is a Spec that is accepted.
func TestExamplesOfTheManual(t *testing.T) {
	page, err := os.ReadFile("../docs/steering.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) < 8 {
		t.Errorf("only %d examples", len(blocks))
	}
	for _, b := range blocks {
		text := string(b[1])
		doc := fmt.Sprintf(five, "{}")
		if steering, ok := strings.CutPrefix(text, "steering:\n"); ok {
			doc = strings.Replace(doc, "  steering: {}\n", "  steering:\n  "+strings.ReplaceAll(strings.TrimSpace(steering), "\n", "\n  ")+"\n", 1)
			doc = strings.Replace(doc, "  steering:\n  ", "  steering:\n    ", 1)
		} else {
			doc = regexp.MustCompile(`(?s)subnet_maps:\n.*services:\n`).ReplaceAllLiteralString(doc, text+"services:\n")
		}
		if _, err := fleet.Compile([]byte(doc), 0, Check); err != nil {
			t.Errorf("%v\n%s", err, doc)
		}
	}
}
