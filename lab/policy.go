//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
)

// leastPreference is what a route gets that is being taken out of service
// (RFC 8326). Not 0, which gobgp takes for no action.
const leastPreference = 1

// policies gives each neighbor's routes their preference, and sees to it that
// nobody but customers is carried for nothing: what came from a customer or
// from here goes to everyone, what came from others goes to customers only.
func (r *router) policies(ctx context.Context) error {
	mark := fmt.Sprintf("%d:1", r.cfg.ASN)
	if err := r.communitySet(ctx, "graceful-shutdown", "65535:0"); err != nil {
		return err
	}
	if err := r.communitySet(ctx, "from-customer", mark); err != nil {
		return err
	}
	var in, out []*api.Statement
	var customers []netip.Addr
	for _, n := range r.cfg.Neighbors {
		name := "neighbor-" + n.Address.String()
		if err := r.neighborSet(ctx, name, n.Address); err != nil {
			return err
		}
		from := func(suffix string, communities *api.MatchSet, preference uint32) {
			s := statement(name+suffix, &api.Conditions{NeighborSet: &api.MatchSet{Name: name}, CommunitySet: communities})
			s.Actions.LocalPref = &api.LocalPrefAction{Value: preference}
			if n.Customer {
				s.Actions.Community = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: []string{mark}}
			}
			in = append(in, s)
		}
		from("-leaving", &api.MatchSet{Name: "graceful-shutdown"}, leastPreference)
		from("", nil, n.Preference)
		if n.Customer {
			customers = append(customers, n.Address)
		}
	}
	if len(customers) > 0 { // an empty set matches everyone
		if err := r.neighborSet(ctx, "customers", customers...); err != nil {
			return err
		}
		out = append(out, statement("to-customers", &api.Conditions{NeighborSet: &api.MatchSet{Name: "customers"}}))
	}
	out = append(out,
		statement("own", &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL}),
		statement("of-customers", &api.Conditions{CommunitySet: &api.MatchSet{Name: "from-customer"}}))
	if err := r.assign(ctx, "import", api.PolicyDirection_IMPORT, api.RouteAction_ACCEPT, in); err != nil {
		return err
	}
	return r.assign(ctx, "export", api.PolicyDirection_EXPORT, api.RouteAction_REJECT, out)
}

// statement accepts what meets the conditions.
func statement(name string, c *api.Conditions) *api.Statement {
	return &api.Statement{Name: name, Conditions: c, Actions: &api.Actions{RouteAction: api.RouteAction_ACCEPT}}
}

func (r *router) communitySet(ctx context.Context, name, community string) error {
	return r.bgp.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: &api.DefinedSet{
		DefinedType: api.DefinedType_COMMUNITY, Name: name, List: []string{community}}})
}

func (r *router) neighborSet(ctx context.Context, name string, addrs ...netip.Addr) error {
	var list []string
	for _, a := range addrs {
		list = append(list, netip.PrefixFrom(a, a.BitLen()).String())
	}
	return r.bgp.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: &api.DefinedSet{
		DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: list}})
}

func (r *router) assign(ctx context.Context, name string, d api.PolicyDirection, otherwise api.RouteAction, statements []*api.Statement) error {
	policy := &api.Policy{Name: name, Statements: statements}
	if err := r.bgp.AddPolicy(ctx, &api.AddPolicyRequest{Policy: policy}); err != nil {
		return err
	}
	return r.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: d, DefaultAction: otherwise, Policies: []*api.Policy{policy},
	}})
}
