package health

import (
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
	"meridian/health/verdict"
)

// What a gateway holds of limits reaches the others within a period, again and again;
// of one that has fallen silent they have the last word and its age.
func TestHoldingsReachTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := &hub{mute: map[string]bool{}}, world(t, gateways, 1)
		one := start(t, h, "a-1", w, fleet.RoleL7)
		two := start(t, h, "b-1", w, fleet.RoleL7)
		defer one.stop()
		defer two.stop()
		two.Hold([]fleet.Holding{{Limit: 1, Demand: 10, Held: 5}})
		time.Sleep(2 * time.Second)
		two.Hold([]fleet.Holding{{Limit: 1, Demand: 20, Held: 6}})
		time.Sleep(2 * time.Second)
		got := one.Holdings()
		if len(got) != 1 || len(got["b-1"].List) != 1 || got["b-1"].List[0] != (fleet.Holding{Limit: 1, Demand: 20, Held: 6}) || got["b-1"].Age > Period {
			t.Errorf("%v", got)
		}
		if own := two.Holdings(); len(own) != 0 {
			t.Errorf("one that holds nothing told %v", own)
		}
		h.mu.Lock()
		h.mute["b-1"] = true
		h.mu.Unlock()
		time.Sleep(time.Minute)
		if got := one.Holdings()["b-1"]; got.Age < 59*time.Second || len(got.List) != 1 {
			t.Errorf("of one that is silent: %v", got)
		}
		time.Sleep(forget)
		if got := one.Holdings(); len(got) != 0 {
			t.Errorf("of one that is long gone: %v", got)
		}
	})
}

// Octets that are no frame, echoes and old frames change nothing.
func TestHoldingsThatDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := &hub{mute: map[string]bool{}}, world(t, gateways, 1)
		one := start(t, h, "a-1", w, fleet.RoleL7)
		defer one.stop()
		frame := func(node string, seq uint64, held uint32) {
			f := holdingsFrame(node, seq, held)
			one.receive(f)
		}
		frame("b-1", 2, 7)
		frame("b-1", 1, 8)        // older
		frame("a-1", 3, 9)        // its own name
		frame("stranger", 3, 9)   // the Snapshot does not know it
		one.receive([]byte{2, 0}) // malformed
		got := one.Holdings()
		if len(got) != 1 || got["b-1"].List[0].Held != 7 {
			t.Errorf("%v", got)
		}
	})
}

func holdingsFrame(node string, seq uint64, held uint32) []byte {
	f := verdict.HoldingsFrame{Node: node, Incarnation: 1, Seq: seq, List: []fleet.Holding{{Limit: 1, Held: held}}}
	return f.Append(nil)
}
