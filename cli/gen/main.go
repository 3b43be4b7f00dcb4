//go:build ignore

// Command gen writes docs/commands.md from the help of both programs.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// listed finds the subcommands in a program's help.
var listed = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}\S`)

func main() {
	dir, err := os.MkdirTemp("", "commands")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("go", "build", "-o", dir, "meridian/cmd/gslb", "meridian/cmd/edge").CombinedOutput(); err != nil {
		log.Fatalf("building the programs: %v\n%s", err, out)
	}
	var b bytes.Buffer
	b.WriteString("# Commands\n\n<!-- Generated from the programs' help by `go generate ./cli`. -->\n\n" +
		"Exit codes: 0 for success, 1 for failure, 2 for a wrong call. Flags may stand before and after arguments.\n")
	for _, program := range []string{"gslb", "edge"} {
		all := help(filepath.Join(dir, program), "--help")
		fmt.Fprintf(&b, "\n## %s\n\n```\n%s```\n", program, all)
		for _, m := range listed.FindAllSubmatch(all, -1) {
			fmt.Fprintf(&b, "\n### %s %s\n\n```\n%s```\n", program, m[1], help(filepath.Join(dir, program), string(m[1]), "--help"))
		}
	}
	if err := os.WriteFile("../docs/commands.md", b.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

func help(program string, args ...string) []byte {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		log.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return bytes.ReplaceAll(out, []byte("\t"), []byte("    "))
}
