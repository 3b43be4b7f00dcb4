package xdp

import (
	"testing"
)

// FuzzProgram: whatever comes in, the kernel answers it octet for octet as the
// sockets do, or passes it on as it came.
func FuzzProgram(f *testing.F) {
	m := newMachine(f, newPlan(f, spec, down("web", "fra")))
	signed := newMachine(f, signedPlan(f, "nsec", nil))
	for _, m := range []*machine{m, signed} {
		a := newAsker(m.plan, 3)
		for range 100 {
			f.Add(a.query(), a.Uint32(), m == signed)
		}
	}
	f.Fuzz(func(t *testing.T, q []byte, from uint32, zone bool) {
		if len(q) > 1200 {
			t.Skip()
		}
		of := m
		if zone {
			of = signed
		}
		client := clientOf(from)
		of.compare(t, q, client)
	})
}
