package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"meridian/cli"
	"meridian/daemon"
	"meridian/edge/xdp"
	"meridian/serving"
)

func run(ctx context.Context, args []string) error {
	fs := cli.Flags("edge run [flags]",
		"edge run --node fra-edge-1 --data /var/lib/edge --control 10.1.0.2:7443,10.2.0.2:7443 --fleet-key /etc/meridian/fleet.key")
	var f flags
	f.Flags.Register(fs, "/var/lib/edge", "l4,l7,bgp")
	fs.StringVar(&f.Device, "device", "", "`DEVICE` for layer 4; \"none\" for a gateway without layer 4 (default the one with the node's address)")
	fs.StringVar(&f.Mode, "xdp-mode", "auto", "native, generic, or auto: native where the driver can")
	fs.StringVar(&f.Pins, "pins", defaultPins, "`FOLDER` on a BPF file system where layer 4 goes on while this program is started again (see edge detach); empty: it ends with it")
	fs.IntVar(&f.Flows, "flows", 1<<20, fmt.Sprintf("remember `N` flows at slots that changed owners, 53 octets each (1024 to %d); another number forgets those of before", xdp.MaxFlows))
	fs.IntVar(&f.MTU, "mtu", 1500, "`MTU` between layer 4 and this gateway; clients are told to send segments that fit it with a tunnel's header")
	fs.StringVar(&f.Health, "health", "127.0.0.1:8054", "`ADDR:PORT` for this node's own /health, /ready and /metrics")
	fs.Var(&f.Geo, "geo", "geo database `FILE` (GeoIP2 schema), repeatable: one with places, one with AS numbers, for the Spec's defence; read again when replaced (default the embedded country database)")
	fs.StringVar(&f.SFlow, "sflow", "", "`ADDR:PORT` of a collector that gets the packets sampled by the Spec's defence.sampling, as sFlow version 5")
	fs.Uint64Var(&f.AccessLog, "access-log", 0, "log each `N`-th request; 0 for none")
	fs.BoolVar(&f.HTTP3, "http3", true, "serve HTTP/3 for services that have http3 in the Spec; false: no UDP socket is opened")
	fs.Uint64Var(&f.Opinion, "second-opinion", 1024, "have the head of each `N`-th HTTP/1.1 request read by net/http too, and close the connection where the two disagree; 0 for none")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "edge run: unexpected argument %q", rest[0])
	}
	if err := f.Check(); err != nil {
		return cli.Usagef(fs, "edge run: %v", err)
	}
	if _, err := f.healthAddress(); err != nil {
		return cli.Usagef(fs, "edge run: %v", err)
	}
	if f.Flows < 1024 || f.Flows > xdp.MaxFlows {
		return cli.Usagef(fs, "edge run: --flows: expected 1024 to %d", xdp.MaxFlows)
	}
	if f.SFlow != "" {
		if _, _, err := net.SplitHostPort(f.SFlow); err != nil {
			return cli.Usagef(fs, "edge run: --sflow: %q is not ADDR:PORT", f.SFlow)
		}
	}
	return f.run(ctx)
}

func (f *flags) run(ctx context.Context) error {
	log, err := cli.Logger(f.LogLevel, f.LogFormat)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.Data, 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	release, err := xdp.Claim(f.Data)
	if err != nil {
		return fmt.Errorf("--data: %w; each edge has a directory of its own", err)
	}
	defer release()
	id, err := f.LoadIdentity(f.Spec != "")
	if err != nil {
		return err
	}
	f.admin = &admin{data: f.Data, log: log}
	registry := prometheus.NewRegistry()
	d, err := daemon.New(daemon.Config{Program: "edge", Flags: &f.Flags, Log: log, Identity: id, Registry: registry, Build: f.build})
	if err != nil {
		return err
	}
	if c := d.Client(); c != nil {
		f.demand = c.Demand
	}
	s, err := serving.New(serving.Config{
		Listen: []string{f.Health}, Logger: log,
		Checks: []serving.Check{{Name: "node", Ready: d.Ready}},
		More:   map[string]http.Handler{"GET /metrics": promhttp.HandlerFor(registry, promhttp.HandlerOpts{})},
	})
	if err != nil {
		return err
	}
	d.Static(daemon.Part{Name: "serving", Run: s.Run}, daemon.Part{Name: "admin socket", Run: f.admin.run})
	d.Stopping = s.Stopping
	defer daemon.OnHangup(func() { defer s.Reload()(); d.Reload() })()
	return daemon.Again(d.Run(ctx))
}
