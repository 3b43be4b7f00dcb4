//go:build linux

package netns_test

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// pair makes two namespaces joined by a link.
func pair(t *testing.T) (a, b *netns.NS) {
	t.Helper()
	testkit.Root(t)
	var err error
	if a, err = netns.New("a"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err = netns.New("b"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	err = netns.Veth(
		netns.End{NS: a, Dev: "eth0", Addrs: []netip.Prefix{prefix("10.9.0.1/24"), prefix("fd09::1/64")}},
		netns.End{NS: b, Dev: "eth0", Addrs: []netip.Prefix{prefix("10.9.0.2/24"), prefix("fd09::2/64")}}, 1600)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestSocketsBelongToTheirNamespace(t *testing.T) {
	a, b := pair(t)
	for _, addr := range []string{"10.9.0.2:7000", "[fd09::2]:7000"} {
		l, err := b.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := a.Dial(ctx, "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		c.Close()
		if err != nil || string(got) != "hello" {
			t.Errorf("%s: read %q, %v", addr, got, err)
		}
	}
}

func TestProcessesRunInsideAndDieWithTheNamespace(t *testing.T) {
	a, _ := pair(t)
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	show := exec.Command("cat", "/proc/net/dev")
	show.Stdout = out
	if err := a.Start(show); err != nil {
		t.Fatal(err)
	}
	if err := show.Wait(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil || !strings.Contains(string(text), "eth0") || strings.Count(string(text), ":") != 2 {
		t.Errorf("devices inside: %s, %v", text, err)
	}

	c, err := netns.New("c")
	if err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "600")
	if err := c.Start(sleep); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sleep.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("after Close the process ended with %v", err)
	}
}

func TestKillMarkedFindsGrandchildren(t *testing.T) {
	mark := "MERIDIAN_TEST_MARK=" + t.TempDir()
	cmd := exec.Command("sh", "-c", "sh -c 'echo ready; kill -STOP $$' & wait")
	cmd.Env = append(os.Environ(), mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if n := netns.KillMarked(mark); n != 2 {
		t.Errorf("killed %d processes, want the shell and its child", n)
	}
	cmd.Wait()
}
