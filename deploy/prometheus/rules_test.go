// Package prometheus holds no code: alert rules, and the test that they ask for
// metrics that there are.
package prometheus

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every metric that a rule asks for is one that the code has.
func TestRulesAskForMetricsThatThereAre(t *testing.T) {
	b, err := os.ReadFile("certificates.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, pattern := range []string{"../../controlplane/acme/*.go", "../../edge/l7/*.go", "../../synthetic/*.go"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
	}
	asked := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			for _, name := range regexp.MustCompile(`meridian_[a-z0-9_]+`).FindAllString(r.Expr, -1) {
				asked++
				if !strings.Contains(code.String(), `"`+name+`"`) && !strings.Contains(code.String(), `"`+strings.TrimPrefix(name, "meridian_acme_")+`"`) {
					t.Errorf("%s: there is no metric %s", r.Alert, name)
				}
			}
		}
	}
	if asked < 8 {
		t.Errorf("the rules ask for %d metrics", asked)
	}
}
