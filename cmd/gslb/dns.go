package main

import (
	"context"
	"errors"
	"time"

	"meridian/daemon"
	"meridian/dns/answer"
	"meridian/dns/quic"
	dnsserver "meridian/dns/server"
	"meridian/dns/tap"
	"meridian/geo"
	"meridian/geo/mmdb"
)

// geoPeriod is how often geo database files are looked at for a newer one.
const geoPeriod = 10 * time.Second

// dnsParts make the nameserver. It listens where the Spec says, for UDP and TCP
// where --listen says if it is given.
func (s *gslbNode) dnsParts(b *daemon.Base) ([]daemon.Part, error) {
	source, err := openGeo(s.flags.Geo)
	if err != nil {
		return nil, err
	}
	listen, err := s.flags.listen(nil)
	if err != nil {
		return nil, err
	}
	log := tap.New(tap.Config{Identity: b.Node, Version: "meridian", Logger: b.Log})
	fast, register, err := s.flags.fastPath(b.Log)
	if err != nil {
		return nil, err
	}
	d, err := dnsserver.New(dnsserver.Config{
		Listen: listen, Geo: source, Logger: b.Log, QUIC: quic.New(b.Log), Tap: log, Fast: fast,
		Identity: answer.Identity{Node: b.Node, Cookie: b.Identity.CookieSecret},
	})
	if err != nil {
		return nil, err
	}
	s.dns.Store(d)
	ready := func() error {
		if !d.Ready() {
			return errors.New("nothing to serve yet")
		}
		if !d.Listening() {
			return errors.New("cannot listen yet")
		}
		return nil
	}
	transfers, err := s.transferPart(b, d)
	if err != nil {
		return nil, err
	}
	parts := []daemon.Part{
		{Name: "query log", Apply: log.Apply, Run: log.Run, Register: log.Register},
		{Name: "nameserver", Apply: d.Apply, SetView: d.SetView, Run: d.Run, Register: d.Register, Ready: ready},
		{Name: "answers in the kernel", Register: register},
		transfers,
	}
	if len(s.flags.Geo) == 0 {
		return parts, nil
	}
	return append(parts, daemon.Part{Name: "geo", Run: func(ctx context.Context) error {
		mmdb.Watch(ctx, b.Log, geoPeriod, func(next geo.Source) {
			if err := d.SetGeo(next); err != nil {
				b.Log.Error("geo database not taken into use; the old one stays", "error", err)
			}
		}, s.flags.Geo...)
		return nil
	}}), nil
}
