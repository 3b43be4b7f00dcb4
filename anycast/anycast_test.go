package anycast

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

const doc = `
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [203.0.113.1]}, bgp: {asn: 64501}}
anycast: {v4: [198.51.100.1]}
nodes:
  - {name: fra-1, region: fra, roles: [l4, l7, bgp], addresses: {v4: 10.1.0.1}}
services:
  - {service: web, protocol: https, ports: [443], pools: [{id: main, endpoints: [{address: "10.1.1.1:443"}]}]}
`

// speaker notes what it is told; fail makes it refuse.
type speaker struct {
	said []string
	fail error
}

func (s *speaker) Announce(ads []fleet.Advertisement) error {
	if s.fail != nil {
		return s.fail
	}
	var list []string
	for _, ad := range ads {
		list = append(list, fmt.Sprintf("%s/%d", ad.Prefix.Addr(), ad.Prepend))
	}
	s.said = append(s.said, strings.Join(list, " "))
	return nil
}

func (s *speaker) last() string {
	if len(s.said) == 0 {
		return "nothing said"
	}
	return s.said[len(s.said)-1]
}

// running starts an Anycast inside a synctest bubble.
func running(t *testing.T) (a *Anycast, s *speaker, local *atomic.Pointer[error], stop func()) {
	s, local = &speaker{}, &atomic.Pointer[error]{}
	a, err := New(Config{Node: "fra-1", Speaker: s, Logger: slog.New(slog.DiscardHandler), Local: func() error {
		if e := local.Load(); e != nil {
			return *e
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := fleet.Compile([]byte(doc), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Apply(&fleet.World{Snapshot: snap}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	return a, s, local, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestAnnouncesOnceReadyAndWithdrawsWhenNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, local, stop := running(t)
		after := func(d time.Duration, want string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if s.last() != want {
				t.Errorf("announced %q, want %q", s.last(), want)
			}
		}
		after(500*time.Millisecond, "")
		after(time.Second, "203.0.113.1/0 198.51.100.1/3")
		after(10*time.Second, "203.0.113.1/0 198.51.100.1/0")
		if n := len(s.said); n != 3 {
			t.Errorf("said %d times, want only on change: %q", n, s.said)
		}
		broken := errors.New("no program on eth0")
		local.Store(&broken)
		after(time.Second, "")
		if got := a.Status().Silent; got != "the node cannot serve: no program on eth0" {
			t.Errorf("reason %q", got)
		}
		local.Store(nil)
		after(2*time.Second, "203.0.113.1/0 198.51.100.1/3")
		after(10*time.Second, "203.0.113.1/0 198.51.100.1/0")
		a.SetView(&fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{
			{Kind: fleet.TargetGateway, Region: "fra", Node: "fra-1"}: {State: fleet.Down}}})
		after(time.Millisecond, "203.0.113.1/0 198.51.100.1/3")
		stop()
		if s.last() != "" {
			t.Errorf("at the end %q was announced", s.last())
		}
	})
}

func TestASpeakerThatRefusesIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, _, stop := running(t)
		s.fail = errors.New("not started")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if err := a.Status().Err; err == nil || !strings.Contains(err.Error(), "not started") {
			t.Errorf("status %v", err)
		}
		s.fail = nil
		time.Sleep(time.Second)
		synctest.Wait()
		if s.last() != "203.0.113.1/0 198.51.100.1/3" {
			t.Errorf("announced %q", s.last())
		}
		stop()
	})
}
