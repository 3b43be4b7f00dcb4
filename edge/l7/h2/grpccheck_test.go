package h2

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// healthy is an endpoint of gRPC that says of itself how it is, and counts its calls.
type healthy struct {
	at    string
	says  *health.Server
	calls atomic.Int64
}

func newHealthy(t *testing.T, opts ...grpc.ServerOption) *healthy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &healthy{at: l.Addr().String(), says: health.NewServer()}
	s := grpc.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(s, &service{empty: func(context.Context) error { h.calls.Add(1); return nil }})
	healthgrpc.RegisterHealthServer(s, h.says)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return h
}

// healthcheck.type grpc (grpc.health.v1): an endpoint has calls while it says SERVING of the
// name that path asks for, over TLS where the pool has that.
func TestGRPCHealthchecks(t *testing.T) {
	pem, _ := certificate(t, "www.demo.test")
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, check, pool, asked string }{
		{"the server as a whole", "", "protocol: h2", ""},
		{"one service, over TLS", ", path: shop.Cart", "tls: {insecure: true}\n    protocol: h2", "shop.Cart"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var opts []grpc.ServerOption
			if strings.Contains(tc.pool, "tls") {
				opts = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
			}
			a, b := newHealthy(t, opts...), newHealthy(t, opts...)
			a.says.SetServingStatus(tc.asked, healthgrpc.HealthCheckResponse_SERVING)
			b.says.SetServingStatus(tc.asked, healthgrpc.HealthCheckResponse_SERVING)
			doc := strings.Replace(spec("", tc.pool, a.at, b.at), "{type: tcp, interval: 1h}", "{type: grpc, interval: 100ms, fall: 1, rise: 1"+tc.check+"}", 1)
			r := gateway(t, doc)
			client := testgrpc.NewTestServiceClient(r.grpc(t))
			a.settles(t, client, true)
			a.says.SetServingStatus(tc.asked, healthgrpc.HealthCheckResponse_NOT_SERVING)
			a.settles(t, client, false)
			a.says.SetServingStatus(tc.asked, healthgrpc.HealthCheckResponse_SERVING)
			a.settles(t, client, true)
		})
	}
}

// settles waits until of ten calls some come here, or none.
func (h *healthy) settles(t *testing.T, client testgrpc.TestServiceClient, some bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		was := h.calls.Load()
		for range 10 {
			if _, err := client.EmptyCall(within(t), &testgrpc.Empty{}); err != nil {
				t.Fatal(err)
			}
		}
		if (h.calls.Load() > was) == some {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("calls come to the endpoint: %v, expected %v", !some, some)
		}
	}
}
