package probe

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"meridian/fleet"
)

// grpcServer serves what h says, over TLS where creds are given.
func grpcServer(t *testing.T, h healthpb.HealthServer, opts ...grpc.ServerOption) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(opts...)
	if h != nil {
		healthpb.RegisterHealthServer(s, h)
	}
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return netip.MustParseAddrPort(l.Addr().String())
}

// A real gRPC server is asked for its own health, or for that of a service.
func TestGRPC(t *testing.T) {
	h := health.NewServer()
	h.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_NOT_SERVING)
	at := grpcServer(t, h)
	want(t, run(t, fleet.Probe{Check: "grpc", Address: at}), fleet.CauseNone)
	got := run(t, fleet.Probe{Check: "grpc", Address: at, Path: "shop.Cart"})
	if want(t, got, fleet.CauseStatus); got.Detail != "it is NOT_SERVING" {
		t.Error(got.Detail)
	}
	want(t, run(t, fleet.Probe{Check: "grpc", Address: at, Path: "shop.Unknown"}), fleet.CauseStatus)
	h.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_SERVING)
	want(t, run(t, fleet.Probe{Check: "grpc", Address: at, Path: "shop.Cart"}), fleet.CauseNone)
	h.Shutdown()
	want(t, run(t, fleet.Probe{Check: "grpc", Address: at}), fleet.CauseStatus)
}

// Over TLS the certificate is verified as that of HTTPS is, and its expiry told.
func TestGRPCOverTLS(t *testing.T) {
	ca := newAuthority(t)
	at := grpcServer(t, health.NewServer(), grpc.Creds(credentials.NewServerTLSFromCert(ca.issue(t, "grpc.example.org", time.Now().Add(time.Hour)))))
	pr := fleet.Probe{Check: "grpcs", Address: at, Host: "grpc.example.org", CA: ca.pem}
	got := run(t, pr)
	if want(t, got, fleet.CauseNone); got.Expiry.IsZero() {
		t.Error("no expiry")
	}
	pr.Host = "other.example.org"
	want(t, run(t, pr), fleet.CauseCertName)
	pr.Host, pr.CA = "grpc.example.org", newAuthority(t).pem
	want(t, run(t, pr), fleet.CauseTLS)
}

// What does not speak gRPC, or does not know of health, is not healthy.
func TestGRPCFailures(t *testing.T) {
	got := run(t, fleet.Probe{Check: "grpc", Address: grpcServer(t, nil)})
	if want(t, got, fleet.CauseStatus); got.Detail == "" {
		t.Error("nothing is said of it")
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if got := run(t, fleet.Probe{Check: "grpc", Address: addrOf(plain)}); got.OK {
		t.Error("HTTP/1.1 passes for gRPC")
	}
	h2 := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	h2.Config.Protocols = new(http.Protocols)
	h2.Config.Protocols.SetUnencryptedHTTP2(true)
	h2.Start()
	defer h2.Close()
	want(t, run(t, fleet.Probe{Check: "grpc", Address: addrOf(h2)}), fleet.CauseProtocol)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want(t, run(t, fleet.Probe{Check: "grpc", Address: netip.MustParseAddrPort(l.Addr().String()), Timeout: 50 * time.Millisecond}), fleet.CauseTimeout)
}

// Whatever comes as a HealthCheckResponse, reading it ends.
func FuzzServing(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 4, 0x12, 1, 'x', 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, ok := servingOf(b); ok && len(b) < grpcHead {
			t.Error("read out of nothing")
		}
	})
}
