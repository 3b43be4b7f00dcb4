package xdp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"meridian/edge/defence"
	"meridian/edge/maglev"
	"meridian/edge/quiclb"
)

// reference is what the program at the device should do with a packet, in plain
// Go: slow, and written from the RFCs and from what the headers in bpf/ say of
// themselves, to be read against them. What it keeps are maps. It decides
// without changing anything: what a packet leaves behind is a list of changes,
// so that a decision can be had for one moment and for the next.
//
// See refpacket_test.go for parsing, refsend_test.go for what leaves, and
// against_test.go for the comparison.
type reference struct {
	key       Key
	node      edgeNode
	balancers map[netip.Addr]bool
	vips      map[edgeVipKey]edgeVip
	endpoints map[uint16]edgeEndpoint
	rings     map[uint32]ringTable
	networks  map[netip.Prefix]bool
	servers   map[edgeServerKey]uint16
	quic      []quiclb.Config
	cookies   edgeCookieKeys

	lists      *defence.Table
	reflectors []uint16
	rules      *edgeRules

	// has says whether this machine's kernel has the connection, or a listening
	// socket that sent the cookie which this packet brings back.
	has func(p *refPacket) bool

	flows   map[uint64]refFlow // by hash
	errors  map[refBudget]int  // ICMP errors sent
	passes  map[refBudget]int  // packets that were to be passed on and are of no connection here, by source
	passed  map[uint32]int     // of them those that their source could afford, by second
	asked   map[uint32]edgeAsked
	replies int // octets of checks' replies that nobody has taken yet, as they lie in the ring
	traffic map[uint32]edgeTraffic
}

// refFlow is what is known of a flow, or of a datagram in fragments.
type refFlow struct {
	endpoint, generation uint16
	short                bool // forgotten after the shorter time
	half                 bool // only its SYN has come, or a datagram's first fragment: forgotten after a minute
	young                bool // all that has come of it came in one second
	seen                 uint32
}

// again is the flow after one more packet.
func (f refFlow) again(now uint32) refFlow {
	f.young = f.young && int32(now-f.seen) <= 0
	f.seen = now
	return f
}

// outcome is what becomes of one packet.
type outcome struct {
	reason   string   // the verdict is its first word
	counted  []string // beside the reason
	out      []byte
	endpoint uint16   // chosen; 0: none
	device   uint32   // to leave by
	begun    *refFlow // by a cookie
	changes  []func()
}

// verdict is the program's return value as a word.
func (o *outcome) verdict() string {
	word, _, _ := strings.Cut(o.reason, "_")
	if word == "tx" && o.device != 0 {
		return "redirect"
	}
	return word
}

// reasons lists all that is counted, in order of name.
func (o *outcome) reasons() []string {
	return slices.Sorted(slices.Values(append([]string{o.reason}, o.counted...)))
}

func (o *outcome) count(name string) { o.counted = append(o.counted, name) }

func (o *outcome) later(change func()) { o.changes = append(o.changes, change) }

// commit makes a decision's changes.
func (o *outcome) commit() {
	for _, change := range o.changes {
		change()
	}
}

const (
	maxExtensions = 6
	maxOffset     = 1024 // of a header in the frame; one that begins later is not read
	maxHops       = 6
	tellPerSecond = 100
	passPerSecond = 100_000
	passPerSource = 10_000
	replyRoom     = 2048
	repliesHeld   = 512<<10 - 1 // octets
	halfIdle      = 60
)

// decide says what becomes of a frame at a time, seconds since boot.
func (r *reference) decide(frame []byte, now uint32) *outcome {
	o := &outcome{out: frame}
	o.reason = r.reason(frame, now, o)
	return o
}

func (r *reference) reason(frame []byte, now uint32, o *outcome) string {
	p, ok := refLink(frame)
	if !ok {
		return "pass_other"
	}
	if !p.parseIP() {
		return r.malformed(p)
	}
	if r.duty(edgeDutyDUTY_DECAPSULATE) {
		if inner, ok := r.tunnelled(p); ok {
			return r.decapsulate(p, inner, now, o)
		}
	}
	if !p.parseTransport() {
		return r.malformed(p)
	}
	if !r.duty(edgeDutyDUTY_BALANCE) {
		if next, hash := r.nextOwner(p, now, o); next != nil {
			return r.passOn(p, next, hash, now, o)
		}
		return "pass_other"
	}
	if r.forCheck(p) {
		return r.takeReply(p, o)
	}
	return r.balance(p, now, o)
}

// malformed judges what does not parse, by where it was for, if that is known.
func (r *reference) malformed(p *refPacket) string {
	if p.dst.IsValid() && r.isVIP(p.dst) {
		return "drop_malformed"
	}
	return "pass_malformed"
}

func (r *reference) duty(d edgeDuty) bool { return r.node.Duties&uint32(d) != 0 }

// own says whether an address is this node's.
func (r *reference) own(a netip.Addr) bool {
	mine := r.node.Own6
	if a.Is4() {
		mine = r.node.Own4
	}
	return mine != edgeAddress{} && toAddress(a) == mine
}

func (r *reference) vipAt(a netip.Addr, port uint16, proto uint8) (edgeVip, bool) {
	v, ok := r.vips[edgeVipKey{Addr: toAddress(a), Port: swap16(port), Proto: proto}]
	return v, ok
}

func (r *reference) isVIP(a netip.Addr) bool {
	_, ok := r.vipAt(a, 0, 0)
	return ok || r.network(a).IsValid()
}

// network gives the smallest network of VIPs that an address is in.
func (r *reference) network(a netip.Addr) (in netip.Prefix) {
	for n := range r.networks {
		if n.Contains(a) && (!in.IsValid() || n.Bits() > in.Bits()) {
			in = n
		}
	}
	return in
}

// service gives the VIP that a packet is for: one at its port, or one for all
// ports of its protocol. The rows for fragments serve later fragments alone.
func (r *reference) service(p *refPacket) (edgeVip, bool) {
	return r.serviceAt(p.dst, p.dport, p.proto, p.fragment == laterFragment)
}

// serviceAt looks at the address first, and then at the network that it is in.
func (r *reference) serviceAt(a netip.Addr, port uint16, proto uint8, later bool) (edgeVip, bool) {
	keys := []edgeVipKey{{Addr: toAddress(a)}}
	if n := r.network(a); n.IsValid() {
		keys = append(keys, edgeVipKey{Addr: toAddress(n.Addr()), Net: 1})
	}
	for _, key := range keys {
		key.Proto, key.Port = proto, swap16(port)
		if v, ok := r.vips[key]; ok && port != 0 {
			return v, true
		}
		key.Port = 0
		if v, ok := r.vips[key]; ok && !v.address() && (v.service() || later) {
			return v, true
		}
	}
	return edgeVip{}, false
}

// flowHash is the hash of the client's side of a flow, or of what of it the VIP
// goes by.
func (r *reference) flowHash(p *refPacket, v edgeVip) uint64 {
	hi, lo := halves(p.src)
	return r.key.siphash(hi&v.Mask[0], lo&v.Mask[1], v.Salt^uint64(p.sport&v.PortMask))
}

// trackedHash is what a flow is kept by: where the slot is of all the client's
// flows alike, each is kept by itself.
func (r *reference) trackedHash(p *refPacket, v edgeVip, hash uint64) uint64 {
	if v.Flags&uint8(edgeVipFlagVIP_AFFINITY) == 0 {
		return hash
	}
	hi, lo := halves(p.src)
	return r.key.siphash(hi, lo, v.Salt^uint64(p.sport))
}

// datagramHash is the hash of a datagram in fragments: beyond those of flows.
func (r *reference) datagramHash(p *refPacket, v edgeVip) uint64 {
	hi, lo := halves(p.src)
	return r.key.siphash(hi, lo, v.Salt^(uint64(p.id)<<17|1<<16))
}

func halves(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// slot gives the endpoint that a hash falls on, whether the slot is unsafe, and
// the slot's owners, the newest first.
func (r *reference) slot(v edgeVip, hash uint64) (index uint16, unsafe bool, owners []uint16) {
	t, ok := r.rings[v.Ring]
	if !ok {
		return 0, false, nil
	}
	i := maglev.Ring(t.slots).Of(hash)
	index, unsafe = t.slots[i]&0x1fff, t.slots[i]&slotUnsafe != 0
	if t.owners != nil {
		return index, unsafe, t.owners[i][:]
	}
	return index, unsafe, []uint16{index}
}

// begins says whether a flow may begin with the packet.
func begins(p *refPacket) bool { return p.proto != protoTCP || p.tcpFlags&(syn|ack) == syn }

// find gives what is known of a flow, unless it was unused for too long.
func (r *reference) find(hash uint64, now uint32) (refFlow, bool) {
	f, ok := r.flows[hash]
	idle := r.node.Idle[0]
	if f.short {
		idle = r.node.Idle[1]
	}
	if f.half {
		idle = min(idle, halfIdle)
	}
	return f, ok && now-f.seen <= idle
}

func (r *reference) keep(hash uint64, f refFlow, o *outcome) {
	o.later(func() { r.flows[hash] = f })
}

// endpoint gives an endpoint in use, or nil.
func (r *reference) endpoint(index uint16) *edgeEndpoint {
	e, ok := r.endpoints[index]
	if index == 0 || !ok || e.How == uint8(edgeForwardFORWARD_NONE) {
		return nil
	}
	return &e
}

// holder gives the endpoint that has a flow, while that may keep flows and is
// the one that it was.
func (r *reference) holder(f refFlow) *edgeEndpoint {
	e, ok := r.endpoints[f.endpoint]
	if f.endpoint == 0 || !ok || e.Keeps == 0 || e.Generation != f.generation {
		return nil
	}
	return &e
}

// choose gives the endpoint of a packet that is no later fragment: the slot's;
// at an unsafe slot that of the flow, if it is known and still to be found
// there.
func (r *reference) choose(p *refPacket, v edgeVip, hash uint64, now uint32, o *outcome) (e *edgeEndpoint, unsafe bool) {
	index, unsafe, _ := r.slot(v, hash)
	if !unsafe {
		o.count("flow_safe")
		return r.endpoint(index), false
	}
	hash = r.trackedHash(p, v, hash)
	f, known := r.find(hash, now)
	if o.begun != nil {
		f, known = *o.begun, true
	}
	keep := !p.icmpError && p.tcpFlags&rst == 0
	here := begins(p) || v.Flags&uint8(edgeVipFlagVIP_CHAIN) == 0 // what began earlier is the gateways' to place
	anew := p.proto == protoTCP && begins(p)                      // a SYN: the same again, or of a new connection
	if known {
		e = r.holder(f)
		if e != nil && (!anew || e.Takes == 1 && int32(now-f.seen) <= synAgain) {
			if keep {
				f.half = f.half && anew
				r.keep(hash, f.again(now), o)
			}
			o.count("flow_hit")
			return e, true
		}
		o.count(either(e != nil, "flow_new", "flow_moved"))
	} else {
		o.count(either(keep && here, "flow_new", "flow_unknown"))
	}
	if e = r.endpoint(index); e != nil && keep && here {
		r.keep(hash, refFlow{endpoint: e.Index, generation: e.Generation, short: p.proto != protoTCP, half: anew, young: true, seen: now}, o)
	}
	return e, true
}

// keepDatagram notes where a first fragment goes, for the later ones.
func (r *reference) keepDatagram(p *refPacket, e *edgeEndpoint, now uint32, o *outcome) {
	if row, ok := r.serviceAt(p.dst, 0, p.proto, true); ok {
		r.keep(r.datagramHash(p, row), refFlow{endpoint: e.Index, generation: e.Generation, short: true, half: true, young: true, seen: now}, o)
	}
}

// chooseLater gives the endpoint of a later fragment: the first one's, or what
// its addresses alone say.
func (r *reference) chooseLater(p *refPacket, v edgeVip, now uint32, o *outcome) *edgeEndpoint {
	if f, known := r.find(r.datagramHash(p, v), now); known {
		if e := r.holder(f); e != nil {
			o.count("flow_fragment")
			return e
		}
	}
	o.count("flow_fragment_row")
	index, _, _ := r.slot(v, r.flowHash(p, v))
	return r.endpoint(index)
}

func (r *reference) balance(p *refPacket, now uint32, o *outcome) string {
	v, ok := r.service(p)
	if why := r.defend(p, now); r.isVIP(p.dst) && why != "" {
		return why
	}
	if !ok {
		return r.noService(p, o)
	}
	hash := r.flowHash(p, v)
	if end := r.atGate(p, v, hash, now, o); end != "" {
		return end
	}
	var unsafe bool
	e := r.byConnectionID(p, v)
	if e != nil {
		o.count("flow_quic")
	} else if p.fragment == laterFragment {
		e = r.chooseLater(p, v, now, o)
	} else {
		e, unsafe = r.choose(p, v, hash, now, o)
	}
	o.later(func() {
		t := r.traffic[v.Stats]
		t.Packets, t.Octets = t.Packets+1, t.Octets+uint64(len(p.ip))
		r.traffic[v.Stats] = t
	})
	if e == nil {
		return "drop_no_member"
	}
	if p.fragment == firstFragment {
		r.keepDatagram(p, e, now, o)
	}
	if e.How == uint8(edgeForwardFORWARD_LOCAL) && unsafe {
		if next, hash := r.nextOwner(p, now, o); next != nil {
			return r.passOn(p, next, hash, now, o)
		}
	}
	return r.send(p, e, edgeForward(e.How), hash, now, o)
}

// noService judges a packet that no service wants.
func (r *reference) noService(p *refPacket, o *outcome) string {
	switch {
	case !r.isVIP(p.dst):
		return "pass_other"
	case r.duty(edgeDutyDUTY_DECAPSULATE):
		return "pass_no_service" // the VIP stands here, and the kernel answers
	case p.isEcho():
		o.out = p.echoReply()
		return "tx_echo"
	}
	return "drop_no_service"
}

// forCheck says whether the packet comes from a VIP to a port of this node's checks.
func (r *reference) forCheck(p *refPacket) bool {
	return (p.proto == protoTCP || p.proto == protoUDP) && !p.icmpError && p.fragment == whole &&
		p.dport >= r.node.CheckFirst && p.dport <= r.node.CheckLast && r.own(p.dst) && r.isVIP(p.src)
}

// takeReply hands what a check waits for to the checker, whose ring holds so much.
func (r *reference) takeReply(p *refPacket, o *outcome) string {
	at := uint32(p.dport - r.node.CheckFirst)
	if p.proto == protoUDP {
		at += 1000
	}
	if !p.v4 {
		at += 2000
	}
	if a := r.asked[at]; a.Waits == 0 || a.Vip != toAddress(p.src) || a.Port != swap16(p.sport) {
		return "drop_unasked"
	}
	size := 8 + (len(p.ip)+7)&^7
	if len(p.ip) > replyRoom || r.replies+size > repliesHeld {
		return "drop_reply_full"
	}
	o.later(func() { r.replies += size })
	return "drop_reply"
}
