package h2

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"meridian/internal/testkit"
)

// h2spec's 146 cases, of RFC 7540 and RFC 7541, strict ones among them.
func TestH2spec(t *testing.T) {
	path, err := exec.LookPath("h2spec")
	testkit.Need(t, err == nil, "h2spec")
	host, port, _ := net.SplitHostPort(listen(t, newSession(nil), nil))
	out, err := exec.Command(path, "-S", "-h", host, "-p", port, "-o", "2", "--max-header-length", "4000").CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "0 failed") {
		t.Errorf("%v\n%s", err, text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "tests,") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
