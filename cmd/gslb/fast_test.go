package main

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"meridian/cli"
)

func TestFlagsOfAnswersInTheKernel(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "",
		"--xdp eth0":                    "",
		"--xdp eth0 --xdp-mode native":  "",
		"--xdp eth0 --xdp-mode=":        "--xdp-mode",
		"--xdp eth0 --xdp-mode offload": `--xdp-mode: "offload": expected native, generic or auto`,
		"--xdp eth0 --xdp-memory 0":     "--xdp-memory",
		"--xdp eth0 --xdp-memory -5":    "--xdp-memory",
		"--xdp eth0 --xdp-memory 16385": "--xdp-memory: 16385: expected 1 to 16384",
		"--xdp-mode native":             "go with --xdp",
		"--xdp-memory 16":               "go with --xdp",
	} {
		fs := cli.Flags("gslb serve", "")
		fs.SetOutput(io.Discard)
		var f serveFlags
		f.register(fs)
		if err := fs.Parse(append(strings.Fields(args), "--zones", "x")); err != nil {
			t.Fatal(err)
		}
		err := f.complete()
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
		if err != nil {
			continue
		}
		fast, register, err := f.fastPath(slog.New(slog.DiscardHandler))
		if got := fast != nil && register != nil; err != nil || got != (f.XDP != "") {
			t.Errorf("%s: %v, made %v", args, err, got)
		}
	}
}
