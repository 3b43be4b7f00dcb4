package xdp

import (
	"encoding/binary"
	"net/netip"
)

// atGate is what a packet meets at a VIP whose SYNs are always answered with
// cookies: the reason that is the end of it, or "". Here there are never more
// strangers than are let through.
func (r *reference) atGate(p *refPacket, v edgeVip, hash uint64, now uint32, o *outcome) string {
	const fin = 1
	if v.Gate != uint8(edgeGateModeGATE_SHUT) || r.cookies.Until == 0 {
		return ""
	}
	if p.fragment != laterFragment && !p.icmpError && p.tcpFlags&(syn|ack|rst|fin) == syn {
		return r.answer(p, v, hash, o)
	}
	key := r.trackedHash(p, v, hash)
	if p.fragment == laterFragment {
		key = r.datagramHash(p, v)
	}
	if f, known := r.find(key, now); known && r.holder(f) != nil {
		r.keep(key, f.again(now), o)
		return ""
	}
	if !r.bringsCookie(p) {
		o.count("cookie_stranger")
		return ""
	}
	o.count("cookie_valid")
	index, _, _ := r.slot(v, hash)
	if e := r.endpoint(index); e != nil {
		o.begun = &refFlow{endpoint: e.Index, generation: e.Generation, young: true, seen: now}
		r.keep(key, *o.begun, o)
	}
	return ""
}

// tcpOptions are those of a SYN that count.
type tcpOptions struct {
	mss         int // 0: none
	sack        bool
	scale       int // -1: none
	stamped     bool
	value, echo uint32
}

// tcpHeader gives the TCP header, if all of it is there, and its options (RFC
// 9293 section 3.1): of what is cut short, or behind the fifteenth, nothing.
func (p *refPacket) tcpHeader() (header []byte, t tcpOptions, ok bool) {
	if !p.holds(p.at, 20) {
		return nil, t, false
	}
	size := int(p.ip[p.at+12]>>4) * 4
	if size < 20 || p.at+size > len(p.ip) {
		return nil, t, false
	}
	header, t.scale = p.ip[p.at:p.at+size], -1
	left := header[20:]
	for range 15 {
		if len(left) == 0 || left[0] == 0 {
			break
		}
		if left[0] == 1 {
			left = left[1:]
			continue
		}
		if len(left) < 2 || left[1] < 2 || int(left[1]) > len(left) {
			break
		}
		option := left[:left[1]]
		left = left[len(option):]
		switch [2]int{int(option[0]), len(option)} {
		case [2]int{2, 4}:
			t.mss = int(be(option[2:]))
		case [2]int{3, 3}:
			t.scale = int(option[2])
		case [2]int{4, 2}:
			t.sack = true
		case [2]int{8, 10}:
			t.stamped, t.value, t.echo = true, binary.BigEndian.Uint32(option[2:]), binary.BigEndian.Uint32(option[6:])
		}
	}
	return header, t, true
}

func (p *refPacket) ends() (client, vip netip.AddrPort) {
	return netip.AddrPortFrom(p.src, p.sport), netip.AddrPortFrom(p.dst, p.dport)
}

// bringsCookie says whether a segment acknowledges a cookie of this region's.
func (r *reference) bringsCookie(p *refPacket) bool {
	header, t, ok := p.tcpHeader()
	if p.fragment != whole || p.proto != protoTCP || p.icmpError || !ok || p.tcpFlags&(syn|ack|rst) != ack {
		return false
	}
	isn, client := binary.BigEndian.Uint32(header[8:])-1, binary.BigEndian.Uint32(header[4:])-1
	src, dst := p.ends()
	if isn>>29 >= uint32(len(r.cookies.Key)) {
		return false
	}
	h := keyOf(r.cookies, isn>>29).cookieHash(src, dst, client, byte(isn))
	return uint32(h)&0x1fffff == isn>>8&0x1fffff && (!t.stamped || t.echo == uint32(h>>32))
}

// answer is the SYN-ACK, with those of the SYN's options that Linux has, in the
// place of the SYN.
func (r *reference) answer(p *refPacket, v edgeVip, hash uint64, o *outcome) string {
	const most = 1536 // octets of data
	index, _, _ := r.slot(v, hash)
	e := r.endpoint(index)
	if e == nil {
		return "drop_no_member"
	}
	header, t, ok := p.tcpHeader()
	if p.fragment != whole || !ok || len(p.ip)-p.at-len(header) > most || sumTCP(p.src, p.dst, p.ip[p.at:]) != 0 {
		return "drop_bad_checksum"
	}
	client := binary.BigEndian.Uint32(header[4:])
	low, ecn := r.cookieBits(p, t)
	src, dst := p.ends()
	cookie, stamp := bake(r.cookies, src, dst, client, low)
	var options []byte
	if t.mss > 0 {
		options = cat(options, []byte{2, 4}, be16(r.segmentSize(p, e)))
	}
	switch {
	case t.stamped:
		options = append(options, map[bool][]byte{true: {4, 2, 8, 10}, false: {1, 1, 8, 10}}[t.sack]...)
		options = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(options, stamp), t.value)
	case t.sack:
		options = append(options, 1, 1, 4, 2)
	}
	if t.scale >= 0 {
		options = append(options, 1, 3, 3, 7)
	}
	tcp := cat(header[2:4], header[:2], binary.BigEndian.AppendUint32(nil, cookie), binary.BigEndian.AppendUint32(nil, client+1),
		[]byte{byte(20+len(options)) / 4 << 4, syn | ack | ecn}, be16(61440), []byte{0, 0, 0, 0}, options)
	binary.BigEndian.PutUint16(tcp[16:], sumTCP(p.dst, p.src, tcp))
	h := ipHeader{src: p.dst.String(), dst: p.src.String(), proto: protoTCP, frag: df, label: stamp & 0xfffff}
	out := &refPacket{link: p.link, ip: h.packet(tcp), v4: p.v4}
	out.turnLink()
	o.out = out.frame()
	return "tx_cookie"
}

// cookieBits are what the cookie says of the client, and the flag that the answer
// has for ECN (RFC 3168 section 6.1.1).
func (r *reference) cookieBits(p *refPacket, t tcpOptions) (low, ecn byte) {
	sizes := []int{1300, 1380, 1440}
	if p.v4 {
		sizes = []int{1300, 1400, 1460}
	}
	for i, size := range sizes {
		if t.mss >= size {
			low = byte(i+1) << 6
		}
	}
	if p.tcpFlags&0xc0 == 0xc0 {
		low, ecn = low|1<<5, 0x40
	}
	if t.sack {
		low |= 1 << 4
	}
	if t.scale < 0 {
		return low | 15, ecn
	}
	return low | byte(min(t.scale, 14)), ecn
}

// segmentSize fits every tunnel to the gateway and on to another.
func (r *reference) segmentSize(p *refPacket, e *edgeEndpoint) int {
	mtu, least := int(e.Mtu), 1220
	if mtu == 0 {
		mtu = 1500
	}
	if p.v4 {
		least = 536
	}
	return max(MSS(mtu, !p.v4), least)
}
