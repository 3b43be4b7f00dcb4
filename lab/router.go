//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	apb "google.golang.org/protobuf/types/known/anypb"

	"meridian/anycast/gobgp"
)

// RouterConfig is what one router does; its JSON is the file that the hidden
// command lab-router reads.
type RouterConfig struct {
	Name      string           `json:"name"`
	ASN       uint32           `json:"asn"`
	RouterID  netip.Addr       `json:"router_id"`
	Originate []netip.Prefix   `json:"originate"` // announced for itself: the networks behind it
	Neighbors []RouterNeighbor `json:"neighbors"`
}

// RouterNeighbor is one BGP session of a router.
type RouterNeighbor struct {
	Address    netip.Addr `json:"address"`
	ASN        uint32     `json:"asn"`
	Device     string     `json:"device"`     // the session is dropped at once when it loses carrier
	Preference uint32     `json:"preference"` // local preference of what it announces; 100 is usual
	Customer   bool       `json:"customer"`   // gets every route, and its routes go to everyone
	Passive    bool       `json:"passive"`    // it connects to us
	V4         bool       `json:"v4"`         // families of the session
	V6         bool       `json:"v6"`
}

// RunRouter is a BGP router in the namespace that it is called in: it keeps
// the sessions and fills the kernel's routing tables with the best paths, all
// equally good ones of them, until ctx ends.
func RunRouter(ctx context.Context, cfg RouterConfig, log *slog.Logger) error {
	r := &router{cfg: cfg, log: log, peered: map[netip.Addr]bool{}, changed: make(chan struct{}, 1), lost: make(chan netip.Addr, 64)}
	r.bgp = server.NewBgpServer(server.LoggerOption(gobgp.NewLogger(log)))
	go r.bgp.Serve()
	// Stop waits until the sessions are closed; a router that is killed in the
	// lab gets no chance to do so, as in life.
	defer r.bgp.Stop()
	if err := r.start(ctx); err != nil {
		return fmt.Errorf("router %s: %w", cfg.Name, err)
	}
	return r.run(ctx)
}

type router struct {
	cfg     RouterConfig
	log     *slog.Logger
	bgp     *server.BgpServer
	peered  map[netip.Addr]bool // neighbors with a configured session
	changed chan struct{}       // the table may have changed
	lost    chan netip.Addr     // a session went down
}

func (r *router) start(ctx context.Context) error {
	err := r.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: r.cfg.ASN, RouterId: r.cfg.RouterID.String(), ListenPort: 179, UseMultiplePaths: true,
	}})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := r.policies(ctx); err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	for _, p := range r.cfg.Originate {
		if err := r.originate(ctx, p); err != nil {
			return fmt.Errorf("originate %s: %w", p, err)
		}
	}
	return r.watch(ctx)
}

func (r *router) originate(ctx context.Context, p netip.Prefix) error {
	origin, _ := apb.New(&api.OriginAttribute{Origin: 0}) // fails for no valid message
	nlri, _ := apb.New(&api.IPAddressPrefix{Prefix: p.Addr().String(), PrefixLen: uint32(p.Bits())})
	path := &api.Path{Nlri: nlri, Pattrs: []*apb.Any{origin}}
	if p.Addr().Is4() {
		path.Family = familyV4()
		hop, _ := apb.New(&api.NextHopAttribute{NextHop: "0.0.0.0"})
		path.Pattrs = append(path.Pattrs, hop)
	} else {
		path.Family = familyV6()
		hop, _ := apb.New(&api.MpReachNLRIAttribute{Family: familyV6(), NextHops: []string{"::"}, Nlris: []*apb.Any{nlri}})
		path.Pattrs = append(path.Pattrs, hop)
	}
	_, err := r.bgp.AddPath(ctx, &api.AddPathRequest{Path: path})
	return err
}

func familyV4() *api.Family {
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}
func familyV6() *api.Family {
	return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
}

// watch turns gobgp's events into the router's two channels.
func (r *router) watch(ctx context.Context) error {
	begun := map[string]bool{} // sessions that have left the state idle; used by this callback alone
	return r.bgp.WatchEvent(ctx, &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{},
		Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{
			{Type: api.WatchEventRequest_Table_Filter_BEST}}},
	}, func(ev *api.WatchEventResponse) {
		if p := ev.GetPeer(); p != nil && p.Type == api.WatchEventResponse_PeerEvent_STATE {
			idle, key := p.Peer.State.SessionState == api.PeerState_IDLE, p.Peer.State.NeighborAddress
			if a, err := netip.ParseAddr(key); err == nil && idle && begun[key] {
				select {
				case r.lost <- a:
				default:
				}
			}
			begun[key] = !idle
		}
		r.mark()
	})
}

func (r *router) mark() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run follows the devices' carrier, the sessions and the table.
func (r *router) run(ctx context.Context) error {
	updates := make(chan netlink.LinkUpdate, 256)
	if err := netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{ListExisting: true}); err != nil {
		return fmt.Errorf("router %s: watch links: %w", r.cfg.Name, err)
	}
	fib := &fib{log: r.log}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return nil
			}
			r.carrier(ctx, u.Attrs().Name, u.Flags&unix.IFF_LOWER_UP != 0 && u.Flags&unix.IFF_UP != 0)
			r.mark()
		case a := <-r.lost:
			r.repeer(ctx, a)
		case <-r.changed:
			want, err := r.table(ctx)
			if err == nil {
				err = fib.reconcile(want)
			}
			if err != nil {
				r.log.Warn("routes not all in the kernel", "router", r.cfg.Name, "err", err)
			}
		}
	}
}

// carrier drops the sessions over a device that has lost carrier, and opens
// them when it returns (fast external failover).
func (r *router) carrier(ctx context.Context, dev string, up bool) {
	for _, n := range r.cfg.Neighbors {
		if n.Device == dev && r.peered[n.Address] != up {
			r.peer(ctx, n, up)
			r.log.Info("link changed", "router", r.cfg.Name, "neighbor", n.Address, "device", dev, "up", up)
		}
	}
}

// repeer begins a lost session anew at once: gobgp itself would hold it idle
// for five seconds, a new one it does not hold.
func (r *router) repeer(ctx context.Context, a netip.Addr) {
	for _, n := range r.cfg.Neighbors {
		if n.Address == a && r.peered[a] {
			r.log.Info("session lost", "router", r.cfg.Name, "neighbor", a)
			r.peer(ctx, n, false)
			r.peer(ctx, n, true)
		}
	}
}

func (r *router) peer(ctx context.Context, n RouterNeighbor, on bool) {
	var err error
	if on {
		err = r.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: n.peer()})
	} else {
		err = r.bgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: n.Address.String()})
	}
	if err != nil {
		r.log.Error("session not changed", "router", r.cfg.Name, "neighbor", n.Address, "on", on, "err", err)
		return
	}
	r.peered[n.Address] = on
}

func (n RouterNeighbor) peer() *api.Peer {
	p := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: n.Address.String(), PeerAsn: n.ASN},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: 9, KeepaliveInterval: 3, ConnectRetry: 1, IdleHoldTimeAfterReset: 1}},
		Transport: &api.Transport{PassiveMode: n.Passive},
	}
	for _, f := range []struct {
		on     bool
		family *api.Family
	}{{n.V4, familyV4()}, {n.V6, familyV6()}} {
		if f.on {
			p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{Family: f.family, Enabled: true}})
		}
	}
	return p
}

// ReadRouterConfig reads the file that the hidden command lab-router is given.
func ReadRouterConfig(path string) (RouterConfig, error) {
	var cfg RouterConfig
	doc, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(doc, &cfg)
	}
	if err != nil {
		return RouterConfig{}, fmt.Errorf("router config %s: %w", path, err)
	}
	return cfg, nil
}
