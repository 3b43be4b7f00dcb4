package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"meridian/controlplane"
	"meridian/controlplane/store"
	"meridian/dns/answer"
	"meridian/dns/keeper"
	dnsserver "meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/node"
	"meridian/rules"
)

// queue is a Source whose Worlds the benchmark brings.
type queue chan func(apply func(*fleet.World) error)

func (q queue) Run(ctx context.Context, apply func(*fleet.World) error) error {
	for {
		select {
		case f := <-q:
			f(apply)
		case <-ctx.Done():
			return nil
		}
	}
}

// What a node does with one changed zone among 100,000, from the World that it
// is brought to the nameserver and the disk.
func BenchmarkOneZoneOf100000OnANode(b *testing.B) {
	const spec = `
regions: [{id: fra, vips: {v4: [192.0.2.1]}, location: {latitude: 0, longitude: 0}}]
nodes: [{name: n1, region: fra, roles: [dns], addresses: {v4: 127.0.0.1}}]
`
	s, err := rules.Compile([]byte(spec), 1)
	if err != nil {
		b.Fatal(err)
	}
	content := func(serial int) []byte {
		return fmt.Appendf(nil, "@ 300 SOA ns.invalid. host.invalid. %d 2 3 4 5\n@ 300 NS ns.invalid.\nwww 60 A 192.0.2.1\n", serial)
	}
	var put []fleet.Object
	for i := range 100_000 {
		put = append(put, rules.ZoneObject(fleet.Name(fmt.Sprintf("z%d.test.", i)), content(1)))
	}
	w, err := rules.World(s, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	var none *fleet.Zones
	w.Zones = none.With(put, nil)
	log := slog.New(slog.DiscardHandler)
	d, err := dnsserver.New(dnsserver.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Identity: answer.Identity{Node: "n1"}, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	q := make(queue)
	agent, err := node.New(node.Config{Name: "n1", Source: q, SourceName: "store", Logger: log,
		Disk: node.NewDisk(filepath.Join(b.TempDir(), "n.world"), nil), Appliers: []node.Named{{Name: "nameserver", Applier: d}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = agent.Run(ctx) }()
	defer func() { cancel(); <-done }()
	bring := func(w *fleet.World) {
		got := make(chan error)
		q <- func(apply func(*fleet.World) error) { got <- apply(w) }
		if err := <-got; err != nil {
			b.Fatal(err)
		}
	}
	bring(w)
	zones, n := w.Zones, 1
	for b.Loop() {
		n++
		zones = zones.With([]fleet.Object{rules.ZoneObject("z7.test.", content(n))}, nil)
		next := *w
		next.Zones = zones
		bring(&next)
	}
	if z := d.Zone("z7.test."); z == nil || z.Serial != uint32(n) {
		b.Fatalf("serial %v, want %d", z, n)
	}
}

// The whole way of one changed zone among 100,000: the admin API's write, the
// keeper, the store of a node with a Spec file, the agent, the nameserver.
func BenchmarkWriteOneZoneOf100000(b *testing.B) {
	dir := b.TempDir()
	spec := filepath.Join(dir, "spec.yaml")
	if err := os.WriteFile(spec, []byte(`
regions: [{id: fra, vips: {v4: [192.0.2.1]}, location: {latitude: 0, longitude: 0}}]
nodes: [{name: n1, region: fra, roles: [dns], addresses: {v4: 127.0.0.1}}]
`), 0o600); err != nil {
		b.Fatal(err)
	}
	var put []fleet.Object
	for i := range 100_000 {
		name := fmt.Sprintf("z%d.test.", i)
		put = append(put, rules.ZoneObject(fleet.Name(name), fmt.Appendf(nil, "%[1]s 300 SOA ns.invalid. host.invalid. 1 2 3 4 5\n%[1]s 300 NS ns.invalid.\nwww.%[1]s 60 A 192.0.2.1\n", name)))
	}
	var none *fleet.Zones
	if err := node.NewFolder(filepath.Join(dir, "items", "zone"), "file/zone", nil).Save(none.With(put, nil)); err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	items, err := store.NewFile(store.FileConfig{Spec: node.NewFileSource(spec, log), Dir: filepath.Join(dir, "items"), Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	k, err := keeper.New(keeper.Config{Keys: itemKeys{items}, Rand: rand.Reader, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	direct := controlplane.NewDirect(log)
	c, err := controlplane.New(controlplane.Config{Node: "n1", Store: items, Publisher: direct, Deriver: k, Woken: k.Woken(), DeriveFirst: true, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	d, err := dnsserver.New(dnsserver.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Identity: answer.Identity{Node: "n1"}, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	live := make(chan uint32, 1)
	d.OnZone(func(_, z *zone.Zone) {
		if z != nil && z.Name == "z7.test." {
			live <- z.Serial
		}
	})
	agent, err := node.New(node.Config{Name: "n1", Source: direct, SourceName: "file", Logger: log,
		Disk: node.NewDisk(filepath.Join(dir, "n.world"), nil), Appliers: []node.Named{{Name: "nameserver", Applier: d}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	wg.Go(func() { _ = agent.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	<-live
	n := 0
	write := func() {
		n++
		if _, err := c.WriteZone(ctx, "z7.test.", controlplane.AnyBase, adding(fmt.Sprintf("h%d", n), "192.0.2.9")); err != nil {
			b.Fatal(err)
		}
		<-live
	}
	write() // waits for the end of the start
	for b.Loop() {
		write()
	}
}
