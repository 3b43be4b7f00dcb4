package l7

import (
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/edge/l7/outlier"
	"meridian/fleet"
)

func TestGRPCTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1n": 1, "20u": 20 * time.Microsecond, "300m": 300 * time.Millisecond, "4S": 4 * time.Second, "5M": 5 * time.Minute, "6H": 6 * time.Hour,
		"": 0, "S": 0, "0S": 0, "5": 0, "5s": 0, "5x": 0, "-5S": 0, "+5S": 0, "1.5S": 0, "123456789S": 0,
	} {
		if got := grpcTimeout([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if got := grpcTimeout([]byte("99999999H")); got < 100*365*24*time.Hour {
		t.Errorf("the longest is %v", got)
	}
}

func TestGRPCMessagesAreEncoded(t *testing.T) {
	if got := grpcMessage("100 % of caf\u00e9\n~"); got != "100 %25 of caf%C3%A9%0A~" {
		t.Error(got)
	}
}

// An answer of the gateway's own to a call has what its others have: a time by which
// the client must take it, though the request has none, and the fields of all answers.
func TestGRPCAnswersOfTheGatewaysOwn(t *testing.T) {
	r := newRig(t, httpSpec(noChecks+"timeouts: {request: 0s}\nfilters: {answer_fields: {set: {X-Ours: yes}}, bounds: {methods: [GET]}}", dead(t)))
	f, _ := streamFront(strings.NewReader(""))
	r.session().Serve(f, h2Head(t, "POST", "/a.B/C", "content-type", "application/grpc"), nil)
	if f.writeBy.IsZero() {
		t.Error("the client may take for ever")
	}
	for _, want := range []string{"Grpc-Status: 12", "grpc-message: 405 method not allowed", "X-Ours: yes"} {
		if f.status != 200 || !slices.Contains(f.fields, want) {
			t.Errorf("%d %q, expected %q", f.status, f.fields, want)
		}
	}
}

// Callers that wait for no answer say nothing of endpoints: else they could have them
// ejected.
func TestCallersWithoutTimeEjectNobody(t *testing.T) {
	for _, tc := range []struct {
		timeouts, asked string
		counted         int
	}{{"{request: 10s}", "200m", 0}, {"{request: 250ms}", "1S", 3}} {
		at, _, gone := silent(t)
		r := newRig(t, httpSpec("timeouts: "+tc.timeouts, at))
		r.waitState(at, fleet.Up)
		for range 3 {
			f, _ := streamFront(strings.NewReader(""))
			r.session().Serve(f, h2Head(t, "POST", "/a.B/C", "content-type", "application/grpc", "grpc-timeout", tc.asked), nil)
			if !slices.Contains(f.fields, "Grpc-Status: 4") {
				t.Errorf("%d %q", f.status, f.fields)
			}
			soon(t, gone, "the call ends")
		}
		v := r.g.gen.Load().service("web").pools[0].endpoints[0].vital
		if n, _ := v.outlier.Record(outlier.Failure, 0); n-1 != tc.counted {
			t.Errorf("with timeouts of %s %d failures are counted", tc.timeouts, n-1)
		}
	}
}
