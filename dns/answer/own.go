package answer

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"meridian/dns/zone"
)

// chaos answers the names that tell about the server itself (RFC 4892).
func (p *Plan) chaos(w *Worker) uint16 {
	r := &w.req
	var text string
	switch string(r.lower) {
	case "\x02id\x06server\x00", "\x08hostname\x04bind\x00":
		text = p.settings.nsid
	case "\x07version\x04bind\x00", "\x07version\x06server\x00":
		text = p.settings.version
	}
	if text == "" || len(text) > 255 {
		return w.refuse(edeNotAuth)
	}
	w.aa = true
	if r.qtype != zone.TypeTXT && r.qtype != typeANY {
		return NoError
	}
	var rdata [256]byte
	w.txt(classCH, appendText(rdata[:0], text))
	return NoError
}

// whoami answers the name that tells what is seen of a client: the address it
// asks from, its Client Subnet, its class, the scope of steered answers, and the
// epoch, which is the revision of the Spec and of the View that they go by.
func (p *Plan) whoami(w *Worker, c *Client) uint16 {
	r := &w.req
	w.aa, w.dnssec = true, false
	w.scope = int(r.ecs.source)
	if r.qtype != zone.TypeTXT && r.qtype != typeANY {
		if z := p.find(r.lower, r.qtype); z != nil && z.Zone != nil {
			w.negative(z)
		}
		return NoError
	}
	var rdata [256]byte
	var buf [80]byte
	out := appendText(rdata[:0], netip.AddrPortFrom(c.Addr, c.Port).AppendTo(append(buf[:0], "resolver "...)))
	client, subnet := r.ecs.prefix()
	if subnet {
		out = appendText(out, netip.PrefixFrom(client, int(r.ecs.source)).AppendTo(append(buf[:0], "subnet "...)))
	} else {
		client = c.Addr
	}
	if p.table != nil {
		class, scope := p.table.Lookup(client)
		out = appendText(out, strconv.AppendInt(append(buf[:0], "class "...), int64(class), 10))
		out = appendText(out, strconv.AppendInt(append(buf[:0], "scope "...), int64(scope), 10))
	}
	if p.world != nil {
		epoch := strconv.AppendUint(append(buf[:0], "epoch "...), p.world.Snapshot.Revision, 10)
		out = appendText(out, strconv.AppendUint(append(epoch, '.'), p.scene.Revision(), 10))
	}
	w.txt(classIN, out)
	return NoError
}

// appendText appends a character-string of at most 255 octets.
func appendText[T string | []byte](b []byte, text T) []byte {
	return append(append(b, byte(len(text))), text...)
}

// txt answers with a TXT record that nobody may keep.
func (w *Worker) txt(class uint16, rdata []byte) {
	m := &w.msg
	if m.n+12+len(rdata) > m.limit {
		m.tc = true
		return
	}
	b := m.buf[m.n:]
	binary.BigEndian.PutUint16(b, 0xc000|headerLen)
	binary.BigEndian.PutUint16(b[2:], zone.TypeTXT)
	binary.BigEndian.PutUint16(b[4:], class)
	binary.BigEndian.PutUint32(b[6:], 0)
	binary.BigEndian.PutUint16(b[10:], uint16(len(rdata)))
	m.n += 12 + copy(b[12:], rdata)
	m.counts[inAnswer]++
}
