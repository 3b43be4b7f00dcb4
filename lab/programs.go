//go:build linux

package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// FindPrograms gives the running gslb and the edge that belongs to it: the one
// beside it, else one built into dir from the source tree that gslb was built
// from or that it is called in.
func FindPrograms(ctx context.Context, dir string) (Programs, error) {
	self, err := os.Executable()
	if err != nil {
		return Programs{}, fmt.Errorf("own file: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), "edge")
	if info, err := os.Stat(beside); err == nil && info.Mode()&0o111 != 0 && info.Mode().IsRegular() {
		return Programs{Gslb: self, Edge: beside}, nil
	}
	root, ok := sourceTree()
	if !ok {
		return Programs{}, fmt.Errorf("the program edge is not beside %s, and there is no source tree to build it from", self)
	}
	out := filepath.Join(dir, "edge")
	build := exec.CommandContext(ctx, "go", "build", "-o", out, "./cmd/edge")
	build.Dir = root
	if text, err := build.CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("build edge in %s: %w\n%s", root, err, text)
	}
	return Programs{Gslb: self, Edge: out}, nil
}

// sourceTree finds the module's root above the working directory, or where
// this file was when it was compiled.
func sourceTree() (string, bool) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if isModule(filepath.Join(dir, "go.mod")) {
				return dir, true
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", false
}

func isModule(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(name) == "meridian"
		}
	}
	return false
}
