package gobgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	apb "google.golang.org/protobuf/types/known/anypb"

	"meridian/fleet"
)

// bgpServer is gobgp and what it has been told so far. One goroutine uses it.
type bgpServer struct {
	server *server.BgpServer
	have   wanted
	paths  map[netip.Prefix]fleet.Advertisement

	restarting bool // neighbors may have routes of a process before this one
	began      time.Time
}

// waits says that sessions are not to begin yet: neighbors that have routes of
// the process before let them go when this one has said all of its own.
func (b *bgpServer) waits(want wanted) bool {
	for _, n := range want.neighbors {
		b.restarting = b.restarting && (n.restart == 0 || time.Since(b.began) < n.restart/2)
	}
	return b.restarting && len(want.ads) == 0
}

// restartable are the neighbors that keep routes of a session that was cut.
func (w wanted) restartable() map[netip.Addr]neighbor {
	out := maps.Clone(w.neighbors)
	maps.DeleteFunc(out, func(_ netip.Addr, n neighbor) bool { return n.restart == 0 })
	return out
}

// reconcile brings the server to what is wanted: first what it is, then its
// neighbors, then the announcements.
func (b *bgpServer) reconcile(ctx context.Context, want wanted) error {
	if b.have.local != want.local {
		if err := b.restart(ctx, want.local); err != nil {
			return err
		}
	}
	if want.local.asn == 0 {
		return nil
	}
	if b.waits(want) {
		return nil
	}
	first := len(b.have.neighbors) == 0
	if first { // what a session begins with is complete
		if err := b.announcements(ctx, want); err != nil {
			return err
		}
	}
	return errors.Join(b.neighbors(ctx, want), b.announcements(ctx, want))
}

// restart begins anew under another AS number or address.
func (b *bgpServer) restart(ctx context.Context, l local) error {
	if b.have.local.asn != 0 {
		if err := b.server.StopBgp(ctx, &api.StopBgpRequest{}); err != nil {
			return fmt.Errorf("stop: %w", err)
		}
		b.have = wanted{neighbors: map[netip.Addr]neighbor{}}
		b.paths = map[netip.Prefix]fleet.Advertisement{}
	}
	if l.asn == 0 {
		return nil
	}
	err := b.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: l.asn, RouterId: l.routerID.String(), ListenPort: -1, // it connects, nobody connects to it
	}})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := b.onlyOwn(ctx); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	b.have.local = l
	return nil
}

// onlyOwn takes nothing in and gives nothing out but this node's own routes,
// which RFC 8212 asks of a speaker without policy and gobgp does not do.
func (b *bgpServer) onlyOwn(ctx context.Context) error {
	policy := &api.Policy{Name: "only-own", Statements: []*api.Statement{{
		Name:       "own",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT},
	}}}
	if err := b.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: policy}); err != nil {
		return err
	}
	for _, d := range []api.PolicyDirection{api.PolicyDirection_IMPORT, api.PolicyDirection_EXPORT} {
		err := b.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: "global", Direction: d, DefaultAction: api.RouteAction_REJECT, Policies: []*api.Policy{policy},
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// neighbors adds, removes and replaces sessions; those unchanged stay up.
func (b *bgpServer) neighbors(ctx context.Context, want wanted) error {
	var errs []error
	for a, have := range b.have.neighbors {
		if want.neighbors[a] == have {
			continue
		}
		if err := b.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: a.String()}); err != nil {
			errs = append(errs, fmt.Errorf("neighbor %s: remove: %w", a, err))
			continue
		}
		delete(b.have.neighbors, a)
	}
	for a, n := range want.neighbors {
		if _, ok := b.have.neighbors[a]; ok {
			continue
		}
		if err := b.server.AddPeer(ctx, &api.AddPeerRequest{Peer: n.peer(want.local, b.restarting)}); err != nil {
			errs = append(errs, fmt.Errorf("neighbor %s: add: %w", a, err))
			continue
		}
		b.have.neighbors[a] = n
	}
	return errors.Join(errs...)
}

func (n neighbor) peer(l local, restarting bool) *api.Peer {
	p := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: n.address.String(), PeerAsn: n.asn, AuthPassword: n.password},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime:          uint64(n.hold / time.Second),
			KeepaliveInterval: max(1, uint64(n.hold/time.Second)/3), // RFC 4271 section 10
			ConnectRetry:      1,
		}},
		Transport: &api.Transport{RemotePort: uint32(n.port)},
	}
	if l.v4.IsValid() {
		p.AfiSafis = append(p.AfiSafis, afiSafi(familyV4()))
	}
	if l.v6.IsValid() {
		p.AfiSafis = append(p.AfiSafis, afiSafi(familyV6()))
	}
	if n.restart > 0 {
		p.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(n.restart / time.Second), DeferralTime: 1, LocalRestarting: restarting}
		for _, a := range p.AfiSafis {
			a.MpGracefulRestart = &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}}
		}
	}
	return p
}

func afiSafi(f *api.Family) *api.AfiSafi {
	return &api.AfiSafi{Config: &api.AfiSafiConfig{Family: f, Enabled: true}}
}

func familyV4() *api.Family {
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}
func familyV6() *api.Family {
	return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
}

// announcements adds, replaces and withdraws paths. A path that changes only
// in its attributes is announced over the old one, without a gap.
func (b *bgpServer) announcements(ctx context.Context, want wanted) error {
	var errs []error
	next := map[netip.Prefix]fleet.Advertisement{}
	for _, ad := range want.ads {
		ad.Reason = "" // not part of the path
		next[ad.Prefix] = ad
		if have, ok := b.paths[ad.Prefix]; ok && reflect.DeepEqual(have, ad) {
			continue
		}
		if err := b.add(ctx, ad, want); err != nil {
			errs = append(errs, fmt.Errorf("announce %s: %w", ad.Prefix, err))
			delete(next, ad.Prefix)
			continue
		}
		b.paths[ad.Prefix] = ad
	}
	for p, ad := range b.paths {
		if _, ok := next[p]; ok {
			continue
		}
		path, err := pathOf(ad, want)
		if err == nil {
			err = b.server.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Family: path.Family, Path: path})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("withdraw %s: %w", p, err))
			continue
		}
		delete(b.paths, p)
	}
	return errors.Join(errs...)
}

func (b *bgpServer) add(ctx context.Context, ad fleet.Advertisement, want wanted) error {
	path, err := pathOf(ad, want)
	if err != nil {
		return err
	}
	_, err = b.server.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: path})
	return err
}

// gracefulShutdown is the community of RFC 8326.
const gracefulShutdown = 0xFFFF0000

// pathOf gives the path that says what the advertisement says.
func pathOf(ad fleet.Advertisement, want wanted) (*api.Path, error) {
	path := &api.Path{Family: familyV4()}
	hop := want.local.v4
	if ad.Prefix.Addr().Is6() {
		path.Family, hop = familyV6(), want.local.v6
	}
	if !hop.IsValid() {
		return nil, errors.New("the node has no address of that family for the next hop")
	}
	nlri, err := apb.New(&api.IPAddressPrefix{Prefix: ad.Prefix.Addr().String(), PrefixLen: uint32(ad.Prefix.Bits())})
	if err != nil {
		return nil, err
	}
	path.Nlri = nlri
	add := func(a *apb.Any, e error) {
		err = errors.Join(err, e)
		path.Pattrs = append(path.Pattrs, a)
	}
	add(apb.New(&api.OriginAttribute{Origin: 0})) // IGP
	if hop.Is4() {
		add(apb.New(&api.NextHopAttribute{NextHop: hop.String()}))
	} else {
		add(apb.New(&api.MpReachNLRIAttribute{Family: path.Family, NextHops: []string{hop.String()}, Nlris: []*apb.Any{nlri}}))
	}
	add(apb.New(&api.MultiExitDiscAttribute{Med: ad.MED}))
	if len(ad.Communities) > 0 {
		add(apb.New(&api.CommunitiesAttribute{Communities: ad.Communities}))
	}
	if slices.Contains(ad.Communities, gracefulShutdown) {
		// Inside an AS the preference itself is lowered (RFC 8326 section 4);
		// gobgp does not send it to other ones.
		add(apb.New(&api.LocalPrefAttribute{LocalPref: 0}))
	}
	if ad.Prepend > 0 && !want.internal() {
		add(apb.New(&api.AsPathAttribute{Segments: []*api.AsSegment{{
			Type: api.AsSegment_AS_SEQUENCE, Numbers: slices.Repeat([]uint32{want.local.asn}, ad.Prepend),
		}}}))
	}
	return path, err
}

// internal says whether any neighbor is of the own AS: it would take a path
// with that AS in it for a loop.
func (w wanted) internal() bool {
	for _, n := range w.neighbors {
		if n.asn == w.local.asn {
			return true
		}
	}
	return false
}
