package probe

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"meridian/fleet"
)

// grpcHead is what stands before a message of gRPC: whether it is compressed,
// and its length in four octets.
const grpcHead = 5

// servingStatus are the words of HealthCheckResponse.ServingStatus.
var servingStatus = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// serving asks by gRPC's health checking protocol (grpc.health.v1) for the
// health of what the probe's path names, or of the server as a whole, in one
// call on a connection of its own.
func (p *Prober) serving(ctx context.Context, pr *fleet.Probe) (expiry time.Time, err error) {
	msg := make([]byte, grpcHead, grpcHead+2+len(pr.Path))
	if pr.Path != "" {
		msg = protowire.AppendTag(msg, 1, protowire.BytesType)
		msg = protowire.AppendString(msg, pr.Path)
	}
	binary.BigEndian.PutUint32(msg[1:], uint32(len(msg)-grpcHead))
	req, err := newRequest(ctx, pr, http.MethodPost, url.URL{Path: "/grpc.health.v1.Health/Check"}, bytes.NewReader(msg))
	if err != nil {
		return expiry, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	err = p.roundTrip(req, pr, "h2", &expiry, judgeServing)
	return expiry, err
}

// judgeServing wants a response of gRPC that says SERVING.
func judgeServing(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return failf(fleet.CauseStatus, "status %d, expected 200", resp.StatusCode)
	}
	if resp.ProtoMajor != 2 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return failf(fleet.CauseProtocol, "the answer is not of gRPC")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return err
	}
	status := func(key string) string { return cmp.Or(resp.Trailer.Get(key), resp.Header.Get(key)) }
	if code := status("Grpc-Status"); code != "0" {
		return failf(fleet.CauseStatus, "gRPC status %q: %s", code, status("Grpc-Message"))
	}
	said, ok := servingOf(body)
	switch {
	case !ok:
		return failf(fleet.CauseProtocol, "the answer is no HealthCheckResponse")
	case said != 1:
		return failf(fleet.CauseStatus, "it is %s", servingStatus[min(said, uint64(len(servingStatus)-1))])
	}
	return nil
}

// servingOf reads the status out of a HealthCheckResponse: field 1, and 0
// where that is not there.
func servingOf(body []byte) (status uint64, ok bool) {
	if len(body) < grpcHead || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-grpcHead) {
		return 0, false
	}
	for b := body[grpcHead:]; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, false
		}
		b = b[n:]
		if num == 1 && typ == protowire.VarintType {
			if status, n = protowire.ConsumeVarint(b); n < 0 {
				return 0, false
			}
		} else if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0, false
		}
		b = b[n:]
	}
	return status, true
}
