//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Queries counts questions put to the nameservers themselves.
type Queries struct {
	Total int `json:"total"`
	Lost  int `json:"lost"` // without a right answer
}

// How long the store is left to itself after a restart, and kept dead.
const (
	storeRestart = 10 * time.Second
	storeDead    = 20 * time.Second
	storeReturn  = 30 * time.Second // the most for a child to be started again
)

// storeLoss kills the etcd children of all gslb nodes, run after run: first
// once, so that they restart, then as often as they come back. Nothing that
// serves clients may notice.
func (s *scenario) storeLoss(ctx context.Context, runs int) error {
	s.out.Scenario, s.out.Runs, s.out.Queries = "store-loss", runs, &Queries{}
	s.say("Waiting until every region serves its clients.")
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.seen.reset()
	watched, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for i := range s.lab.Topology.Regions {
		wg.Go(func() { s.questionNameserver(watched, &s.lab.Topology.Regions[i]) })
	}
	for i := range runs {
		if err := s.storesRun(ctx); err != nil {
			return err
		}
		s.say("Run %d of %d: all store children are killed at once, and restart.", i+1, runs)
		if err := s.lab.killStores(); err != nil {
			return err
		}
		if err := wait(ctx, storeRestart); err != nil {
			return err
		}
		s.say("  Now they are kept dead for %s.", storeDead)
		if err := s.keepStoresDead(ctx); err != nil {
			return err
		}
	}
	stop()
	wg.Wait()
	s.out.Requests = s.seen.counts()
	return nil
}

// storesRun waits until every gslb node has a store child: after a time of
// being killed they come back more slowly each time.
func (s *scenario) storesRun(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeReturn)
	defer cancel()
	for {
		children, err := s.lab.stores()
		if err != nil {
			return err
		}
		if len(children) >= len(s.lab.Topology.Regions) {
			return nil
		}
		if wait(ctx, pollEvery) != nil {
			return fmt.Errorf("%d store children run, not one for each region", len(children))
		}
	}
}

func (s *scenario) keepStoresDead(ctx context.Context) error {
	end := time.Now().Add(storeDead)
	for time.Now().Before(end) {
		if err := s.lab.killStores(); err != nil {
			return err
		}
		if err := wait(ctx, 5*pollEvery); err != nil {
			return err
		}
	}
	return nil
}

// questionNameserver asks a region's nameserver for what its clients ask, and
// counts, until ctx ends.
func (s *scenario) questionNameserver(ctx context.Context, r *Region) {
	node := r.Of(Gslb)[0]
	v4, _ := s.lab.Topology.Addr(r, node)
	server, subnet := netip.AddrPortFrom(v4, s.lab.Topology.DNSPort), s.lab.Topology.CitiesOf(r.ID)[0].Subnet
	for wait(ctx, pollEvery) == nil {
		addrs, _, err := ask(context.WithoutCancel(ctx), s.lab, node.Name, server, question{RegionalName, dns.TypeA}, subnet)
		s.mu.Lock()
		s.out.Queries.Total++
		if err != nil || addrs[0] != r.VIPs.V4[0] {
			s.out.Queries.Lost++
		}
		s.mu.Unlock()
	}
}

// stores lists the children of all gslb nodes: the store's processes.
func (l *Lab) stores() ([]int, error) {
	parents := map[int]bool{}
	for i := range l.Topology.Regions {
		for _, n := range l.Topology.Regions[i].Of(Gslb) {
			if p := l.ps.get(n.Name); p != nil && p.alive() {
				parents[p.cmd.Process.Pid] = true
			}
		}
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && parents[parentOf(path)] {
			children = append(children, pid)
		}
	}
	return children, nil
}

// killStores kills the store's processes that run at this moment.
func (l *Lab) killStores() error {
	children, err := l.stores()
	if err != nil {
		return err
	}
	for _, pid := range children {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill store child %d: %w", pid, err)
		}
	}
	return nil
}

// parentOf reads a process's parent from its stat file; 0 where it has gone.
func parentOf(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything; state and parent follow it.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	pid, _ := strconv.Atoi(string(fields[1]))
	return pid
}

// wait lets d pass, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
