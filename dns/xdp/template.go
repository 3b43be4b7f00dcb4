package xdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"meridian/dns/zone"
)

const headerLen = 12

const typeOPT = 41

// template is an answer as the program writes it: the octets behind the
// question, in which compression pointers are relative to the end of the
// question's name, but for those to its beginning.
type template struct {
	flags  uint16 // of the header: AA and RCODE
	counts [3]uint16
	body   []byte
	relocs []uint16 // places of the relative pointers in body
	tail   []byte   // EDNS options
	turns  int      // records that rotate

	names  [][]byte // that the answer mentions where they may be compressed, in lower case
	labels int      // of names, written out
	alias  bool     // the section ANSWER begins with a CNAME or DNAME

	targets [][]byte // of CNAMEs in it, in lower case
}

var errTemplate = errors.New("not an answer")

// reader goes through a message.
type reader struct {
	t    *template
	msg  []byte
	from int // where the body begins
	name int // length of the question's name
	at   int
}

// readTemplate takes an answer apart whose question has a name of that length.
func readTemplate(msg []byte, nameLen int) (*template, error) {
	t := &template{flags: binary.BigEndian.Uint16(msg[2:]) & 0x040f}
	r := reader{t: t, msg: msg, from: headerLen + nameLen + 4, name: nameLen}
	r.at = r.from
	end := r.from
	for section := range 3 {
		n := binary.BigEndian.Uint16(msg[6+2*section:])
		for i := range n {
			rtype, opt, err := r.record()
			if err != nil {
				return nil, err
			}
			if opt != nil {
				n--
				t.tail = opt
				continue
			}
			if section == 0 && i == 0 {
				t.alias = rtype == zone.TypeCNAME || rtype == zone.TypeDNAME
			}
			if section == 0 && rtype == zone.TypeCNAME {
				t.targets = append(t.targets, t.names[len(t.names)-1])
			}
			end = r.at
		}
		t.counts[section] = n
	}
	if r.at != len(msg) || t.tail == nil {
		return nil, errTemplate
	}
	t.body = slices.Clone(msg[r.from:end])
	for _, at := range t.relocs {
		p := t.body[at:]
		binary.BigEndian.PutUint16(p, binary.BigEndian.Uint16(p)-uint16(nameLen))
	}
	return t, nil
}

// record passes over one; of an OPT it gives the options, which may be none but
// not nil.
func (r *reader) record() (rtype uint16, opt []byte, err error) {
	if err := r.readName(); err != nil {
		return 0, nil, err
	}
	if r.at+10 > len(r.msg) {
		return 0, nil, errTemplate
	}
	fixed := r.msg[r.at : r.at+10]
	rtype = binary.BigEndian.Uint16(fixed)
	r.at += 10
	end := r.at + int(binary.BigEndian.Uint16(fixed[8:]))
	if end > len(r.msg) {
		return 0, nil, errTemplate
	}
	switch rtype {
	case typeOPT:
		if fixed[4] != 0 { // extended RCODE
			return 0, nil, errTemplate
		}
		opt = append([]byte{}, r.msg[r.at:end]...)
	case zone.TypeNS, zone.TypeCNAME, zone.TypePTR, zone.TypeDNAME:
		err = r.readName()
	case zone.TypeMX:
		r.at += 2
		err = r.readName()
	case zone.TypeSOA:
		err = errors.Join(r.readName(), r.readName())
	}
	r.at = end
	return rtype, opt, err
}

// readName passes over a name, and notes it and its pointer.
func (r *reader) readName() error {
	var name []byte
	for at, jumped := r.at, false; ; {
		if at >= len(r.msg) {
			return errTemplate
		}
		n := int(r.msg[at])
		if n&0xc0 == 0xc0 {
			to := int(binary.BigEndian.Uint16(r.msg[at:]) & 0x3fff)
			if to >= at {
				return errTemplate
			}
			if !jumped {
				if to != headerLen {
					r.t.relocs = append(r.t.relocs, uint16(at-r.from))
				}
				r.at = at + 2
			}
			at, jumped = to, true
			continue
		}
		if at+1+n > len(r.msg) {
			return errTemplate
		}
		for _, c := range r.msg[at : at+1+n] {
			name = append(name, zone.Lower(c))
		}
		at += 1 + n
		if !jumped {
			r.t.labels++
			r.at = at
		}
		if n == 0 {
			r.t.names = append(r.t.names, name)
			return nil
		}
	}
}

// same says whether two are written alike.
func (t *template) same(o *template) bool {
	return t.flags == o.flags && t.counts == o.counts && bytes.Equal(t.body, o.body) &&
		slices.Equal(t.relocs, o.relocs) && bytes.Equal(t.tail, o.tail)
}

// Limits of the program (bpf/consts.h).
const (
	maxRelocs = 48
	maxTail   = 104
	minBody   = 8
	maxBody   = 1232
)

// fits says whether the program can write it.
func (t *template) fits() bool {
	return len(t.body) >= minBody && len(t.body) <= maxBody && len(t.relocs) <= maxRelocs && len(t.tail) <= maxTail
}

// record gives its record in a block (struct answer).
func (t *template) record() []byte {
	out := make([]byte, 16, 16+len(t.body)+8)
	out[0], out[1] = byte(dnsWhatWHAT_ANSWER), byte(len(t.relocs))
	ne := binary.NativeEndian
	ne.PutUint16(out[2:], uint16(len(t.body)))
	ne.PutUint16(out[4:], t.flags)
	for i, n := range t.counts {
		binary.BigEndian.PutUint16(out[6+2*i:], n)
	}
	ne.PutUint16(out[12:], t.sum())
	out[14], out[15] = byte(len(t.tail)), byte(t.turns)
	out = pad(append(out, t.body...))
	for _, at := range t.relocs {
		out = ne.AppendUint16(out, at)
	}
	return pad(append(pad(out), t.tail...))
}

func pad(b []byte) []byte {
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// sum is the Internet checksum's sum of the body (RFC 1071), relocated pointers
// left out.
func (t *template) sum() uint16 {
	b := pad(slices.Clone(t.body))
	for _, at := range t.relocs {
		b[at], b[at+1] = 0, 0
	}
	sum := uint64(0)
	for ; len(b) > 0; b = b[2:] {
		sum += uint64(binary.NativeEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
