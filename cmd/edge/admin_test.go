package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meridian/edge/xdp"
	"meridian/handover"
)

// newAdmin serves a layer 4 that is at no device in a directory of its own.
func newAdmin(t *testing.T, data string) (*xdp.Layer4, *client) {
	t.Helper()
	x, err := xdp.New(xdp.Config{Node: "n", Roles: xdp.Roles{L7: true}})
	if err != nil {
		t.Fatal(err)
	}
	a := &admin{data: data, log: slog.New(slog.DiscardHandler), sockets: handover.New()}
	a.take(x)
	l, err := a.listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return x, &client{data: data}
}

// shortDir gives a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "edge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (c *client) rules(t *testing.T) string {
	t.Helper()
	var list []xdp.RuleStatus
	if err := c.ask(t.Context(), http.MethodGet, "/rules", nil, &list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range list {
		out = append(out, r.Origin+":"+r.Name+":"+string(r.Mode)+":"+words(r.Match))
	}
	return strings.Join(out, "; ")
}

// A rule that was added is listed, goes when it is deleted, and outlives the
// process.
func TestRulesByTheSocket(t *testing.T) {
	dir := shortDir(t)
	_, c := newAdmin(t, dir)
	add := func(name string, until time.Time, words ...string) error {
		doc, err := ruleOf(name, words, 100, false, until)
		if err != nil {
			t.Fatal(err)
		}
		return c.ask(t.Context(), http.MethodPost, "/rules", doc, new(struct{}))
	}
	in := time.Now().Add(time.Hour)
	if err := add("ntp", in, "protocol=udp", "source_port=123", "length=400-1500"); err != nil {
		t.Fatal(err)
	}
	if err := add("syn", in, "protocol=tcp", "flags=syn,!ack"); err != nil {
		t.Fatal(err)
	}
	want := "node:ntp:rate:protocol=udp source_port=123 length=400-1500; node:syn:rate:protocol=tcp flags=syn,!ack"
	if got := c.rules(t); got != want {
		t.Errorf("rules %q, expected %q", got, want)
	}
	if err := add("past", time.Now().Add(-time.Hour), "ttl=1"); err == nil || !strings.Contains(err.Error(), "future") {
		t.Errorf("a rule of the past: %v", err)
	}
	if err := c.ask(t.Context(), http.MethodPost, "/rules", []byte(`{"name": "x", "match": {"ttl": "0"}}`), new(struct{})); err == nil || !strings.Contains(err.Error(), "match.ttl") {
		t.Errorf("a rule that makes no sense: %v", err)
	}
	if err := c.ask(t.Context(), http.MethodDelete, "/rules/ntp", nil, new(struct{})); err != nil {
		t.Error(err)
	}
	if err := c.ask(t.Context(), http.MethodDelete, "/rules/ntp", nil, new(struct{})); err == nil || !strings.Contains(err.Error(), "no rule") {
		t.Errorf("deleted twice: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, socketName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket may be opened by %v, %v", info.Mode(), err)
	}

	again := shortDir(t)
	b, err := os.ReadFile(filepath.Join(dir, rulesName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(again, rulesName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, c = newAdmin(t, again)
	if got, want := c.rules(t), "node:syn:rate:protocol=tcp flags=syn,!ack"; got != want {
		t.Errorf("after a restart: rules %q, expected %q", got, want)
	}
}

// Broken files of rules do not keep a node from its work.
func TestBrokenRulesFile(t *testing.T) {
	for _, text := range []string{"{", "[1]", `[{"name": "x"}]`, `[{"name": "ok", "match": {"ttl": "1"}, "until": "2020-01-01T00:00:00Z"}]`} {
		dir := shortDir(t)
		if err := os.WriteFile(filepath.Join(dir, rulesName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, c := newAdmin(t, dir); c.rules(t) != "" {
			t.Errorf("%s made a rule", text)
		}
	}
}

func TestNodeThatIsNotThere(t *testing.T) {
	c := &client{data: t.TempDir()}
	err := c.ask(t.Context(), http.MethodGet, "/rules", nil, new(struct{}))
	if err == nil || !strings.Contains(err.Error(), "no edge runs") {
		t.Errorf("%v", err)
	}
}

// A capture that fails leaves the file of an earlier one alone.
func TestCaptureWithoutANodeLeavesTheFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.pcap")
	if err := os.WriteFile(file, []byte("an earlier one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runCapture(t.Context(), []string{"--data", dir, "--out", file, "--for", "1m"}); err == nil || !strings.Contains(err.Error(), "no edge runs") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "an earlier one" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

// A data directory is one process's, and a second one says whose.
func TestDataDirectoryIsOneProcesss(t *testing.T) {
	dir := t.TempDir()
	release, err := xdp.Claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	var f flags
	f.Data, f.LogLevel, f.LogFormat = dir, "error", "text"
	want := fmt.Sprintf("--data: %s is in use by process %d (", dir, os.Getpid())
	if err := f.run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, expected %s", err, want)
	}
	release()
	again, err := xdp.Claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// Members cannot be asked for where layer 4 is at no device.
func TestMembersOfANodeWithoutLayer4(t *testing.T) {
	_, c := newAdmin(t, shortDir(t))
	if err := c.ask(t.Context(), http.MethodGet, "/members", nil, new([]xdp.Member)); err == nil || !strings.Contains(err.Error(), "not attached") {
		t.Errorf("%v", err)
	}
}

func TestRuleWords(t *testing.T) {
	for line, want := range map[string]string{
		"protocol":               "KEY=VALUE",
		"ttl=1 ttl=2":            "each key once",
		"colour=red":             "unknown key",
		"protocol=gre":           "is unknown",
		"protocol=udp port=0":    "match.port",
		"source=192.0.2.1/24":    "192.0.2.0/24",
		"protocol=udp flags=syn": "needs protocol tcp",
	} {
		if _, err := ruleOf("x", strings.Fields(line), 0, false, time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", line, err, want)
		}
	}
	b, err := ruleOf("x", []string{"ttl=1"}, 0, true, time.Unix(1_900_000_000, 0))
	if err != nil || !json.Valid(b) || !strings.Contains(string(b), `"mode":"count"`) || !strings.Contains(string(b), "2030-03-17T17:46:40Z") {
		t.Errorf("%s, %v", b, err)
	}
}
