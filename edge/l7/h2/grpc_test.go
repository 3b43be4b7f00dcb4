package h2

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meridian/internal/testkit"
)

// grpcServer is an endpoint of gRPC.
func grpcServer(t *testing.T, service testgrpc.TestServiceServer) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, service)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func (r *rig) grpc(t *testing.T) *grpc.ClientConn {
	c, err := grpc.NewClient("passthrough:///"+r.at, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(r.roots, "www.demo.test")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// The cases of gRPC's interoperability tests, by grpc-go's client and server.
// Its functions end the program where they fail.
func TestGRPCInterop(t *testing.T) {
	r := gateway(t, spec("timeouts: {request: 0s}", "protocol: h2", grpcServer(t, interop.NewTestServer())))
	c := testgrpc.NewTestServiceClient(r.grpc(t))
	for _, tc := range []struct {
		name string
		run  func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)
	}{
		{"empty_unary", interop.DoEmptyUnaryCall},
		{"large_unary", interop.DoLargeUnaryCall},
		{"client_streaming", interop.DoClientStreaming},
		{"server_streaming", interop.DoServerStreaming},
		{"ping_pong", interop.DoPingPong},
		{"empty_stream", interop.DoEmptyStream},
		{"timeout_on_sleeping_server", interop.DoTimeoutOnSleepingServer},
		{"cancel_after_begin", interop.DoCancelAfterBegin},
		{"cancel_after_first_response", interop.DoCancelAfterFirstResponse},
		{"status_code_and_message", interop.DoStatusCodeAndMessage},
		{"special_status_message", interop.DoSpecialStatusMessage},
		{"custom_metadata", interop.DoCustomMetadata},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(within(t), c) })
	}
	t.Run("unimplemented_method", func(t *testing.T) { interop.DoUnimplementedMethod(within(t), r.grpc(t)) })
}

// service is an endpoint of whose calls a test decides.
type service struct {
	testgrpc.UnimplementedTestServiceServer
	empty func(ctx context.Context) error
	begun chan bool // of calls that stream to it
}

func (s *service) EmptyCall(ctx context.Context, _ *testgrpc.Empty) (*testgrpc.Empty, error) {
	return &testgrpc.Empty{}, s.empty(ctx)
}

func (s *service) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
	s.begun <- true
	for {
		if _, err := stream.Recv(); err != nil {
			break
		}
	}
	if err := s.empty(stream.Context()); err != nil {
		return err
	}
	return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{})
}

func (s *service) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	if err := stream.Send(&testgrpc.StreamingOutputCallResponse{}); err != nil {
		return err
	}
	return s.empty(stream.Context())
}

func call1(t *testing.T, r *rig) error {
	_, err := testgrpc.NewTestServiceClient(r.grpc(t)).EmptyCall(within(t), &testgrpc.Empty{})
	return err
}

// Errors of the gateway's own are told in gRPC's words.
func TestGRPCErrorsOfTheGateway(t *testing.T) {
	nobody := fmt.Sprint("127.0.0.1:", testkit.FreePort(t, "127.0.0.1"))
	wait := &service{empty: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	for _, tc := range []struct {
		name, more, at string
		code           codes.Code
		text           string
	}{
		{"nobody there", "", nobody, codes.Unavailable, "the endpoint cannot be reached"},
		{"no answer in time", "timeouts: {request: 100ms}", grpcServer(t, wait), codes.DeadlineExceeded, "no answer in time"},
		{"no route", "routes: [{path: /other, pool: main}]", nobody, codes.Unimplemented, "no route"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := call1(t, gateway(t, spec(tc.more, "protocol: h2", tc.at)))
			if st := status.Convert(err); st.Code() != tc.code || !strings.Contains(st.Message(), tc.text) {
				t.Error(err)
			}
		})
	}
}

// A stream that runs out of time after its answer has begun ends with a status,
// too.
func TestGRPCStreamOutOfTime(t *testing.T) {
	wait := &service{empty: func(ctx context.Context) error { <-ctx.Done(); return nil }}
	r := gateway(t, spec("timeouts: {request: 1s}", "protocol: h2", grpcServer(t, wait)))
	s, err := testgrpc.NewTestServiceClient(r.grpc(t)).FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "no answer in time") {
		t.Error(err)
	}
}

// The caller's deadline is the request's: the gateway ends the call at the
// endpoint although the caller itself goes on waiting.
func TestGRPCTimeoutBoundsTheRequest(t *testing.T) {
	ended := make(chan error, 1)
	at := grpcServer(t, &service{empty: func(ctx context.Context) error { <-ctx.Done(); ended <- ctx.Err(); return ctx.Err() }})
	p := greeted(t, gateway(t, spec("timeouts: {request: 0s}", "protocol: h2", at)).dialTLS(t))
	p.head(1, false, ":method", "POST", ":scheme", "https", ":path", "/grpc.testing.TestService/EmptyCall", ":authority", "www.demo.test",
		"content-type", "application/grpc", "te", "trailers", "grpc-timeout", "1S")
	p.WriteData(1, true, make([]byte, 5))
	h := p.answer(1)
	got := map[string]string{}
	for _, f := range h.Fields {
		got[f.Name] = f.Value
	}
	if got[":status"] != "200" || got["grpc-status"] != "4" || !h.StreamEnded() {
		t.Error(got)
	}
	<-ended
}

// A busy stream is no flood, to either side: its peers measure the path by PINGs
// as fast as data comes.
func TestGRPCBusyStream(t *testing.T) {
	r := gateway(t, spec("timeouts: {request: 0s}", "protocol: h2", grpcServer(t, interop.NewTestServer())))
	s, err := testgrpc.NewTestServiceClient(r.grpc(t)).FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1000}},
		Payload: &testgrpc.Payload{Body: make([]byte, 1000)}}
	for i := range 4000 {
		if err := s.Send(ask); err != nil {
			t.Fatal(i, err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(i, err)
		}
	}
	s.CloseSend()
}

// A call that an endpoint turns away is tried at another where the Spec says so.
func TestGRPCRetryOnUnavailable(t *testing.T) {
	var turned, served atomic.Int64
	away := grpcServer(t, &service{empty: func(context.Context) error {
		turned.Add(1)
		return status.Error(codes.Unavailable, "not now")
	}})
	good := grpcServer(t, &service{empty: func(context.Context) error { served.Add(1); return nil }})
	for _, tc := range []struct {
		retryOn string
		fails   bool
	}{{"[unavailable]", false}, {"[reset]", true}} {
		p := greeted(t, gateway(t, spec("retries: {attempts: 2, retry_on: "+tc.retryOn+"}", "protocol: h2", away, good)).dialTLS(t))
		failed, before, until := 0, turned.Load(), time.Now().Add(10*time.Second)
		for id := uint32(1); id < 20 || turned.Load() == before && time.Now().Before(until); id += 2 { // until both were checked
			var whole bytes.Buffer // in one record, as clients send short calls
			w := &peer{Framer: http2.NewFramer(&whole, nil), enc: p.enc}
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: p.block(":method", "POST", ":scheme", "https",
				":path", "/grpc.testing.TestService/EmptyCall", ":authority", "www.demo.test", "content-type", "application/grpc", "te", "trailers")})
			w.WriteData(id, true, make([]byte, 5))
			p.c.Write(whole.Bytes())
			h := p.answer(id)
			for !h.StreamEnded() {
				h = p.answer(id)
			}
			for _, f := range h.Fields {
				if f.Name == "grpc-status" && f.Value != "0" {
					failed++
				}
			}
		}
		if (failed > 0) != tc.fails {
			t.Errorf("%s: %d failed", tc.retryOn, failed)
		}
	}
	if turned.Load() == 0 || served.Load() == 0 {
		t.Errorf("%d turned away, %d served", turned.Load(), served.Load())
	}
}

// So it is where the call's message came after its head, and was passed on
// already, whether the service's retries are in force or the route's.
func TestGRPCRetryOfWhatWasPassedOn(t *testing.T) {
	const retries = "retries: {attempts: 2, retry_on: [unavailable]}"
	for _, more := range []string{retries, "retries: {attempts: 0}\n  routes: [{pool: main, " + retries + "}]"} {
		var turned atomic.Int64
		begun := make(chan bool, 10)
		away := grpcServer(t, &service{begun: begun, empty: func(context.Context) error {
			turned.Add(1)
			return status.Error(codes.Unavailable, "not now")
		}})
		good := grpcServer(t, &service{begun: begun, empty: func(context.Context) error { return nil }})
		c := testgrpc.NewTestServiceClient(gateway(t, spec(more, "protocol: h2", away, good)).grpc(t))
		for i, until := 0, time.Now().Add(10*time.Second); i < 20 || turned.Load() == 0 && time.Now().Before(until); i++ {
			s, err := c.StreamingInputCall(within(t))
			if err != nil {
				t.Fatal(err)
			}
			<-begun
			s.Send(&testgrpc.StreamingInputCallRequest{})
			if _, err := s.CloseAndRecv(); err != nil {
				t.Errorf("%s: %v", more, err)
			}
			for len(begun) > 0 {
				<-begun
			}
		}
		if turned.Load() == 0 {
			t.Error("no call was turned away")
		}
	}
}

// Metadata that the endpoint sends with an error in one head reaches the caller.
func TestGRPCTrailersOnly(t *testing.T) {
	at := grpcServer(t, &service{empty: func(ctx context.Context) error {
		grpc.SetTrailer(ctx, metadata.Pairs("why", "because"))
		return status.Error(codes.FailedPrecondition, "no")
	}})
	r := gateway(t, spec("", "protocol: h2", at))
	var trailer metadata.MD
	_, err := testgrpc.NewTestServiceClient(r.grpc(t)).EmptyCall(within(t), &testgrpc.Empty{}, grpc.Trailer(&trailer))
	if status.Code(err) != codes.FailedPrecondition || len(trailer["why"]) != 1 {
		t.Error(err, trailer)
	}
}
