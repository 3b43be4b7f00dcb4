package garden_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/edge/l7"
	"meridian/edge/l7/h3"
	"meridian/edge/l7/route"
	"meridian/fleet"
	"meridian/health"
	"meridian/internal/testkit"
	"meridian/probe"
)

// gateway is one on loopback with a service for each origin, NAME.garden.test.
type gateway struct {
	plain, secure string // addresses
	packets       string // of HTTP/3
	authority     *testkit.Authority
	g             *l7.Gateway
}

func hostOf(o *origin) string { return o.name + ".garden.test" }

// spec has each service twice, without TLS and with.
func spec(list []*origin) string {
	var b strings.Builder
	b.WriteString(`
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
nodes: [{name: n1, region: fra, roles: [l7], addresses: {v4: 10.0.0.1}}]
certificates: [{id: c1, cert: "file:c1.pem", key: "file:c1.key"}]
services:
`)
	for _, o := range list {
		for protocol, port := range map[string]int{"http": 80, "https": 443} {
			fmt.Fprintf(&b, "- {service: %s-%s, protocol: %s, ports: [%d], hosts: [%s], retries: {attempts: 0},\n", o.name, protocol, protocol, port, hostOf(o))
			fmt.Fprintf(&b, "   http3: %t, pools: [{id: main, endpoints: [{address: %q}]}]}\n", protocol == "https", o.address)
		}
	}
	return b.String()
}

func startGateway(t *testing.T, list []*origin, change ...func(*l7.Config)) *gateway {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(new(testkit.Buffer), nil))
	h, err := health.New(health.Config{Node: "n1", Region: "fra", Roles: []fleet.Role{fleet.RoleL7}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	gw := &gateway{authority: testkit.NewAuthority(t)}
	var mu sync.Mutex
	cfg := l7.Config{Node: "n1", Region: "fra", Health: h, Prober: probe.New(probe.Config{}), Grace: time.Millisecond, Logger: logger,
		Listen: func(ctx context.Context, _, address string) (net.Listener, error) {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasSuffix(address, ":443") {
					gw.secure = l.Addr().String()
				} else {
					gw.plain = l.Addr().String()
				}
			}
			return l, err
		},
		ListenPacket: func(context.Context, string, string) (net.PacketConn, error) {
			l, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err == nil {
				gw.packets = l.LocalAddr().String()
			}
			return l, err
		}}
	for _, f := range change {
		f(&cfg)
	}
	if gw.g, err = l7.New(cfg); err != nil {
		t.Fatal(err)
	}
	s, err := fleet.Compile([]byte(spec(list)), 1, route.Check)
	if err != nil {
		t.Fatal(err)
	}
	key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: "c1"}
	w := &fleet.World{Snapshot: s, Objects: map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: gw.authority.Issue(t, "*.garden.test")}}}
	if err := h.Apply(w); err != nil {
		t.Fatal(err)
	}
	if carrier, ok := cfg.HTTP3.(*h3.Carrier); ok {
		if err := carrier.Apply(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := gw.g.Apply(w); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gw.g.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return gw
}
