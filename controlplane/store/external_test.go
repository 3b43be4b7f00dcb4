package store

import (
	"context"
	"log/slog"
	"os/exec"
	"testing"
	"time"

	"meridian/controlplane"
	"meridian/internal/testkit"
)

// An etcd that somebody else runs, of another version than our own child's,
// serves as the store.
func TestAnExternalEtcdIsAStore(t *testing.T) {
	program := testkit.Program(t, "etcd")
	client, peer := "http://"+freeAddress(t, "127.0.0.1"), "http://"+freeAddress(t, "127.0.0.1")
	server := exec.CommandContext(t.Context(), program, "--data-dir", t.TempDir(), "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()

	c, err := New(Config{Endpoints: []string{client}, Identity: newIdentity(t), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	updates := make(chan controlplane.Stored, 16)
	watched := make(chan error, 1)
	go func() { watched <- c.Watch(ctx, func(s controlplane.Stored) { updates <- s }) }()
	<-updates // what is there at first: nothing
	n, err := c.Commit(ctx, 0, controlplane.Change{Doc: []byte("one"), Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for s := range updates {
		if s.Revision == n {
			if string(s.Doc) != "one" {
				t.Errorf("revision %d holds %q", n, s.Doc)
			}
			break
		}
	}
	if _, err := c.Commit(ctx, 0, controlplane.Change{Doc: []byte("two"), Created: time.Now()}); err == nil {
		t.Error("a change that builds on an older revision was stored")
	}
	cancel()
	<-watched
}
