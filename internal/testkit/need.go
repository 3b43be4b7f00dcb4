// Package testkit says what a test needs of its machine.
//
// Cellar: imported by tests and by lab only.
package testkit

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test where ok is false and names what is missing. With CI
// set in the environment a skip would hide a gap, so there the test fails.
func Need(t testing.TB, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s, and CI must have it", what)
	}
	t.Skipf("needs %s", what)
}

// Root needs the rights of root: namespaces, BPF, raw sockets.
func Root(t testing.TB) {
	t.Helper()
	Need(t, os.Geteuid() == 0, "root")
}

// Program needs a program on the PATH and gives its full path.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	Need(t, err == nil, "the program "+name)
	return path
}
