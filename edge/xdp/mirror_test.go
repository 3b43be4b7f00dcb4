package xdp

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"meridian/edge/defence"
)

// mirror writes the program's tables and keeps what they hold, for a reference.
type mirror struct {
	*kernel
	ref *reference
	gue map[netip.Addr]bool // endpoints that are to be reached by GUE
}

func newMirror(k *kernel, key Key) mirror {
	return mirror{k, &reference{key: key, balancers: map[netip.Addr]bool{}, vips: map[edgeVipKey]edgeVip{},
		endpoints: map[uint16]edgeEndpoint{}, rings: map[uint32]ringTable{}, networks: map[netip.Prefix]bool{}, servers: map[edgeServerKey]uint16{}, has: func(*refPacket) bool { return false },
		flows: map[uint64]refFlow{}, errors: map[refBudget]int{}, passes: map[refBudget]int{}, passed: map[uint32]int{}, asked: map[uint32]edgeAsked{}, traffic: map[uint32]edgeTraffic{}}, map[netip.Addr]bool{}}
}

func (m mirror) setNode(n edgeNode) error {
	m.ref.node = n
	return m.kernel.setNode(n)
}

func (m mirror) setBalancer(a netip.Addr) error {
	m.ref.balancers[a] = true
	return m.kernel.setBalancer(a)
}

func (m mirror) dropBalancer(a netip.Addr) error {
	delete(m.ref.balancers, a)
	return m.kernel.dropBalancer(a)
}

func (m mirror) setEndpoint(index uint16, e edgeEndpoint) error {
	if m.gue[fromAddress(e.Addr)] {
		e.Gue, e.Outer = swap16(6080), e.Outer+8
	}
	m.ref.endpoints[index] = e
	return m.kernel.setEndpoint(index, e)
}

func (m mirror) setRings(rings map[uint32]ringTable) error {
	maps.Copy(m.ref.rings, rings)
	return m.kernel.setRings(rings)
}

func (m mirror) dropRing(index uint32) error {
	delete(m.ref.rings, index)
	return m.kernel.dropRing(index)
}

func (m mirror) setVIP(key edgeVipKey, v edgeVip) error {
	m.ref.vips[key] = v
	return m.kernel.setVIP(key, v)
}

func (m mirror) dropVIP(key edgeVipKey) error {
	delete(m.ref.vips, key)
	return m.kernel.dropVIP(key)
}

func (m mirror) setServer(key edgeServerKey, endpoint uint16) error {
	m.ref.servers[key] = endpoint
	return m.kernel.setServer(key, endpoint)
}

func (m mirror) dropServer(key edgeServerKey) error {
	delete(m.ref.servers, key)
	return m.kernel.dropServer(key)
}

func (m mirror) setNetwork(p netip.Prefix) error {
	m.ref.networks[p] = true
	return m.kernel.setNetwork(p)
}

func (m mirror) dropNetwork(p netip.Prefix) error {
	delete(m.ref.networks, p)
	return m.kernel.dropNetwork(p)
}

func (m mirror) setLists(t *defence.Table) error {
	m.ref.lists = t
	return m.kernel.setLists(t)
}

func (m mirror) setReflectors(ports []uint16) error {
	m.ref.reflectors = ports
	return m.kernel.setReflectors(ports)
}

func (m mirror) setRules(rules *edgeRules) error {
	m.ref.rules = rules
	return m.kernel.setRules(rules)
}

func (m mirror) setAsked(port uint32, a edgeAsked) error {
	m.ref.asked[port] = a
	return m.kernel.setAsked(port, a)
}

func (m mirror) clearTraffic(index uint32) error {
	m.ref.traffic[index] = edgeTraffic{}
	return m.kernel.clearTraffic(index)
}

// String tells a decision, for a test's message.
func (o *outcome) String() string {
	return fmt.Sprintf("%s (%s), endpoint %d, %d octets", o.verdict(), strings.Join(o.reasons(), " "), o.endpoint, len(o.out))
}
