package server

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
)

// A client that has its share waits, whatever address of its network it uses;
// others do not. Nothing is kept of clients that have gone.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shares{each: 2}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		take := func(addr string) func() {
			t.Helper()
			release, ok := s.take(ctx, netip.MustParseAddr(addr))
			if !ok {
				t.Fatalf("%s has nothing", addr)
			}
			return release
		}
		first, second, other := take("2001:db8::1"), take("2001:db8::2"), take("192.0.2.1")
		got := make(chan func(), 1)
		go func() { got <- take("2001:db8::3") }()
		synctest.Wait()
		if len(got) > 0 {
			t.Error("a client has more than its share")
		}
		first()
		third := <-got
		go func() {
			if _, ok := s.take(ctx, netip.MustParseAddr("2001:db8::4")); ok {
				t.Error("a share that was not free is taken")
			}
			got <- nil
		}()
		synctest.Wait()
		cancel()
		<-got
		for _, release := range []func(){second, third, other} {
			release()
		}
		if len(s.used) != 0 {
			t.Errorf("%d clients are kept", len(s.used))
		}
	})
}
