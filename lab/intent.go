//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"meridian/controlplane"
	"meridian/controlplane/api"
	"meridian/fleet"
	"meridian/node"
)

// admin gives a client of the admin API of a region's gslb node, as gslb
// apply is one.
func (l *Lab) admin(r *Region) *api.Client {
	n := r.Of(Gslb)[0]
	return &api.Client{
		URL: "http://" + n.Name, Token: l.token,
		HTTP: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return l.Dial(ctx, n.Name, network, l.own(r, n, adminPort))
			},
		}},
	}
}

// ask puts one question or order to the admin API of the first region that
// answers: one that has just been restored may not yet.
func (l *Lab) ask(f func(*api.Client) error) error {
	errs := []error{errors.New("no region answers")}
	for i := range l.Topology.Regions {
		r := &l.Topology.Regions[i]
		if !l.Alive(r.ID) {
			continue
		}
		err := f(l.admin(r))
		if err == nil || api.Refused(err) != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// configureWithin limits the time from the start of the processes to the
// first Spec stored: the store's members must find each other first.
const configureWithin = 60 * time.Second

// configure stores the first Spec as soon as the control plane takes it.
func (l *Lab) configure(ctx context.Context) error {
	doc, objects, err := node.ReadFile(l.path(specFile))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, configureWithin)
	defer cancel()
	_, err = l.submit(ctx, doc, objects, nil)
	return err
}

// submit hands a Spec in until the control plane takes it, or says what is wrong
// with it: its store may have just begun, or come back.
func (l *Lab) submit(ctx context.Context, doc []byte, objects []fleet.Object, base *uint64) (*controlplane.Result, error) {
	for {
		res, err := l.admin(&l.Topology.Regions[0]).Submit(ctx, doc, objects, base, false)
		if p := api.Refused(err); err == nil || p != nil && (len(p.Errors) > 0 || p.Current > 0) {
			return res, err
		}
		if dead := l.ps.fallen(); dead != nil {
			return nil, dead
		}
		if wait(ctx, 200*time.Millisecond) != nil {
			return nil, fmt.Errorf("the control plane did not take the Spec: %w", err)
		}
	}
}

// changeSpec makes a harmless change of the Spec and gives the time from the
// control plane's acceptance until every node has acknowledged it.
func (l *Lab) changeSpec(ctx context.Context) (time.Duration, error) {
	a := l.admin(&l.Topology.Regions[0])
	now, err := a.Status(ctx)
	if err != nil {
		return 0, err
	}
	spec := l.Topology.Spec()
	// Harmless: how long an idle connection may stay, another value each time.
	spec.Services[0].Timeouts.Idle = fleet.Duration(time.Minute + time.Duration(now.Revision+1)*time.Second)
	doc, err := specYAML(spec)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(l.path(specFile), doc, 0o600); err != nil {
		return 0, fmt.Errorf("spec: %w", err)
	}
	_, objects, err := node.ReadFile(l.path(specFile))
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, failoverWithin)
	defer cancel()
	took, err := l.submit(ctx, doc, objects, &now.Revision)
	if err != nil {
		return 0, err
	}
	for {
		s, err := a.Status(ctx)
		if err != nil {
			return 0, err
		}
		missing, last := l.missing(s.Nodes, took.Revision)
		if len(missing) == 0 {
			return last.Sub(took.Accepted), nil
		}
		if wait(ctx, pollEvery) != nil {
			return 0, fmt.Errorf("revision %d is not acknowledged by %v", took.Revision, missing)
		}
	}
}

// missing lists the nodes of the fleet that have not acknowledged a revision,
// and says when the last one of the others did. All nodes here have one clock.
func (l *Lab) missing(acks []controlplane.Ack, revision uint64) (names []string, last time.Time) {
	acked := map[string]time.Time{}
	for _, a := range acks {
		if a.Applied >= revision {
			acked[a.Node] = a.At
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
	return l.ask(func(a *api.Client) error {
		_, err := a.Shift(ctx, api.ShiftRequest{
			ID: "demo-" + region, From: region, Share: share, Drain: drain, For: fleet.Duration(shiftFor), Reason: "asked for in the demo",
		}, false)
		return err
	})
}

// unshift takes back every shift away from a region.
func (l *Lab) unshift(ctx context.Context, region string) error {
	return l.ask(func(a *api.Client) error {
		have, err := a.Shifts(ctx)
		for _, sh := range have {
			if err == nil && sh.From == region {
				err = a.Unshift(ctx, sh.ID)
			}
		}
		return err
	})
}
