package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"meridian/daemon"
	dnsserver "meridian/dns/server"
	"meridian/dns/transfer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// transferPart moves zones to and from other nameservers. Its Apply follows
// the nameserver's, whose zones it sends and sets.
func (s *gslbNode) transferPart(b *daemon.Base, d *dnsserver.Server) (daemon.Part, error) {
	cfg := transfer.Config{Zones: served{d}, Dir: filepath.Join(s.flags.Data, "transfer"), Logger: b.Log}
	switch {
	case s.control != nil:
		cfg.Updater = s.control
	case s.daemon.Client() != nil:
		cfg.Updater = s.daemon.Client()
	}
	t, err := transfer.New(cfg)
	if err != nil {
		return daemon.Part{}, err
	}
	d.SetSpecial(special{t})
	d.OnZone(t.ZoneChanged)
	s.transfer.Store(t)
	return daemon.Part{Name: "transfers", Apply: t.Apply, Run: t.Run, Register: t.Register}, nil
}

// served shows the nameserver's zones to transfers.
type served struct{ *dnsserver.Server }

// Static gives a zone as transfers show it.
func (s served) Static(name fleet.Name) *zone.Zone { return s.Plan().Static(name) }

// special hands the nameserver's special messages to transfers.
type special struct{ *transfer.Transfer }

// Handle answers one message.
func (s special) Handle(ctx context.Context, r *dnsserver.Request) {
	s.Transfer.Handle(ctx, &transfer.Request{
		Message: r.Message, Client: r.Client, Stream: r.Transport.Stream(), Encrypted: r.Transport.Encrypted(),
		Answer: r.Answer, Reply: r.Reply,
	})
}

// servedZones shows the admin API what this node serves.
type servedZones struct {
	dns *atomic.Pointer[dnsserver.Server]
}

// Zone gives a zone as it is served; nil for none.
func (s servedZones) Zone(name fleet.Name) *zone.Zone {
	if d := s.dns.Load(); d != nil {
		return d.Zone(name)
	}
	return nil
}

// Static gives a zone as transfers show it; nil for none.
func (s servedZones) Static(name fleet.Name) *zone.Zone {
	if d := s.dns.Load(); d != nil {
		return d.Plan().Static(name)
	}
	return nil
}

// ZoneNames lists the zones served.
func (s servedZones) ZoneNames() []fleet.Name {
	var out []fleet.Name
	if d := s.dns.Load(); d != nil {
		for z := range d.Plan().Zones() {
			out = append(out, z.Name)
		}
	}
	return out
}

// zoneState tells how a secondary zone is; "" for others.
func (s *gslbNode) zoneState(name fleet.Name) string {
	t := s.transfer.Load()
	if t == nil {
		return ""
	}
	z, _ := t.StatusOf(name)
	return string(z.State)
}

// errNoTransfers is what actions get where the node has no nameserver.
var errNoTransfers = errors.New("this node is no nameserver")

// zoneAction does what an operator asks for a zone.
func (s *gslbNode) zoneAction(_ context.Context, name fleet.Name, action string) error {
	t := s.transfer.Load()
	if t == nil {
		return errNoTransfers
	}
	switch action {
	case "notify":
		return t.Notify(name)
	case "refresh":
		return t.Refresh(name)
	case "retransfer":
		return t.Retransfer(name)
	}
	return fmt.Errorf("action %q is not notify, refresh or retransfer", action)
}
