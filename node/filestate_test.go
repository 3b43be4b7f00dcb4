package node

import (
	"os"
	"path/filepath"
	"testing"
)

// What counts as a change is told from what was read, not from what the files
// held a moment later.
func TestFilesChangeFromWhatWasRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spec.yaml")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	_, _, state, err := readFile(path)
	if err == nil {
		t.Fatal("expected the words to be no Spec")
	}
	if state.changed() {
		t.Error("changed, though it is as it was read")
	}
	write("two")
	if !state.changed() {
		t.Error("a change goes unseen")
	}
	if err := os.Remove(path); err != nil || !state.changed() {
		t.Error("a file that is gone goes unseen", err)
	}
}
