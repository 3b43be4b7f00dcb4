package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// netInterface is what a section's packets refer to.
type netInterface struct {
	link    uint16
	snap    uint32 // longest data that was captured; 0: all
	perUnit uint64 // units of time in a second
	offset  int64  // seconds
}

// Types of blocks, and of options.
const (
	blockInterface = 1
	blockSimple    = 3
	blockEnhanced  = 6

	optionEnd     = 0
	optionComment = 1
	optionTsresol = 9
	optionOffset  = 14
)

// maxBlock is the longest block that is looked into, octets.
const maxBlock = MaxFrame + 1<<17

// block reads blocks up to the next packet.
func (r *Reader) block() (Packet, error) {
	for {
		if r.ended() {
			return Packet{}, io.EOF
		}
		kind, body, err := r.readBlock()
		if err != nil {
			return Packet{}, err
		}
		switch kind {
		case blockInterface:
			err = r.addInterface(body)
		case blockSimple:
			return r.simple(body)
		case blockEnhanced:
			return r.enhanced(body)
		}
		if err != nil {
			return Packet{}, err
		}
	}
}

// readBlock gives a block's type and its body; the body is nil for types that
// are of no interest.
func (r *Reader) readBlock() (kind uint32, body []byte, err error) {
	head, err := r.take(8)
	if err != nil {
		return 0, nil, err
	}
	left := 0 // of the body, what has been read already
	if kind = r.order.Uint32(head); kind == magicSection {
		if left, err = r.section(); err != nil {
			return 0, nil, err
		}
	}
	total := int64(r.order.Uint32(head[4:]))
	if total < 12+int64(left) || total%4 != 0 {
		return 0, nil, fmt.Errorf("block of %d octets: expected a multiple of 4, and 12 or more", total)
	}
	size := total - 12 - int64(left)
	switch kind {
	case blockInterface, blockSimple, blockEnhanced:
		if total > maxBlock {
			return 0, nil, fmt.Errorf("block of %d octets: expected at most %d", total, maxBlock)
		}
		body, err = r.take(int(size))
	default:
		_, err = io.CopyN(io.Discard, r.in, size)
	}
	if err != nil {
		return 0, nil, unexpected(err)
	}
	tail, err := r.take(4)
	if err == nil && int64(r.order.Uint32(tail)) != total {
		err = fmt.Errorf("block of %d octets says %d at its end", total, r.order.Uint32(tail))
	}
	return kind, body, err
}

// section begins a section, which says in what order its octets stand. It gives
// how much of the block's body it has read.
func (r *Reader) section() (int, error) {
	magic, err := r.take(4)
	if err != nil {
		return 0, err
	}
	const orderMagic = 0x1a2b3c4d
	switch {
	case binary.LittleEndian.Uint32(magic) == orderMagic:
		r.order = binary.LittleEndian
	case binary.BigEndian.Uint32(magic) == orderMagic:
		r.order = binary.BigEndian
	default:
		return 0, errors.New("section in neither byte order")
	}
	r.interfaces = nil
	return len(magic), nil
}

// maxInterfaces bounds what a section may describe.
const maxInterfaces = 1 << 12

func (r *Reader) addInterface(b []byte) error {
	if len(b) < 8 || len(r.interfaces) == maxInterfaces {
		return errors.New("description of an interface: too short, or one too many")
	}
	i := netInterface{link: r.order.Uint16(b), snap: r.order.Uint32(b[4:]), perUnit: 1_000_000}
	var bad error
	err := r.options(b[8:], func(code uint16, v []byte) {
		switch {
		case code == optionTsresol && len(v) == 1:
			i.perUnit, bad = resolution(v[0])
		case code == optionOffset && len(v) == 8:
			i.offset = int64(r.order.Uint64(v))
		}
	})
	r.interfaces = append(r.interfaces, i)
	return errors.Join(err, bad)
}

// resolution reads if_tsresol: a negative power of 10, or with the upper bit of 2.
func resolution(v byte) (uint64, error) {
	n := v & 0x7f
	if v&0x80 != 0 && n < 63 {
		return 1 << n, nil
	}
	if v&0x80 != 0 || n > 18 {
		return 0, fmt.Errorf("time resolution %#x is finer than can be told", v)
	}
	per := uint64(1)
	for range n {
		per *= 10
	}
	return per, nil
}

// options calls f with each option.
func (r *Reader) options(b []byte, f func(code uint16, v []byte)) error {
	for len(b) >= 4 {
		code, n := r.order.Uint16(b), int(r.order.Uint16(b[2:]))
		if code == optionEnd {
			return nil
		}
		if b = b[4:]; (n+3)&^3 > len(b) {
			return errors.New("option beyond its block")
		}
		f(code, b[:n])
		b = b[(n+3)&^3:]
	}
	return nil
}

func (r *Reader) ethernet(id uint32) (netInterface, error) {
	if int64(id) >= int64(len(r.interfaces)) {
		return netInterface{}, fmt.Errorf("interface %d is not described", id)
	}
	i := r.interfaces[id]
	if i.link != linkEthernet {
		return i, fmt.Errorf("interface %d: link type %d: expected Ethernet (%d)", id, i.link, linkEthernet)
	}
	return i, nil
}

// simple reads a packet without a time.
func (r *Reader) simple(b []byte) (Packet, error) {
	if len(b) < 4 {
		return Packet{}, errors.New("packet: too short a block")
	}
	i, err := r.ethernet(0)
	if err != nil {
		return Packet{}, err
	}
	length := r.order.Uint32(b)
	captured := length
	if i.snap > 0 {
		captured = min(captured, i.snap)
	}
	if captured > MaxFrame || int64(captured) > int64(len(b)-4) {
		return Packet{}, fmt.Errorf("packet of %d octets: beyond its block", captured)
	}
	return Packet{Data: b[4 : 4+captured], Length: int(length)}, nil
}

func (r *Reader) enhanced(b []byte) (Packet, error) {
	if len(b) < 20 {
		return Packet{}, errors.New("packet: too short a block")
	}
	i, err := r.ethernet(r.order.Uint32(b))
	if err != nil {
		return Packet{}, err
	}
	stamp := uint64(r.order.Uint32(b[4:]))<<32 | uint64(r.order.Uint32(b[8:]))
	captured, length := r.order.Uint32(b[12:]), r.order.Uint32(b[16:])
	padded := (int64(captured) + 3) &^ 3
	if captured > MaxFrame || padded > int64(len(b)-20) {
		return Packet{}, fmt.Errorf("packet of %d octets: beyond its block", captured)
	}
	p := Packet{Time: i.time(stamp), Data: b[20 : 20+captured], Length: int(length)}
	err = r.options(b[20+padded:], func(code uint16, v []byte) {
		if code == optionComment && p.Comment == "" {
			p.Comment = string(v)
		}
	})
	return p, err
}

func (i netInterface) time(stamp uint64) time.Time {
	seconds, rest := stamp/i.perUnit, stamp%i.perUnit
	hi, lo := bits.Mul64(rest, uint64(time.Second))
	fraction, _ := bits.Div64(hi, lo, i.perUnit) // rest is below perUnit, so this fits
	return time.Unix(int64(seconds)+i.offset, int64(fraction)).UTC()
}
