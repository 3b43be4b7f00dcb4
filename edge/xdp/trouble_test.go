package xdp

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"meridian/edge/defence"
	"meridian/internal/testkit"
)

// noListsYet are the kernel's tables, which have no memory for lists until full is
// false.
type noListsYet struct {
	tables
	full *atomic.Bool
}

func (n noListsYet) setLists(t *defence.Table) error {
	if n.full.Load() {
		return errInjected
	}
	return n.tables.setLists(t)
}

// A node whose defence cannot be put in place serves all the same: it is ready, takes
// in who lives, and says once what is wrong, while it tries again until it can.
func TestNodeWithoutItsDefenceStaysReady(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	r.start(Native)
	r.stop["lb"]()
	var log testkit.Buffer
	var full atomic.Bool
	full.Store(true)
	l, err := New(Config{Node: "lb", Roles: Roles{L4: true}, Mode: Native, Health: newTrackers(), Key: Key{1, 2, 3},
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.must(err)
	r.must(l.Apply(worldOf(t, regionSpec+"defence: {block: {prefixes: [10.7.0.0/24]}}\n")))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- r.lb.Enter(func() error {
			s, err := l.open(nil)
			if err != nil {
				return err
			}
			s.rec.tables = noListsYet{s.rec.tables, &full}
			_, err = s.run(ctx)
			if cerr := s.close(); err == nil {
				err = cerr
			}
			return err
		})
	}()
	t.Cleanup(func() {
		cancel()
		r.must(<-ended)
	})
	tries := func() uint64 {
		l.stats.mu.Lock()
		defer l.stats.mu.Unlock()
		return l.stats.failures
	}
	eventually(t, "ready, though without its defence", func() bool { return tries() > 0 && l.Ready() == nil })
	before := tries()
	eventually(t, "more tries", func() bool {
		if err := l.Ready(); err != nil {
			t.Fatalf("not ready any more: %v", err)
		}
		return tries() >= before+3
	})
	eventually(t, "both gateways in the ring", func() bool { return l.ringMembers("gateways/ipip/v4") == 2 })
	r.gateways["gw1"].ready.Store(false)
	eventually(t, "a gateway that is not ready leaves the ring", func() bool { return l.ringMembers("gateways/ipip/v4") == 1 })
	eventually(t, "there is no defence, and a client on its list gets in", func() bool { return r.reaches(vip4) })
	const said = "layer 4 goes on with a part as it was"
	if n := strings.Count(log.String(), said); n != 1 || !strings.Contains(log.String(), errInjected.Error()) {
		t.Errorf("said %d times; the log: %s", n, log.String())
	}
	full.Store(false)
	eventually(t, "the block list", func() bool { return !r.reaches(vip4) && l.counted("drop_blocked") > 0 })
	if err := l.Ready(); err != nil {
		t.Errorf("with its defence: %v", err)
	}
}
