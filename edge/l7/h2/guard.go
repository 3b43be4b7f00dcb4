package h2

import (
	"sync/atomic"
	"time"
)

// guard weighs what a peer does that costs it less than it costs this end, one
// by one harmless. The sum leaks away with time and with work well done, so
// that a busy peer never comes near the limit, and a flood of any kind reaches
// it in a fraction of a second. The zero guard is ready for use.
type guard struct {
	level int
	at    time.Time
	done  atomic.Int32 // credit that add has not taken yet
}

// cost is a kind of doubtful act.
type cost uint8

const (
	costUnknown   cost = iota // frames to be ignored
	costWindow                // WINDOW_UPDATE
	costPriority              // PRIORITY
	costEmpty                 // DATA without octets
	costPing                  // PING
	costSettings              // SETTINGS, GOAWAY
	costLateReset             // RST_STREAM after the answer had begun
	costReset                 // RST_STREAM before, and what makes this end reset
	costCount
)

// weights are such that guardLimit is reached by about 250 resets, 100
// SETTINGS, 1250 PINGs or 5000 of the cheapest, above the leak.
var weights = [costCount]int{1, 1, 1, 5, 4, 50, 2, 20}

var costNames = [costCount]string{
	"unknown_frames", "window_update_flood", "priority_flood", "empty_data_flood", "ping_flood", "settings_flood", "reset_flood", "reset_flood",
}

const (
	guardLimit = 5000
	guardLeak  = 500 // a second
)

// add weighs one act; its error ends the connection. The clock is asked only
// when the sum is high.
func (g *guard) add(k cost) error {
	g.level += weights[k]
	if g.level < guardLimit/2 {
		return nil
	}
	g.level = max(g.level-int(g.done.Swap(0)), 0)
	now := time.Now()
	if g.at.IsZero() {
		g.at = now
	}
	passed := min(now.Sub(g.at), time.Minute)
	if leaked := int(passed * guardLeak / time.Second); leaked > 0 {
		g.level, g.at = max(g.level-leaked, 0), now
	}
	if g.level < guardLimit {
		return nil
	}
	return broken(EnhanceYourCalm, costNames[k])
}

// good takes so much weight off, since work was done. Any goroutine may call it.
func (g *guard) good(weight int32) {
	if g.done.Load() < guardLimit {
		g.done.Add(weight)
	}
}
