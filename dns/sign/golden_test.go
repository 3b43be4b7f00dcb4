package sign

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meridian/fleet"
)

// Scripts of what happens when, for people to read: what is done on which day
// of a zone's life, and what follows. UPDATE=1 writes them anew.
func TestRollOverScripts(t *testing.T) {
	scripts := map[string]func(w *world){
		"a-year": func(w *world) {
			w.policy = policy(t, lifetimes(90*day, 0))
			w.days(180)
			w.say("roll ksk")
			_ = w.state.Ask(KSK)
			w.days(185)
		},
		"algorithm": func(w *world) {
			w.days(10)
			w.say("policy: algorithm ed25519")
			w.policy = policy(t, func(p *fleet.DNSSECPolicy) { p.Algorithm = fleet.Ed25519 })
			w.days(20)
		},
		"single-key": func(w *world) {
			w.days(10)
			w.say("policy: single_key")
			w.policy = policy(t, func(p *fleet.DNSSECPolicy) { p.SingleKey = true })
			w.days(20)
		},
		"revoke": func(w *world) {
			w.policy = policy(t, func(p *fleet.DNSSECPolicy) { p.Revoke = true; lifetimes(0, 0)(p) })
			w.days(40)
			w.say("roll ksk")
			_ = w.state.Ask(KSK)
			w.days(70)
			w.say("policy: algorithm ed25519")
			w.policy = policy(t, func(p *fleet.DNSSECPolicy) { p.Revoke, p.Algorithm = true, fleet.Ed25519; lifetimes(0, 0)(p) })
			w.days(80)
		},
		"unsigned": func(w *world) {
			w.days(10)
			w.say("no policy")
			w.policy = nil
			w.days(10)
		},
	}
	for name, play := range scripts {
		w := newWorld(t, policy(t, nil))
		play(w)
		got := strings.Join(w.log, "\n") + "\n"
		file := filepath.Join("testdata", "rolls", name+".txt")
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}
