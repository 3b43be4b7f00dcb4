package xds

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meridian/fleet"
)

// asking describes a service of one method, by which nodes ask their control
// node for something, to grpc.
func asking[In, Out any](service, method string, answer func(s *Server, ctx context.Context, in *In) (*Out, error)) grpc.ServiceDesc {
	return grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: method, Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(In)
			if err := dec(in); err != nil {
				return nil, err
			}
			return answer(srv.(*Server), ctx, in)
		}}},
		Metadata: "meridian/controlplane/xds",
	}
}

// admit refuses whoever is no node of the fleet with that role.
func (s *Server) admit(ctx context.Context, role fleet.Role) error {
	node, err := nodeOf(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	p := s.current
	s.mu.Unlock()
	if p == nil {
		return status.Error(codes.Unavailable, "there is no Spec yet")
	}
	if n := p.world.Snapshot.Node(node); n == nil || !n.Has(role) {
		return status.Errorf(codes.PermissionDenied, "node %q has no role %s in the fleet", node, role)
	}
	return nil
}

// ask asks the control node that is listened to.
func (c *Client) ask(ctx context.Context, method string, in, out any) error {
	conn := c.conn.Load()
	if conn == nil {
		return errors.New("no control node can be reached")
	}
	if err := conn.Invoke(ctx, method, in, out); err != nil {
		return fmt.Errorf("control node: %w", err)
	}
	return nil
}
