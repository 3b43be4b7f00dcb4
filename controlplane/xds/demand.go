package xds

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meridian/fleet"
)

// DemandServer has certificates issued for names that clients ask gateways for;
// *acme.Manager is one.
type DemandServer interface {
	// Demand returns once the certificate is issued; its error says why it is
	// not.
	Demand(ctx context.Context, name string) error
}

// The service has one method: a name in a google.protobuf.StringValue, answered
// by an empty one or by a status.
const (
	demandService = "meridian.v1.Certificates"
	demandMethod  = "/" + demandService + "/Demand"
	demandLimit   = 2 * time.Minute
)

// demands describes the service to grpc.
var demands = asking(demandService, "Demand", (*Server).demand)

// SetDemands says who has certificates issued on demand; before Run.
func (s *Server) SetDemands(d DemandServer) { s.demands = d }

// demand takes a name from a gateway of the fleet.
func (s *Server) demand(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if err := s.admit(ctx, fleet.RoleL7); err != nil {
		return nil, err
	}
	if s.demands == nil {
		return nil, status.Error(codes.Unavailable, "no certificates are issued on demand here")
	}
	ctx, cancel := context.WithTimeout(ctx, demandLimit)
	defer cancel()
	if err := s.demands.Demand(ctx, in.GetValue()); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return wrapperspb.String(""), nil
}

// Demand asks the control node that is listened to for a certificate for a name
// that a client asks for; it returns once that is issued. It has the shape that
// edge/l7 asks for.
func (c *Client) Demand(ctx context.Context, name string) error {
	return c.ask(ctx, demandMethod, wrapperspb.String(name), new(wrapperspb.StringValue))
}
