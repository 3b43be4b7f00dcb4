package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"
)

// What certmagic asks of its storage.
func TestStorageIsFilesAndFolders(t *testing.T) {
	r := newRig(t)
	s, ctx := r.certs.storage, t.Context()
	r.until("the store", func() bool { return s.Store(ctx, "a/b/one", []byte("1")) == nil })
	for key, v := range map[string]string{"a/b/two": "2", "a/c": "3", "ab": "4"} {
		if err := s.Store(ctx, key, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := s.Load(ctx, "a/b/two"); err != nil || string(b) != "2" {
		t.Errorf("load: %q, %v", b, err)
	}
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder was loaded: %v", err)
	}
	for _, c := range []struct {
		dir       string
		recursive bool
		want      string
	}{{"a", false, "[a/b a/c]"}, {"a", true, "[a/b a/b/one a/b/two a/c]"}, {"", false, "[a ab]"}} {
		if got, err := s.List(ctx, c.dir, c.recursive); err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("list %q, %v: %v, %v", c.dir, c.recursive, got, err)
		}
	}
	if i, err := s.Stat(ctx, "a/b/one"); err != nil || !i.IsTerminal || i.Size != 1 || time.Since(i.Modified) > time.Minute {
		t.Errorf("stat: %+v, %v", i, err)
	}
	if i, err := s.Stat(ctx, "a/b"); err != nil || i.IsTerminal || !s.Exists(ctx, "a") || s.Exists(ctx, "b") {
		t.Errorf("stat of a folder: %+v, %v", i, err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil || s.Exists(ctx, "a/b/one") || !s.Exists(ctx, "a/c") || !s.Exists(ctx, "ab") {
		t.Errorf("delete: %v", err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil {
		t.Errorf("what is not there cannot be deleted: %v", err)
	}
}

func TestStorageLocks(t *testing.T) {
	r := newRig(t)
	s := r.certs.storage
	r.until("the store", func() bool { return s.Lock(t.Context(), "x") == nil })
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Lock(short, "x"); err == nil {
		t.Fatal("two hold one lock")
	}
	if err := s.Unlock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Lock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	if err := s.Unlock(t.Context(), "x"); err == nil {
		t.Error("a lock that nobody holds was given back")
	}
}
