package xdp

import "testing"

// What is sent natively from a veth device may be thrown away by its other end:
// it is attached to natively only where that is asked for.
func TestVethIsAttachedToGenerically(t *testing.T) {
	for asked, want := range map[Mode]Mode{Auto: Generic, Native: Native} {
		if got := newSite(t, spec, asked).mode(); got != want {
			t.Errorf("asked for mode %q: attached in mode %q, want %q", asked, got, want)
		}
	}
}
