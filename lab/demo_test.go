//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseOrder(t *testing.T) {
	for _, c := range []struct {
		line string
		want Order
	}{
		{"kill fra", Order{"kill", "fra", 0.5}},
		{"k fra", Order{"kill", "fra", 0.5}},
		{"r iad", Order{"restore", "iad", 0.5}},
		{"drain nrt", Order{"drain", "nrt", 0.5}},
		{"s nrt", Order{"shift", "nrt", 0.5}},
		{"shift nrt 25%", Order{"shift", "nrt", 0.25}},
	} {
		if got, err := ParseOrder(strings.Fields(c.line)); err != nil || got != c.want {
			t.Errorf("%q: %+v, %v", c.line, got, err)
		}
	}
	for line, want := range map[string]string{
		"kill":          "expected kill, restore",
		"explode fra":   `"explode" is not`,
		"shift fra 200": "from 0 to 100 percent",
		"kill fra now":  "only a shift takes one more word",
	} {
		if _, err := ParseOrder(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestSeriesGivesTimesThatWereMeasured(t *testing.T) {
	var s Series
	for i := range 20 {
		s.add(time.Duration(20-i) * time.Millisecond)
	}
	if s.N != 20 || s.P50 != 10 || s.P99 != 20 || s.Max != 20 {
		t.Errorf("%+v", s)
	}
}

func TestTallyTellsWhoseFailuresTheyAre(t *testing.T) {
	top := World()
	berlin, tokyo := &top.Cities[0], &top.Cities[4]
	seen := newTally()
	failed := errors.New("no route")
	seen.died("fra")
	at := seen.since
	seen.note(result{city: berlin, at: at.Add(time.Second), err: failed})
	seen.note(result{city: tokyo, at: at.Add(time.Second), region: "nrt"})
	seen.note(result{city: berlin, at: at.Add(2 * time.Second), err: failed})
	seen.note(result{city: berlin, at: at.Add(3 * time.Second), region: "iad"})
	if n := seen.counts(); n.Total != 4 || n.Failed != 2 || n.OtherRegions != 0 {
		t.Errorf("while the region is dead: %+v", n)
	}
	seen.note(result{city: tokyo, at: at, err: failed})
	seen.recovered()
	seen.lived()
	seen.note(result{city: berlin, at: at, err: failed})
	n := seen.counts()
	if n.Failed != 4 || n.OtherRegions != 2 || len(n.Failures) != 2 {
		t.Errorf("failures of others, and after it: %+v", n)
	}
	if n.Recovered.N != 1 || n.Recovered.Max != 2000 {
		t.Errorf("recovery: %+v", n.Recovered)
	}
}

// A run that crashed leaves processes and files; the next run ends and
// removes those, and only those.
func TestSweepClearsWhatACrashLeft(t *testing.T) {
	root := t.TempDir()
	crashed, running := filepath.Join(root, "run-1"), filepath.Join(root, "run-2")
	left := func(dir string) *exec.Cmd {
		if err := os.MkdirAll(filepath.Join(dir, "lab"), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "600")
		cmd.Env = append(os.Environ(), labMark(filepath.Join(dir, "lab")))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
	dead, alive := left(crashed), left(running)
	f, err := lock(running)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := sweep(root); err != nil {
		t.Fatal(err)
	}
	if err := dead.Wait(); err == nil {
		t.Error("the crashed run's process went on")
	}
	if _, err := os.Stat(crashed); !errors.Is(err, os.ErrNotExist) {
		t.Error("the crashed run's directory is still there")
	}
	if err := alive.Process.Signal(syscall.Signal(0)); err != nil {
		t.Error("the running one's process is gone:", err)
	}
	if _, err := os.Stat(running); err != nil {
		t.Error("the running one's is not:", err)
	}
}

// Sends whole orders through the socket, and a malformed one.
func TestControlObeysAndRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serveControl(l, func(_ context.Context, o Order) (string, error) {
			if o.Region != "fra" {
				return "", errors.New("there is no such region")
			}
			return o.Do + " done", nil
		})
	}()
	for line, want := range map[string]string{
		`{"do":"kill","region":"fra"}`: `{"said":"kill done"}`,
		`{"do":"kill","region":"x"}`:   `{"err":"there is no such region"}`,
		`{"do":`:                       `{"err":"unexpected end of JSON input"}`,
		strings.Repeat("x", 5000):      `{"err":"bufio: buffer full"}`,
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(line + "\n"))
		var got bytes.Buffer
		got.ReadFrom(conn)
		conn.Close()
		if s := strings.TrimSpace(got.String()); s != want {
			t.Errorf("%.40s: %s", line, s)
		}
	}
	l.Close()
	<-done
}
