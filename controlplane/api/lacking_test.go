package api

import (
	"log/slog"
	"strings"
	"testing"
)

// A node that has no control plane, or no Spec, says so of what needs one.
func TestANodeSaysWhatItHasNot(t *testing.T) {
	s, err := New(Config{Token: token, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Server: s}
	for path, want := range map[string]string{
		"/config": "no control plane", "/traffic-shift/x": "no control plane", "/keys": "no control plane", "/keys/a": "no control plane",
		"/zones": "does not exist", "/explain?name=a": "answers by no Spec", "/other": "does not exist",
	} {
		if rec := r.call("GET", path, ""); rec.Code != 404 || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}
