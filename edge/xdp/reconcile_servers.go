package xdp

import (
	"maps"
	"net/netip"

	"meridian/edge/quiclb"
)

// wantServers gives what the program looks server ids of connection ids up in.
func (r *reconciler) wantServers(d *desired) map[edgeServerKey]uint16 {
	out := map[edgeServerKey]uint16{}
	for _, f := range d.frontends {
		g := &d.groups[f.group]
		ring, had := r.rings[g.id]
		if !f.quic || !g.gateways || !had {
			continue
		}
		for _, m := range g.members {
			if m.key.how == edgeForwardFORWARD_NONE || m.server == [quiclb.ServerLen]byte{} {
				continue
			}
			out[edgeServerKey{Ring: ring.index, Server: m.server}] = r.endpoints[m.key]
		}
	}
	return out
}

func (r *reconciler) writeServers(d *desired) error {
	for key, endpoint := range r.wantServers(d) {
		if had, ok := r.servers[key]; ok && had == endpoint {
			continue
		}
		if err := r.tables.setServer(key, endpoint); err != nil {
			return err
		}
		r.servers[key] = endpoint
	}
	return nil
}

func (r *reconciler) dropServers(d *desired) error {
	want := r.wantServers(d)
	for key := range maps.Clone(r.servers) {
		if _, ok := want[key]; ok {
			continue
		}
		if err := r.tables.dropServer(key); err != nil {
			return err
		}
		delete(r.servers, key)
	}
	return nil
}

func (r *reconciler) writeNetworks(d *desired) error {
	for _, n := range d.networks {
		if r.networks[n] {
			continue
		}
		if err := r.tables.setNetwork(n); err != nil {
			return err
		}
		r.networks[n] = true
	}
	return nil
}

func (r *reconciler) dropNetworks(d *desired) error {
	keep := map[netip.Prefix]bool{}
	for _, n := range d.networks {
		keep[n] = true
	}
	for n := range maps.Clone(r.networks) {
		if keep[n] {
			continue
		}
		if err := r.tables.dropNetwork(n); err != nil {
			return err
		}
		delete(r.networks, n)
	}
	return nil
}
