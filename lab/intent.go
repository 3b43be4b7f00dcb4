//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"meridian/fleet"
)

// configureWithin limits the time from the start of the processes to the
// first Spec stored: the store's members must find each other first.
const configureWithin = 60 * time.Second

// configure stores the first Spec as soon as the control plane takes it.
func (l *Lab) configure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, configureWithin)
	defer cancel()
	doc, err := specYAML(l.Topology.Spec(l.Dir))
	if err != nil {
		return err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := l.admin(&l.Topology.Regions[0]).postConfig(ctx, doc, 0)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the control plane did not take the Spec: %w; logs are in %s", err, l.path("logs"))
		case <-tick.C:
		}
	}
}

// stored is the control plane's word on a Spec that it has taken.
type stored struct {
	Revision uint64    `json:"revision"`
	Accepted time.Time `json:"accepted"`
}

func (a *admin) postConfig(ctx context.Context, doc []byte, base uint64) (stored, error) {
	var s stored
	err := a.do(ctx, http.MethodPost, fmt.Sprintf("/config?revision=%d", base), doc, &s)
	return s, err
}

// status is the part of GET /status that the lab reads.
type status struct {
	Revision uint64 `json:"revision"`
	Nodes    []struct {
		Node    string    `json:"node"`
		Applied uint64    `json:"applied"`
		At      time.Time `json:"at"` // when it acknowledged; all nodes here have one clock
	} `json:"nodes"`
}

// changeSpec makes a harmless change of the Spec and gives the time from the
// control plane's acceptance until every node has acknowledged it.
func (l *Lab) changeSpec(ctx context.Context) (time.Duration, error) {
	a, err := l.anyAdmin()
	if err != nil {
		return 0, err
	}
	var now status
	if err := a.do(ctx, http.MethodGet, "/status", nil, &now); err != nil {
		return 0, err
	}
	spec := l.Topology.Spec(l.Dir)
	// Harmless: how long an idle connection may stay, another value each time.
	spec.Services[0].Timeouts.Idle = fleet.Duration(time.Minute + time.Duration(now.Revision+1)*time.Second)
	doc, err := specYAML(spec)
	if err != nil {
		return 0, err
	}
	took, err := a.postConfig(ctx, doc, now.Revision)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, failoverWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var s status
		if err := a.do(ctx, http.MethodGet, "/status", nil, &s); err != nil {
			return 0, err
		}
		missing, last := l.missing(s, took.Revision)
		if len(missing) == 0 {
			return last.Sub(took.Accepted), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("revision %d is not acknowledged by %v", took.Revision, missing)
		case <-tick.C:
		}
	}
}

// missing lists the nodes of the fleet that have not acknowledged a revision,
// and says when the last one of the others did.
func (l *Lab) missing(s status, revision uint64) (names []string, last time.Time) {
	acked := map[string]time.Time{}
	for _, n := range s.Nodes {
		if n.Applied >= revision {
			acked[n.Node] = n.At
		}
	}
	for _, r := range l.Topology.Regions {
		for _, n := range r.Nodes {
			at, ok := acked[n.Name]
			switch {
			case n.Kind == Backend:
			case !ok:
				names = append(names, n.Name)
			case at.After(last):
				last = at
			}
		}
	}
	return names, last
}

// shiftFor is how long a visitor's shift lasts at most.
const shiftFor = time.Hour

func (l *Lab) shift(ctx context.Context, region string, share float64, drain bool) error {
	a, err := l.anyAdmin()
	if err != nil {
		return err
	}
	return a.do(ctx, http.MethodPost, "/traffic-shift", fleet.Shift{
		From: region, Share: share, Drain: drain, Expires: time.Now().Add(shiftFor), Reason: "demo",
	}, nil)
}

// unshift takes back every shift away from a region.
func (l *Lab) unshift(ctx context.Context, region string) error {
	a, err := l.anyAdmin()
	if err != nil {
		return err
	}
	var have []fleet.Shift
	if err := a.do(ctx, http.MethodGet, "/traffic-shift", nil, &have); err != nil {
		return err
	}
	var errs []error
	for _, sh := range have {
		if sh.From == region {
			errs = append(errs, a.do(ctx, http.MethodDelete, "/traffic-shift/"+url.PathEscape(sh.ID), nil, nil))
		}
	}
	return errors.Join(errs...)
}
