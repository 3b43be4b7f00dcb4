package xds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meridian/fleet"
)

// UpdateServer carries out dynamic updates whose TSIG a nameserver has
// verified; *controlplane.ControlPlane is one.
type UpdateServer interface {
	Update(ctx context.Context, zone, key fleet.Name, msg []byte) (rcode int, err error)
}

// The service has one method, whose request and response are JSON in a
// google.protobuf.BytesValue.
const (
	updateService = "meridian.v1.Updates"
	updateMethod  = "/" + updateService + "/Update"
	updateLimit   = 15 * time.Second
)

type updateRequest struct {
	Zone    fleet.Name `json:"zone"`
	Key     fleet.Name `json:"key"`
	Message []byte     `json:"message"`
}

type updateResponse struct {
	Rcode int    `json:"rcode"`
	Error string `json:"error,omitempty"`
}

// updates describes the service to grpc.
var updates = asking(updateService, "Update", (*Server).update)

// update takes an update from a nameserver of the fleet.
func (s *Server) update(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	if err := s.admit(ctx, fleet.RoleDNS); err != nil {
		return nil, err
	}
	if s.updates == nil {
		return nil, status.Error(codes.Unavailable, "no updates are taken here")
	}
	var q updateRequest
	if err := json.Unmarshal(in.GetValue(), &q); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	rcode, err := s.updates.Update(ctx, q.Zone, q.Key, q.Message)
	out := updateResponse{Rcode: rcode}
	if err != nil {
		out.Error = err.Error()
	}
	return wrapperspb.Bytes(mustJSON(out)), nil
}

// servfail is the RCODE where an update cannot be carried out (RFC 1035).
const servfail = 2

// Update hands a dynamic update on to the control node that is listened to. It
// gives the RCODE to answer with, and says why it is not NOERROR where that is
// known; it has the shape that dns/transfer asks for.
func (c *Client) Update(ctx context.Context, zone, key fleet.Name, msg []byte) (rcode int, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateLimit)
	defer cancel()
	out := new(wrapperspb.BytesValue)
	if err := c.ask(ctx, updateMethod, wrapperspb.Bytes(mustJSON(updateRequest{zone, key, msg})), out); err != nil {
		return servfail, err
	}
	var r updateResponse
	if err := json.Unmarshal(out.GetValue(), &r); err != nil {
		return servfail, fmt.Errorf("control node: %w", err)
	}
	if r.Error != "" {
		err = errors.New(r.Error)
	}
	return r.Rcode, err
}
