package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"meridian/edge/maglev"
)

// Flow is a client's side and a VIP's.
type Flow struct {
	Proto       uint8 // TCP or UDP
	Client, VIP netip.AddrPort
}

// ParseFlow reads a flow as an operator writes it: "tcp" or "udp", ADDRESS:PORT
// of the client and of the VIP, of one family.
func ParseFlow(proto, client, vip string) (Flow, error) {
	var f Flow
	switch proto {
	case "tcp":
		f.Proto = protoTCP
	case "udp":
		f.Proto = protoUDP
	default:
		return f, fmt.Errorf("protocol %q: expected tcp or udp", proto)
	}
	for _, side := range []struct {
		name, text string
		into       *netip.AddrPort
	}{{"client", client, &f.Client}, {"VIP", vip, &f.VIP}} {
		a, err := netip.ParseAddrPort(side.text)
		if err != nil {
			return f, fmt.Errorf("%s %q: expected ADDRESS:PORT", side.name, side.text)
		}
		*side.into = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	if f.Client.Addr().Is4() != f.VIP.Addr().Is4() {
		return f, fmt.Errorf("client %s and VIP %s are of different families", f.Client.Addr(), f.VIP.Addr())
	}
	return f, nil
}

// String names the flow as ParseFlow reads it.
func (f Flow) String() string {
	return fmt.Sprintf("%s %s %s", protocolName(f.Proto), f.Client, f.VIP)
}

// Explanation says what the tables as they are now do with a flow's packets.
type Explanation struct {
	Flow    string   `json:"flow"`
	VIP     string   `json:"vip,omitempty"`     // as the metrics have it; empty: the flow is for none
	Service string   `json:"service,omitempty"` // one of those there
	Ring    string   `json:"ring,omitempty"`
	Hash    string   `json:"hash,omitempty"` // 64 bits, hexadecimal
	Slot    int      `json:"slot"`
	Slots   int      `json:"slots,omitempty"`
	Safe    bool     `json:"safe"`               // the ring alone says where the flow is
	Owner   *Place   `json:"owner,omitempty"`    // of the slot
	Former  []Place  `json:"former,omitempty"`   // owners of the slot, the newest first
	Record  *Record  `json:"record,omitempty"`   // in the flow table
	GoesTo  *Place   `json:"goes_to,omitempty"`  // where a packet goes that does not begin a connection
	BeginAt *Place   `json:"begin_at,omitempty"` // where one goes that does
	Rules   []string `json:"rules,omitempty"`    // of the defence that a packet may meet, with their modes
	Reason  string   `json:"reason"`             // in words
}

// Place is an endpoint and the way to it.
type Place struct {
	Name       string `json:"name"`
	Address    string `json:"address"`
	Forwarding string `json:"forwarding"`         // local, ipip, gue, l2_dsr
	Outer      string `json:"outer,omitempty"`    // of a tunnel: IPv4 or IPv6
	NextHop    string `json:"next_hop,omitempty"` // MAC address; empty: not known
	Device     int    `json:"device,omitempty"`   // index of the one to leave by, where that is not layer 4's
	MTU        int    `json:"mtu,omitempty"`      // of the way; 0: not known
	Fits       int    `json:"fits,omitempty"`     // the longest IP packet of a client that goes there in one piece
	TakesNew   bool   `json:"takes_new"`          // flows
	Keeps      bool   `json:"keeps"`              // the flows that it has
}

// Record is a flow's entry in the flow table.
type Record struct {
	Endpoint string `json:"endpoint"`     // empty: the endpoint is gone
	Idle     int    `json:"idle_seconds"` // since the flow's last packet
	Expired  bool   `json:"expired"`      // unused for too long: it does not count any more
}

// Explain reads the tables as they are. Errors: layer 4 is not attached, or a
// table cannot be read. It is safe for concurrent use.
func (l *Layer4) Explain(f Flow) (*Explanation, error) {
	var e *Explanation
	err := l.tables.look(func(k *kernel, d *desired) (err error) {
		x := &explainer{kernel: k, want: d, key: l.cfg.Key, flow: f, orders: *l.orders.Load(), guard: l.guard.guard.Load(), rules: l.stats.ruleNames(), e: &Explanation{Flow: f.String()}}
		e, err = x.e, x.explain()
		return err
	})
	return e, err
}

// explainer gathers one Explanation.
type explainer struct {
	kernel *kernel
	want   *desired
	key    Key
	flow   Flow
	orders map[memberKey]order
	guard  *guard
	rules  map[uint32]string // names, by the rules' places in the tables
	e      *Explanation
}

func (x *explainer) explain() error {
	vip, front, err := x.vip()
	if err != nil || front == nil {
		return err
	}
	g := &x.want.groups[front.group]
	hash := vip.hash(x.key, x.flow.Client)
	slot, former, err := x.slot(vip, hash)
	if err != nil {
		return err
	}
	e := x.e
	e.VIP, e.Service, e.Ring, e.Hash, e.Safe = front.label(), front.service, g.id, fmt.Sprintf("%016x", hash), slot&slotUnsafe == 0
	if e.Owner, err = x.place(slot &^ slotUnsafe); err != nil {
		return err
	}
	for _, i := range former {
		p, err := x.place(i)
		if err != nil {
			return err
		}
		if p != nil {
			e.Former = append(e.Former, *p)
		}
	}
	var kept *Place
	if !e.Safe {
		if kept, err = x.record(vip.tracked(x.key, x.flow.Client, hash)); err != nil {
			return err
		}
	}
	x.conclude(kept, vip.Flags&uint8(edgeVipFlagVIP_CHAIN) != 0)
	if vip.Flags&uint8(edgeVipFlagVIP_QUIC) != 0 {
		e.Reason += "; but a packet of QUIC goes to the gateway that its connection id names, if it names one"
	}
	return x.defended(vip)
}

// vip finds the VIP as the program does. Without one the explanation says so.
func (x *explainer) vip() (edgeVip, *frontend, error) {
	var v edgeVip
	keys, err := x.keys()
	if err != nil {
		return v, nil, err
	}
	for _, key := range keys {
		err := x.kernel.Vips.Lookup(&key, &v)
		if errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && !v.service() {
			continue
		}
		if err != nil {
			return v, nil, fmt.Errorf("read VIP: %w", err)
		}
		for i := range x.want.frontends {
			if f := &x.want.frontends[i]; f.key() == key {
				return v, f, nil
			}
		}
		return v, nil, errors.New("the tables hold a VIP that is being taken away; ask again")
	}
	key := vipKey(x.flow.VIP.Addr())
	err = x.kernel.Vips.Lookup(&key, &v)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return v, nil, fmt.Errorf("read VIP: %w", err)
	}
	switch {
	case err != nil && len(keys) < 4:
		x.e.Reason = fmt.Sprintf("%s is no VIP of this node: the packet is left to the kernel (pass other)", x.flow.VIP.Addr())
	case x.want.unpacks:
		x.e.Reason = fmt.Sprintf("%s is a VIP, but has no service at %s port %d: the kernel answers (pass no_service)",
			x.flow.VIP.Addr(), protocolName(x.flow.Proto), x.flow.VIP.Port())
	default:
		x.e.Reason = fmt.Sprintf("%s is a VIP, but has no service at %s port %d: dropped (drop no_service)",
			x.flow.VIP.Addr(), protocolName(x.flow.Proto), x.flow.VIP.Port())
	}
	return v, nil, nil
}

// keys gives the keys under which the program looks for the VIP, in order: two
// for the address, and two for the network that it is in, if it is in one.
func (x *explainer) keys() ([]edgeVipKey, error) {
	ports := []uint16{x.flow.VIP.Port(), 0}
	var out []edgeVipKey
	for _, port := range ports {
		out = append(out, frontend{addr: x.flow.VIP.Addr(), port: port, proto: x.flow.Proto}.key())
	}
	at := edgeNetwork{Bits: 128, Addr: x.flow.VIP.Addr().As16()}
	var first edgeAddress
	err := x.kernel.Networks.Lookup(&at, &first)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read networks: %w", err)
	}
	for _, port := range ports {
		out = append(out, edgeVipKey{Addr: first, Port: swap16(port), Proto: x.flow.Proto, Net: 1})
	}
	return out, nil
}

// hash is the program's flow_hash.
func (v *edgeVip) hash(key Key, client netip.AddrPort) uint64 {
	a := client.Addr().As16()
	return key.siphash(binary.BigEndian.Uint64(a[:8])&v.Mask[0], binary.BigEndian.Uint64(a[8:])&v.Mask[1],
		v.Salt^uint64(client.Port()&v.PortMask))
}

// tracked is the program's tracked_hash.
func (v *edgeVip) tracked(key Key, client netip.AddrPort, hash uint64) uint64 {
	if v.Flags&uint8(edgeVipFlagVIP_AFFINITY) == 0 {
		return hash
	}
	a := client.Addr().As16()
	return key.siphash(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), v.Salt^uint64(client.Port()))
}

// slot reads a hash's slot and its former owners.
func (x *explainer) slot(v edgeVip, hash uint64) (slot uint16, former []uint16, err error) {
	rings, all, slots := x.kernel.Rings, x.kernel.Owners, maglev.Slots
	if v.Flags&uint8(edgeVipFlagVIP_BIG) != 0 {
		rings, all, slots = x.kernel.BigRings, x.kernel.BigOwners, maglev.LargeSlots
	}
	ring, err := readInner[uint16](rings, v.Ring, slots)
	if err != nil {
		return 0, nil, fmt.Errorf("read ring %d: %w", v.Ring, err)
	}
	if ring == nil {
		return 0, nil, nil
	}
	x.e.Slots, x.e.Slot = slots, maglev.Ring(ring).Of(hash)
	of, err := readInner[slotOwners](all, v.Ring, slots)
	if err != nil {
		return 0, nil, fmt.Errorf("read the owners of ring %d: %w", v.Ring, err)
	}
	if of != nil {
		former = of[x.e.Slot][1:]
	}
	return ring[x.e.Slot], former, nil
}

// place describes an endpoint; nil: none there.
func (x *explainer) place(index uint16) (*Place, error) {
	index &= slotEndpoint
	if index == 0 {
		return nil, nil
	}
	var r edgeEndpoint
	if err := x.kernel.Endpoints.Lookup(uint32(index), &r); err != nil {
		return nil, fmt.Errorf("read endpoint %d: %w", index, err)
	}
	if r.How == uint8(edgeForwardFORWARD_NONE) {
		return nil, nil
	}
	p := &Place{Name: x.name(index), Address: fromAddress(r.Addr).String(), MTU: int(r.Mtu), TakesNew: r.Takes == 1, Keeps: r.Keeps == 1}
	switch edgeForward(r.How) {
	case edgeForwardFORWARD_LOCAL:
		p.Forwarding, p.MTU = "local", 0
		return p, nil
	case edgeForwardFORWARD_L2:
		p.Forwarding, p.Fits = "l2_dsr", p.MTU
	case edgeForwardFORWARD_TUNNEL4, edgeForwardFORWARD_TUNNEL6:
		p.Forwarding, p.Outer = "ipip", "IPv4"
		if r.Gue != 0 {
			p.Forwarding = "gue"
		}
		if edgeForward(r.How) == edgeForwardFORWARD_TUNNEL6 {
			p.Outer = "IPv6"
		}
		p.Fits = max(0, p.MTU-int(r.Outer))
	}
	if r.NextHop.Set != 0 {
		p.NextHop = net.HardwareAddr(r.NextHop.Octet[:]).String()
	}
	p.Device = int(r.Device)
	return p, nil
}

// name gives the name of the member with an index: in this flow's ring, if it is
// of that.
func (x *explainer) name(index uint16) string {
	name := ""
	for _, g := range x.want.groups {
		for _, m := range g.members {
			if o, ok := x.orders[m.key]; ok && o.endpoint == index && (name == "" || g.id == x.e.Ring) {
				name = m.name
			}
		}
	}
	return name
}

// record looks the flow up in the flow table, and gives where that keeps it.
func (x *explainer) record(hash uint64) (*Place, error) {
	f, err := x.kernel.findFlow(hash)
	if err != nil || f == nil {
		return nil, err
	}
	idle := uint32(monotonic()/time.Second) - f.Seen
	limit := x.want.keep.tcp
	if f.Owner&flowUDP != 0 {
		limit = x.want.keep.udp
	}
	if f.Owner&flowHalf != 0 {
		limit = min(limit, idleHalf)
	}
	index, generation := uint16(f.Owner>>16)&slotEndpoint, uint16(f.Owner)
	x.e.Record = &Record{Idle: int(idle), Expired: idle > uint32(limit/time.Second)}
	var r edgeEndpoint
	if err := x.kernel.Endpoints.Lookup(uint32(index), &r); err != nil {
		return nil, fmt.Errorf("read endpoint %d: %w", index, err)
	}
	if r.Generation != generation || r.Keeps == 0 {
		return nil, nil
	}
	p, err := x.place(index)
	if p != nil {
		x.e.Record.Endpoint = p.Name
	}
	if x.e.Record.Expired {
		return nil, err
	}
	return p, err
}

// conclude says where packets go, and why. kept is where the flow table has the
// flow; chain, whether gateways pass on what is not theirs.
func (x *explainer) conclude(kept *Place, chain bool) {
	e := x.e
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	e.GoesTo, e.BeginAt = e.Owner, e.Owner
	switch {
	case e.Owner == nil && kept == nil:
		say("the ring holds no endpoint: dropped (drop no_member)")
	case e.Safe:
		say("slot %d is safe: no other member that lives has had it, so the ring alone says %s", e.Slot, e.Owner.Name)
	case kept != nil:
		e.GoesTo = kept
		say("slot %d is unsafe, and the flow table has the flow: with %s, its last packet %d s ago", e.Slot, kept.Name, e.Record.Idle)
		if again := kept.TakesNew && e.Record.Idle <= synAgain; x.flow.Proto != protoTCP || again {
			e.BeginAt = kept
		} else if e.Owner != nil {
			say("a new connection from the same port goes to %s", e.Owner.Name)
		}
	default:
		if e.Record != nil {
			say("slot %d is unsafe; the flow table has the flow, but %s", e.Slot, either(e.Record.Expired, "unused for too long", "its endpoint has gone"))
		} else {
			say("slot %d is unsafe, and the flow table does not have the flow", e.Slot)
		}
		say("it goes to the slot's owner, %s, and is kept there if it begins now", e.Owner.Name)
		if names := placeNames(e.Former); chain && x.flow.Proto == protoTCP && len(names) > 0 {
			say("a connection that began earlier and that %s does not have is passed on to %s", e.Owner.Name, strings.Join(names, ", then "))
		}
	}
	if !x.want.balances {
		why = append([]string{"this node is a gateway and takes what balancers send it; by its tables"}, why...)
		if e.Owner != nil && e.Owner.Forwarding != "local" && x.flow.Proto == protoTCP && chain {
			say("unless this node's kernel has the connection, this node passes it on there")
		}
	}
	if p := e.GoesTo; p != nil {
		x.way(p, say)
	}
	e.Reason = strings.Join(why, "; ")
}

// way says what is to be known of the way to a place.
func (x *explainer) way(p *Place, say func(string, ...any)) {
	switch {
	case p.Forwarding == "local":
		say("%s is this node: its kernel gets the packet", p.Name)
		return
	case p.NextHop == "" && p.Forwarding == "l2_dsr":
		say("no MAC address of %s is known: dropped (drop no_neighbour)", p.Name)
		return
	case p.NextHop == "":
		say("no next hop is known: the tunnelled packet goes back to the router that it came from")
	}
	if p.Fits > 0 {
		say("packets above %d octets do not fit, and their sender is told", p.Fits)
	}
}

func either(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

func placeNames(list []Place) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Name)
	}
	return out
}

// What the flow table is made of, as in bpf/consts.h.
const (
	slotEndpoint = 0x1fff
	flowUDP      = 0x20000000
	flowHalf     = 0x40000000
	flowPlaces   = 8 // buckets in which a flow may stand
	synAgain     = 10
	flowMix      = 0x9e3779b97f4a7c15
)

// findFlow looks through a flow's buckets as the program does; nil: not there.
func (k *kernel) findFlow(hash uint64) (*edgeFlow, error) {
	buckets := uint64(k.Flows.MaxEntries())
	for n := range uint64(flowPlaces) {
		var b edgeBucket
		i := uint32(uint64(uint32(hash+n*flowMix)) * buckets >> 32)
		if err := k.Flows.Lookup(i, &b); err != nil {
			return nil, fmt.Errorf("read flow table: %w", err)
		}
		for _, f := range b.Way {
			if f.Owner != 0 && f.hash() == hash {
				return &f, nil
			}
		}
	}
	return nil, nil
}

// hash is that of the flow that stands there.
func (f *edgeFlow) hash() uint64 { return f.Tag ^ uint64(f.Owner)*flowMix }
