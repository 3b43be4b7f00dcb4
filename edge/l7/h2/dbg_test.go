package h2
import ("testing";"time";"runtime";"os";"google.golang.org/grpc/interop"; testgrpc "google.golang.org/grpc/interop/grpc_testing")
func TestDBG(t *testing.T) {
	r := gateway(t, spec("timeouts: {request: 0s}", "protocol: h2", grpcServer(t, interop.NewTestServer())))
	c := testgrpc.NewTestServiceClient(r.grpc(t))
	time.AfterFunc(3*time.Second, func(){ b:=make([]byte,1<<20); os.Stderr.Write(b[:runtime.Stack(b,true)]); os.Exit(1)})
	for range 100 { interop.DoEmptyStream(within(t), c) }
}
