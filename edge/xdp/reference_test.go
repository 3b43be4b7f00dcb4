package xdp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"meridian/edge/defence"
	"meridian/edge/maglev"
	"meridian/edge/quiclb"
	"meridian/geo"
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

	lists      *geo.Table
	reflectors []uint16
	rules      []edgeRule

	// has says whether this machine's kernel has the connection, or a listening
	// socket that sent the cookie which this packet brings back.
	has func(p *refPacket) bool

	flows   map[uint64]refFlow // by hash
	errors  map[uint32]int     // ICMP errors sent, by second
	replies int                // checks' replies that nobody has taken yet
	traffic map[uint32]edgeTraffic
}

// refFlow is what is known of a flow, or of a datagram in fragments.
type refFlow struct {
	endpoint, generation uint16
	short                bool // forgotten after the shorter time
	seen                 uint32
}

// outcome is what becomes of one packet.
type outcome struct {
	reason   string   // the verdict is its first word
	counted  []string // beside the reason
	out      []byte
	endpoint uint16 // chosen; 0: none
	device   uint32 // to leave by
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
	replyRoom     = 2048
	repliesHeld   = 254 // of 2,064 octets each in 512 KiB, less one
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
		return "pass_malformed"
	}
	if r.duty(edgeDutyDUTY_DECAPSULATE) {
		if inner, ok := r.tunnelled(p); ok {
			return r.decapsulate(p, inner, now, o)
		}
	}
	if !p.parseTransport() {
		return "pass_malformed"
	}
	if !r.duty(edgeDutyDUTY_BALANCE) {
		if next, hash := r.nextOwner(p, now, o); next != nil {
			return r.passOn(p, next, hash, now, o)
		}
		return "pass_other"
	}
	if r.isReply(p) {
		return r.takeReply(p, o)
	}
	return r.balance(p, now, o)
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
// the slot's former owners, the newest first.
func (r *reference) slot(v edgeVip, hash uint64) (index uint16, unsafe bool, former []uint16) {
	t, ok := r.rings[v.Ring]
	if !ok {
		return 0, false, nil
	}
	i := maglev.Ring(t.slots).Of(hash)
	if t.former != nil {
		former = t.former[i][:]
	}
	return t.slots[i] & 0x1fff, t.slots[i]&slotUnsafe != 0, former
}

// begins says whether a flow may begin with the packet.
func begins(p *refPacket) bool { return p.proto != protoTCP || p.tcpFlags&(syn|ack) == syn }

// find gives what is known of a flow, unless it was unused for too long.
func (r *reference) find(hash uint64, now uint32) (refFlow, bool) {
	f, ok := r.flows[hash]
	idle := r.node.IdleTcp
	if f.short {
		idle = r.node.IdleUdp
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
	if v.Flags&uint8(edgeVipFlagVIP_AFFINITY) != 0 { // the slot is of all the client's flows alike, but each is kept by itself
		hi, lo := halves(p.src)
		hash = r.key.siphash(hi, lo, v.Salt^uint64(p.sport))
	}
	f, known := r.find(hash, now)
	keep := !p.icmpError && p.tcpFlags&rst == 0
	here := begins(p) || v.Flags&uint8(edgeVipFlagVIP_CHAIN) == 0 // what began earlier is the gateways' to place
	if known {
		e = r.holder(f)
		anew := p.proto == protoTCP && begins(p) // a SYN: the same again, or of a new connection
		if e != nil && (!anew || e.Takes == 1 && now-f.seen <= synAgain) {
			if keep {
				f.seen = now
				r.keep(hash, f, o)
			}
			o.count("flow_hit")
			return e, true
		}
		o.count(either(e != nil, "flow_new", "flow_moved"))
	} else {
		o.count(either(keep && here, "flow_new", "flow_unknown"))
	}
	if e = r.endpoint(index); e != nil && keep && here {
		r.keep(hash, refFlow{endpoint: e.Index, generation: e.Generation, short: p.proto != protoTCP, seen: now}, o)
	}
	return e, true
}

// keepDatagram notes where a first fragment goes, for the later ones.
func (r *reference) keepDatagram(p *refPacket, e *edgeEndpoint, now uint32, o *outcome) {
	if row, ok := r.serviceAt(p.dst, 0, p.proto, true); ok {
		r.keep(r.datagramHash(p, row), refFlow{endpoint: e.Index, generation: e.Generation, short: true, seen: now}, o)
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
	if why := r.defend(p); r.isVIP(p.dst) && why != "" {
		return why
	}
	if !ok {
		return r.noService(p, o)
	}
	hash := r.flowHash(p, v)
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

// isReply says whether the packet answers one of this node's checks.
func (r *reference) isReply(p *refPacket) bool {
	v, ok := r.serviceAt(p.src, p.sport, p.proto, false)
	return (p.proto == protoTCP || p.proto == protoUDP) && !p.icmpError && p.fragment == whole &&
		p.dport >= r.node.CheckFirst && p.dport <= r.node.CheckLast && r.own(p.dst) && ok && v.service()
}

func (r *reference) takeReply(p *refPacket, o *outcome) string {
	if len(p.ip) > replyRoom || r.replies >= repliesHeld {
		return "drop_reply_full"
	}
	o.later(func() { r.replies++ })
	return "drop_reply"
}

// tunnelled gives the packet inside one that came to this node in a tunnel: IP
// in IP (RFC 2003, RFC 2473, RFC 4213) or in UDP (GUE: variant 1 without a
// header, variant 0 data messages with one).
func (r *reference) tunnelled(p *refPacket) (inner *refPacket, ok bool) {
	if !r.own(p.dst) {
		return nil, false
	}
	proto, at := p.proto, p.at
	if proto == protoUDP {
		const guePort, udpHeader = 6080, 8
		if p.fragment == laterFragment || !p.holds(at, udpHeader+4) || be(p.ip[at+2:]) != guePort {
			return nil, false
		}
		if at += udpHeader; !p.readable(at) {
			return nil, false
		}
		switch g := p.ip[at]; {
		case g>>4 == 4:
			proto = protoIPIP
		case g>>4 == 6:
			proto = protoIPv6
		case g>>5 != 0: // another variant, or a control message
			return nil, false
		default:
			proto = p.ip[at+1]
			at += 4 + 4*int(g&31)
		}
	}
	if proto != protoIPIP && proto != protoIPv6 {
		return nil, false
	}
	inner = &refPacket{link: p.link, v4: proto == protoIPIP, from: p.from + at}
	if at <= len(p.ip) {
		inner.ip, inner.rest = p.ip[at:], p.rest
	}
	return inner, true
}

// decapsulate takes the outer headers off what a balancer sent for a VIP.
func (r *reference) decapsulate(p, in *refPacket, now uint32, o *outcome) string {
	if !in.parseIP() || !r.isVIP(in.dst) {
		return "pass_other" // somebody else's tunnel
	}
	if !r.balancers[p.src] {
		return "drop_untrusted"
	}
	if p.fragment != whole {
		return "drop_bad_inner"
	}
	in.sender, in.hops, in.returned = p.src, int(p.id)&7, p.id&8 != 0
	if !p.v4 {
		in.hops, in.returned = int(p.ip[3])&7, p.ip[3]&8 != 0
	}
	if in.parseTransport() {
		if next, hash := r.nextOwner(in, now, o); next != nil {
			return r.passOn(in, next, hash, now, o)
		}
	}
	o.out = in.frame()
	return "pass_decapsulated"
}

// nextOwner gives the gateway that a packet is passed on to, for this one does
// not have its connection; nil: it is this one's, or nobody's.
func (r *reference) nextOwner(p *refPacket, now uint32, o *outcome) (*edgeEndpoint, uint64) {
	v, ok := r.service(p)
	if !ok || v.Flags&uint8(edgeVipFlagVIP_CHAIN) == 0 {
		return nil, 0
	}
	if p.fragment == laterFragment {
		if f, known := r.find(r.datagramHash(p, v), now); known && p.hops < maxHops {
			if e := r.holder(f); e != nil && e.How != uint8(edgeForwardFORWARD_LOCAL) {
				return e, 0
			}
		}
		return nil, 0
	}
	hash := r.flowHash(p, v)
	if e := r.byConnectionID(p, v); e != nil {
		if e.How == uint8(edgeForwardFORWARD_LOCAL) || p.hops >= maxHops {
			return nil, 0
		}
		return e, hash
	}
	index, unsafe, former := r.slot(v, hash)
	if owner := r.endpoint(index); !unsafe && owner != nil && owner.How == uint8(edgeForwardFORWARD_LOCAL) {
		return nil, 0
	}
	if begins(p) || r.has(p) {
		o.count("chance_mine")
		return nil, 0
	}
	e := r.nextAfter(p, append([]uint16{index}, former...))
	if e == nil || p.hops >= maxHops {
		o.count("chance_none")
		return nil, 0
	}
	if p.fragment == firstFragment {
		r.keepDatagram(p, e, now, o)
	}
	return e, hash
}

// nextAfter gives whom of the owners a packet is passed on to: who follows this
// node or the sender, whichever stands first. If neither does, the first on the
// packet's first way, the second later. The sender where there is nobody else, but
// only once.
func (r *reference) nextAfter(p *refPacket, owners []uint16) *edgeEndpoint {
	begin := min(p.hops, 1)
	had := func(i uint16) bool {
		e := r.endpoint(i)
		return e != nil && (e.How == uint8(edgeForwardFORWARD_LOCAL) || p.hops > 0 && fromAddress(e.Addr) == p.sender)
	}
	if first := slices.IndexFunc(owners, had); p.hops > 0 && first >= 0 {
		begin = first + 1
	}
	for _, i := range owners[min(begin, len(owners)):] {
		if e := r.endpoint(i); e != nil && !had(i) && e.Keeps == 1 {
			return e
		}
	}
	for _, i := range owners {
		if e := r.endpoint(i); p.hops > 0 && !p.returned && e != nil && fromAddress(e.Addr) == p.sender && e.Keeps == 1 {
			p.returned = true
			return e
		}
	}
	return nil
}

// byConnectionID gives the endpoint that a QUIC packet's destination connection
// id says (draft-ietf-quic-load-balancers; where the id stands, RFC 8999), while
// it may have flows; nil: the ring tells.
func (r *reference) byConnectionID(p *refPacket, v edgeVip) *edgeEndpoint {
	at, stated := p.at+8, 0
	if v.Flags&uint8(edgeVipFlagVIP_QUIC) == 0 || p.proto != protoUDP || p.icmpError || p.fragment == laterFragment || !p.holds(at, 1) {
		return nil
	}
	if p.ip[at]&0x80 == 0 {
		at++
	} else if !p.holds(at, 6) || p.ip[at+5] == 0 {
		return nil
	} else {
		stated, at = int(p.ip[at+5]), at+6
	}
	for _, c := range r.quic {
		codec, err := quiclb.New(c)
		if err != nil || !p.holds(at, codec.Len()) || p.ip[at]>>5 != c.Rotation || int(p.ip[at]&31) != codec.Len()-1 ||
			stated != 0 && stated != codec.Len() {
			continue
		}
		if id, ok := codec.Decode(p.ip[at : at+codec.Len()]); ok {
			e := r.endpoint(r.servers[edgeServerKey{Ring: v.Ring, Server: [4]uint8(id)}])
			if e != nil && e.Keeps == 1 {
				return e
			}
		}
	}
	return nil
}

// defend gives the reason to drop a packet for a VIP, "": none. Rates and limits
// go by nanoseconds, which this knows nothing of.
func (r *reference) defend(p *refPacket) string {
	on := func(d edgeDefendFlag) bool { return r.node.Defends&uint32(d) != 0 }
	if on(edgeDefendFlagDEFEND_STATIC) && p.proto == protoTCP && !p.icmpError && p.fragment != laterFragment && bogusFlags(p.tcpFlags) {
		return "drop_bogus_flags"
	}
	class := defence.None
	if on(edgeDefendFlagDEFEND_LISTS) {
		class, _ = r.lists.Lookup(p.src)
	}
	if class == defence.Martian {
		return "drop_martian"
	}
	if on(edgeDefendFlagDEFEND_REFLECTED) && p.proto == protoUDP && !p.icmpError && p.fragment != laterFragment && slices.Contains(r.reflectors, p.sport) {
		return "drop_reflected"
	}
	switch class {
	case defence.Allowed:
		return ""
	case defence.Blocked:
		return "drop_blocked"
	case defence.BlockedCountry:
		return "drop_blocked_country"
	case defence.BlockedASN:
		return "drop_blocked_asn"
	}
	return ""
}

// bogusFlags says whether a segment cannot have these flags: PSH, ECE and CWR
// aside it has SYN, with URG or ACK; RST, with ACK; or ACK, with FIN and URG (RFC
// 9293 section 3.10.7).
func bogusFlags(flags byte) bool {
	const fin, urg = 1, 0x20
	switch flags & (fin | syn | rst | ack | urg) {
	case syn, syn | urg, syn | ack, rst, rst | ack, ack, ack | urg, fin | ack, fin | ack | urg:
		return false
	}
	return true
}

// mirror writes the program's tables and keeps what they hold, for a reference.
type mirror struct {
	*kernel
	ref *reference
	gue map[netip.Addr]bool // endpoints that are to be reached by GUE
}

func newMirror(k *kernel, key Key) mirror {
	return mirror{k, &reference{key: key, balancers: map[netip.Addr]bool{}, vips: map[edgeVipKey]edgeVip{},
		endpoints: map[uint16]edgeEndpoint{}, rings: map[uint32]ringTable{}, networks: map[netip.Prefix]bool{}, servers: map[edgeServerKey]uint16{}, has: func(*refPacket) bool { return false },
		flows: map[uint64]refFlow{}, errors: map[uint32]int{}, traffic: map[uint32]edgeTraffic{}}, map[netip.Addr]bool{}}
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

func (m mirror) setLists(t *geo.Table) error {
	m.ref.lists = t
	return m.kernel.setLists(t)
}

func (m mirror) setReflectors(ports []uint16) error {
	m.ref.reflectors = ports
	return m.kernel.setReflectors(ports)
}

func (m mirror) setRules(rules []edgeRule) error {
	m.ref.rules = rules
	return m.kernel.setRules(rules)
}

func (m mirror) clearTraffic(index uint32) error {
	m.ref.traffic[index] = edgeTraffic{}
	return m.kernel.clearTraffic(index)
}

// String tells a decision, for a test's message.
func (o *outcome) String() string {
	return fmt.Sprintf("%s (%s), endpoint %d, %d octets", o.verdict(), strings.Join(o.reasons(), " "), o.endpoint, len(o.out))
}
