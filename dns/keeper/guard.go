package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"meridian/dns/sign"
	"meridian/fleet"
)

// guard is what one Derive has learned of whether parents can be asked.
type guard struct {
	mu    sync.Mutex
	until time.Time // asking goes on
	heard bool      // somebody answered
	deaf  bool      // nobody did in good time
	told  bool      // logged
}

// Bounds on asking: somebody waits for it.
const (
	guardLimit = 4 * time.Second // for one Derive, whatever the number of zones
	guardPause = time.Minute     // after one in which nobody answered
)

// barred says why the zone is not to get its first keys: its parent has a DS,
// which is of keys that are elsewhere, or were lost with the store. Resolvers
// that know it would take whatever new keys sign for a forgery. Where nobody
// can be asked there is no guard.
func (j *job) barred() error {
	z := j.z
	if j.policy == nil || j.k.cfg.Resolver == nil || z.state != nil && (len(z.state.Keys) > 0 || z.state.New) {
		return nil
	}
	if age := j.now.Sub(z.barredAt); z.bar != nil && age >= 0 && age < retry {
		return z.bar // asked a moment ago
	}
	z.bar = nil
	list, err := j.guard.ask(j.ctx, j.k, j.name)
	if err != nil {
		if j.guard.first() {
			j.k.log.Warn("whether the parent of a zone that is signed for the first time has a DS for it cannot be asked; it is signed", "zone", j.name, "error", err)
		}
		j.k.metrics.failures.Inc()
		return nil
	}
	if len(list) == 0 {
		return nil
	}
	z.barredAt, z.bar = j.now, fmt.Errorf("its parent has a DS (%s) of keys that are not here, and signed with new ones it would be bogus: gslb keys restore or import those keys; or, where new ones are wanted all the same: gslb keys new %s", tags(list), j.name)
	return z.bar
}

// tags names DS for people: key tag and algorithm, each once.
func tags(list []sign.DS) string {
	var out []string
	for _, d := range list {
		if text := fmt.Sprintf("tag %d, %s", d.KeyTag, sign.AlgorithmName(d.Algorithm)); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, "; ")
}

var errNotAsked = errors.New("others could not be asked")

// ask asks for a zone's DS, unless nobody has answered so far or too much time
// has gone into it.
func (g *guard) ask(ctx context.Context, k *Keeper, zone fleet.Name) ([]sign.DS, error) {
	g.mu.Lock()
	if g.until.IsZero() {
		g.until = time.Now().Add(guardLimit)
		k.mu.Lock()
		g.deaf = time.Now().Before(k.deafUntil)
		k.mu.Unlock()
	}
	until, deaf := g.until, g.deaf || !time.Now().Before(g.until)
	g.mu.Unlock()
	if deaf {
		return nil, errNotAsked
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, firstWait)
	defer stop()
	list, err := k.cfg.Resolver.DS(ctx, zone)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard = g.heard || err == nil
	if g.deaf = !g.heard && ctx.Err() != nil; g.deaf {
		k.mu.Lock()
		k.deafUntil = time.Now().Add(guardPause)
		k.mu.Unlock()
	}
	return list, err
}

// first says whether it is the first time that it is called.
func (g *guard) first() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	told := g.told
	g.told = true
	return !told
}

// strays gives the DS of a zone's parent, where it has some and none is of the
// zone's keys: for resolvers that validate, the zone is bogus.
func (z *kept) strays(name fleet.Name) []sign.DS {
	if z.state == nil || len(z.state.Keys) == 0 {
		return nil
	}
	for _, d := range z.state.Parent {
		if slices.ContainsFunc(z.state.Keys, func(k sign.Key) bool { return k.Matches(name, d) }) {
			return nil
		}
	}
	return z.state.Parent
}
