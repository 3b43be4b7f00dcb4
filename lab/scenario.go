//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Limits of the parts of a scenario, each several times what it should take.
const (
	settleWithin   = 90 * time.Second
	failoverWithin = 30 * time.Second
)

// A scenario is one experiment: it acts on a lab that serves clients and
// measures.
type scenario struct {
	lab  *Lab
	say  func(format string, args ...any)
	seen *tally
	out  Figures

	mu sync.Mutex // guards out while several goroutines measure
}

// configChanges is how many Spec changes each run makes.
const configChanges = 5

// regionLoss kills each region in turn, run after run, under load.
func (s *scenario) regionLoss(ctx context.Context, runs int) error {
	s.out.Scenario, s.out.Runs = "region-loss", runs
	s.say("Waiting until every region serves its clients.")
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.seen.reset()
	for i := range runs {
		r := &s.lab.Topology.Regions[i%len(s.lab.Topology.Regions)]
		s.say("Run %d of %d: the region %s (%s).", i+1, runs, r.ID, r.Location.City)
		if err := s.loseOne(ctx, r); err != nil {
			return fmt.Errorf("run %d, region %s: %w", i+1, r.ID, err)
		}
	}
	s.out.Requests = s.seen.counts()
	return nil
}

func (s *scenario) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	return s.lab.settled(ctx, s.seen)
}

// loseOne is one run: change the Spec, kill the region, measure, restore it.
func (s *scenario) loseOne(ctx context.Context, r *Region) error {
	for range configChanges {
		took, err := s.lab.changeSpec(ctx)
		if err != nil {
			return fmt.Errorf("change the Spec: %w", err)
		}
		s.out.Config.add(took)
	}
	s.seen.died(r.ID)
	since := time.Now()
	if err := s.lab.Kill(r.ID); err != nil {
		return err
	}
	if err := s.measure(ctx, r, since); err != nil {
		return err
	}
	s.say("  %s is gone. The slowest nameserver took %.0f ms to answer otherwise%s. Waiting until its clients are served elsewhere.",
		r.ID, s.out.DNS.Max, s.rerouted())
	calm, cancel := context.WithTimeout(ctx, failoverWithin)
	defer cancel()
	for !s.seen.calm(s.lab.Topology.Cities, 5) {
		if wait(calm, 100*time.Millisecond) != nil {
			return fmt.Errorf("clients of %s were not served again: %s", r.ID, s.lab.unsettled(ctx, s.seen))
		}
	}
	s.seen.recovered()
	s.say("  Every city is served. Restoring %s.", r.ID)
	if err := s.lab.Restore(r.ID); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.seen.lived()
	return nil
}

// rerouted says how long the core took, where there is one.
func (s *scenario) rerouted() string {
	if s.out.BGP.N == 0 {
		return ""
	}
	return fmt.Sprintf(", the core %.0f ms to route around it, so far", s.out.BGP.Max)
}

// measure watches all surviving nameservers and the core at once.
func (s *scenario) measure(ctx context.Context, dead *Region, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, failoverWithin)
	defer cancel()
	var g errgroup.Group
	note := func(to *Series, took time.Duration, err error) error {
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		to.add(took)
		return nil
	}
	for i := range s.lab.Topology.Regions {
		if at := &s.lab.Topology.Regions[i]; at.ID != dead.ID {
			g.Go(func() error {
				took, err := s.lab.dnsFailover(ctx, at, dead, since)
				return note(&s.out.DNS, took, err)
			})
		}
	}
	if s.lab.in != nil {
		for _, vip := range s.lab.Topology.Anycast.All() {
			g.Go(func() error {
				took, err := s.lab.bgpFailover(ctx, dead, vip, since)
				return note(&s.out.BGP, took, err)
			})
		}
	}
	return g.Wait()
}

// load runs the clients of every city until the returned function is called.
func (l *Lab) load(seen *tally) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range l.Topology.Cities {
		c, cerr := newClient(l, &l.Topology.Cities[i])
		if cerr != nil {
			err = errors.Join(err, cerr)
			continue
		}
		wg.Go(func() {
			c.run(ctx, func(r result) {
				seen.note(r)
				if r.err != nil {
					l.log.Debug("request failed", "at", r.at.Format("15:04:05.000"), "took", r.took, "city", r.city.ID, "name", r.name, "to", r.address, "err", r.err)
				}
			})
		})
	}
	return func() { cancel(); wg.Wait() }, err
}
