package main

import (
	"context"
	"time"

	"meridian/daemon"
	"meridian/edge/xdp"
	"meridian/geo"
	"meridian/geo/mmdb"
)

// geoPeriod is how often geo database files are looked at for a newer one.
const geoPeriod = 10 * time.Second

// geo gives the database that layer 4's lists go by: files that are read now, or
// the embedded one where it is needed; and the parts that keep it current.
func (f *flags) geo(b *daemon.Base) (source func() (geo.Source, error), watch func(*xdp.Layer4) []daemon.Part, err error) {
	if len(f.Geo) == 0 {
		return mmdb.Default, func(*xdp.Layer4) []daemon.Part { return nil }, nil
	}
	db, err := mmdb.Open(f.Geo...)
	if err != nil {
		return nil, nil, err
	}
	source = func() (geo.Source, error) { return db, nil }
	watch = func(x *xdp.Layer4) []daemon.Part {
		return []daemon.Part{{Name: "geo", Run: func(ctx context.Context) error {
			mmdb.Watch(ctx, b.Log, geoPeriod, func(next geo.Source) {
				if err := x.SetGeo(next); err != nil {
					b.Log.Error("geo database not taken into use; the old one stays", "error", err)
				}
			}, f.Geo...)
			return nil
		}}}
	}
	return source, watch, nil
}

// sflow gives the part that tells the collector, if there is one.
func (f *flags) sflow(b *daemon.Base, x *xdp.Layer4) []daemon.Part {
	if f.SFlow == "" {
		return nil
	}
	n := b.World.Snapshot.Node(b.Node).Addresses
	agent := n.V6
	if n.V4.IsValid() {
		agent = n.V4
	}
	return []daemon.Part{{Name: "sflow", Run: func(ctx context.Context) error {
		return exportFlows(ctx, x, agent, f.SFlow, b.Log)
	}}}
}
