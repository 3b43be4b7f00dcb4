package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"meridian/controlplane"
	"meridian/daemon"
	"meridian/dns/keeper"
	"meridian/dns/stub"
	"meridian/fleet"
)

// keysDir is where a node that has its Spec from a file keeps zones' keys,
// below its data directory.
const keysDir = "keys"

// keep makes the keeper of the zones that the fleet writes, and the part that
// runs it. alone says that no other process of the fleet keeps zones.
func (s *gslbNode) keep(keys keeper.KeyStore, fromFile bool) (daemon.Part, error) {
	resolver := stub.New(stub.Config{})
	k, err := keeper.New(keeper.Config{Keys: keys, Resolver: resolver, Rand: rand.Reader, Logger: s.log})
	if err != nil {
		return daemon.Part{}, err
	}
	s.deriver = &deriver{k, resolver, fromFile}
	admin := &keeper.Admin{Store: keys, Identity: s.id, Rand: rand.Reader, Changed: k.Invalidate}
	if _, lists := keys.(keeper.Lister); !lists {
		admin.Names = func(context.Context) ([]fleet.Name, error) { return keyZones(s.daemon.World()), nil }
	}
	s.keys = keeper.Handler(admin)
	return daemon.Part{Name: "keeper", Run: k.Run, Register: k.Register}, nil
}

// deriver is the keeper under a World's own settings.
type deriver struct {
	*keeper.Keeper
	resolver *stub.Stub
	fromFile bool
}

// Derive makes zones; see keeper.Keeper.
func (d *deriver) Derive(ctx context.Context, w *fleet.World, contents, old *fleet.Zones, now time.Time) ([]fleet.Object, []fleet.Name, time.Time, error) {
	d.resolver.Use(w.Snapshot.Spec.DNS.Resolvers)
	if d.fromFile && several(w.Snapshot.Spec) {
		return nil, nil, time.Time{}, fmt.Errorf("%w: zones that are signed, dynamic, listed in a catalog (member_of), have aliases or a serial other than keep (unixtime is the default with steered names and transfer or notify) have one writer: with several nodes of the role dns, run a control plane in place of --spec", controlplane.ErrRefused)
	}
	return d.Keeper.Derive(ctx, w, contents, old, now)
}

// several says whether several nameservers would each write the zones that the
// Spec has the fleet write.
func several(spec *fleet.Spec) bool {
	nameservers := 0
	for i := range spec.Nodes {
		if spec.Nodes[i].Has(fleet.RoleDNS) {
			nameservers++
		}
	}
	if nameservers < 2 {
		return false
	}
	for i := range spec.Zones {
		z := &spec.Zones[i]
		set := spec.Settings(z)
		if z.Dynamic || len(z.Aliases) > 0 || set.DNSSEC != "" || set.MemberOf != "" || set.Serial != fleet.SerialKeep && len(set.Primaries) == 0 {
			return true
		}
	}
	return false
}
