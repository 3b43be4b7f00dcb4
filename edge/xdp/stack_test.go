package xdp

import (
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"meridian/internal/testkit"
)

// All calls that may be under way at once have 512 octets of stack in common, and
// older kernels (6.1 among them) round each one's part up to 32.
func TestStackFitsOlderKernels(t *testing.T) {
	testkit.Root(t)
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"edge": loadEdge, "accept": loadAccept} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinNone
		}
		c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for prog, p := range c.Programs {
			depth, chain := deepest(t, spec.Programs[prog], p.VerifierLog)
			t.Logf("%s/%s: %d octets: %s", name, prog, depth, strings.Join(chain, " > "))
			if depth > 512 {
				t.Errorf("%s/%s takes %d octets of stack: %s", name, prog, depth, strings.Join(chain, " > "))
			}
		}
	}
}

// deepest gives the chain of calls that takes the most stack, by what the verifier
// says of each function.
func deepest(t *testing.T, spec *ebpf.ProgramSpec, log string) (depth int, chain []string) {
	t.Helper()
	_, list, ok := strings.Cut(log, "stack depth ")
	if !ok {
		t.Skip("the kernel does not say how much stack functions take")
	}
	list, _, _ = strings.Cut(list, "\n")
	list, _, _ = strings.Cut(list, " ")
	frames := strings.Split(list, "+")
	size, calls, at := map[string]int{}, map[string][]string{}, ""
	for _, ins := range spec.Instructions {
		if s := ins.Symbol(); s != "" {
			if at = s; len(size) == len(frames) {
				t.Fatalf("more functions than the verifier tells of: %s", list)
			}
			n, err := strconv.Atoi(frames[len(size)])
			if err != nil {
				t.Fatal(err)
			}
			size[s] = (max(n, 1) + 31) / 32 * 32
		}
		if ins.IsFunctionCall() {
			calls[at] = append(calls[at], ins.Reference())
		}
	}
	var walk func(f string) (int, []string)
	walk = func(f string) (most int, under []string) {
		for _, g := range calls[f] {
			if n, chain := walk(g); n > most {
				most, under = n, chain
			}
		}
		return most + size[f], append([]string{f}, under...)
	}
	return walk(spec.Instructions[0].Symbol())
}
