// Package systemd holds no code: the units under which the programs run, and
// the test that they say what the programs need.
package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meridian/internal/testkit"
)

// unit reads a unit file: section.key to its values.
func unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out, section := map[string][]string{}, ""
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1 : len(line)-1]
		case ok && section != "" && key != "":
			out[section+"."+key] = append(out[section+"."+key], value)
		default:
			t.Errorf("%s:%d: %q is neither a section nor a key", name, i+1, line)
		}
	}
	return out
}

func TestUnitsSayWhatTheProgramsNeed(t *testing.T) {
	for name, tc := range map[string]struct{ start, reload, state, caps string }{
		"gslb.service": {"/usr/local/bin/gslb serve ", "/bin/kill -HUP $MAINPID", "gslb", "CAP_NET_BIND_SERVICE"},
		"edge.service": {"/usr/local/bin/edge run ", "/usr/local/bin/edge upgrade --data /var/lib/edge", "edge", "CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_NET_RAW CAP_NET_BIND_SERVICE"},
	} {
		u := unit(t, name)
		for key, want := range map[string]string{
			"Service.Type": "notify", "Service.WatchdogSec": "30", "Service.ExecReload": tc.reload,
			"Service.Restart": "always", "Service.User": "meridian", "Service.StateDirectory": tc.state,
			"Service.AmbientCapabilities": tc.caps, "Service.CapabilityBoundingSet": tc.caps,
			"Service.NoNewPrivileges": "yes", "Service.ProtectSystem": "strict", "Install.WantedBy": "multi-user.target",
		} {
			if got := u[key]; len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		if got := u["Service.ExecStart"]; len(got) != 1 || !strings.HasPrefix(got[0], tc.start) || !strings.Contains(got[0], "--data /var/lib/"+tc.state+" ") {
			t.Errorf("%s: ExecStart is %q", name, got)
		}
	}
}

// The drop-in gives what the program in the kernel needs, and takes nothing of
// what the unit has.
func TestDropInSaysWhatXDPNeeds(t *testing.T) {
	u := unit(t, "gslb-xdp.conf")
	for key, want := range map[string]string{
		"Service.AmbientCapabilities": "CAP_NET_ADMIN CAP_BPF CAP_PERFMON", "Service.CapabilityBoundingSet": "CAP_NET_ADMIN CAP_BPF CAP_PERFMON",
		"Service.SystemCallFilter": "bpf", "Service.LimitMEMLOCK": "infinity",
	} {
		if got := u[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// systemd itself reads the units; it complains of keys that it does not know.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze := testkit.Program(t, "systemd-analyze")
	dir := t.TempDir()
	const dropIn = "gslb-xdp.conf"
	b, err := os.ReadFile(dropIn)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "gslb.service.d"), 0o700), os.WriteFile(filepath.Join(dir, "gslb.service.d", dropIn), b, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gslb.service", "edge.service"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The programs and their user are not installed here.
		text := strings.NewReplacer("/usr/local/bin/gslb", "/bin/true", "/usr/local/bin/edge", "/bin/true", "=meridian\n", "=root\n").Replace(string(b))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
		lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(s string) bool { return !strings.Contains(s, name) && !strings.Contains(s, dropIn) })
		if err != nil || len(lines) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
