package zone

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// WriteText writes the zone as a master file: the SOA first, then all records
// in canonical order, RRSIGs behind what they cover, NSEC3s last. Names are
// absolute. Reading it gives the same zone, without variants and marks.
func (z *Zone) WriteText(w io.Writer) error {
	out := textWriter{out: bufio.NewWriterSize(w, 1<<16)}
	apex := z.Apex()
	if soa := apex.Get(TypeSOA); soa != nil {
		out.set(apex.Name, soa)
	}
	for n := range z.Nodes() {
		for i := range n.Sets {
			if n != apex || n.Sets[i].Type != TypeSOA {
				out.set(n.Name, &n.Sets[i])
			}
		}
	}
	for n := range z.NSEC3s() {
		out.set(n.Name, &n.Set)
	}
	if err := out.out.Flush(); err != nil {
		return fmt.Errorf("writing zone %s: %w", z.Name, err)
	}
	return nil
}

// textWriter writes records; it keeps its scratch space and the last owner.
type textWriter struct {
	out  *bufio.Writer
	line []byte
	last string
	name fleet.Name // of last
}

func (w *textWriter) set(owner string, s *RRset) {
	if owner != w.last {
		w.last, w.name = owner, Text([]byte(owner))
	}
	for rdata := range each(s.Data) {
		w.record(s.TTL, s.Type, rdata)
	}
	for rdata := range each(s.Sigs) {
		w.record(s.TTL, TypeRRSIG, rdata)
	}
}

func (w *textWriter) record(ttl uint32, t uint16, rdata []byte) {
	b := append(append(w.line[:0], w.name...), '\t')
	b = append(strconv.AppendUint(b, uint64(ttl), 10), "\tIN\t"...)
	b = append(append(b, TypeName(t)...), '\t')
	b = append(AppendRDATA(b, t, rdata), '\n')
	w.line = b
	_, _ = w.out.Write(b) // Flush gives the error
}

// AppendRDATA appends RDATA as master files write it; in the form of RFC 3597
// section 5 where no other form reads back to the same octets.
func AppendRDATA(dst []byte, t uint16, rdata []byte) []byte {
	if form := textForm(t); form != "" && CheckRDATA(t, rdata) == nil {
		from := len(dst)
		if out, ok := appendFields(dst, form, rdata); ok {
			return out
		}
		dst = dst[:from]
	} else if s, ok := rareText(t, rdata); ok {
		return append(dst, s...)
	}
	dst = fmt.Appendf(dst, "\\# %d", len(rdata))
	if len(rdata) > 0 {
		dst = hex.AppendEncode(append(dst, ' '), rdata)
	}
	return dst
}

// RDATAText is AppendRDATA for messages.
func RDATAText(t uint16, rdata []byte) string { return string(AppendRDATA(nil, t, rdata)) }

// appendFields appends the fields of a form; false where the form cannot tell
// the data.
func appendFields(dst []byte, form string, rdata []byte) ([]byte, bool) {
	for i := 0; i < len(form); i++ {
		if i > 0 {
			dst = append(dst, ' ')
		}
		n := textLen(form[i], rdata)
		if n < 0 || n > len(rdata) {
			return dst, false
		}
		if n == 0 && form[i] != 'B' && form[i] != 'c' || form[i] == 'g' && !isTag(rdata[1:n]) {
			return dst, false
		}
		dst = appendField(dst, form[i], rdata[:n])
		rdata = rdata[n:]
	}
	return dst, len(rdata) == 0
}

// textLen is how many octets of rdata a field of a textForm takes.
func textLen(f byte, rdata []byte) int {
	switch f {
	case '1', 'a':
		return 1
	case '2', 'y':
		return 2
	case '4', 'i', 't', 'd':
		return 4
	case 'h':
		return 8
	case 'v':
		return 16
	case 'n':
		return WireLen(rdata)
	case 's', 'g', 'S', 'H':
		return fieldLen('S', rdata)
	}
	return len(rdata)
}

func appendField(dst []byte, f byte, b []byte) []byte {
	switch f {
	case '1', 'a':
		return strconv.AppendUint(dst, uint64(b[0]), 10)
	case '2':
		return strconv.AppendUint(dst, uint64(binary.BigEndian.Uint16(b)), 10)
	case '4', 't':
		return strconv.AppendUint(dst, uint64(binary.BigEndian.Uint32(b)), 10)
	case 'i', 'v':
		a, _ := netip.AddrFromSlice(b)
		return a.AppendTo(dst)
	case 'n':
		return AppendText(dst, b)
	case 'h':
		return appendGroupText(dst, b)
	case 's':
		return appendQuoted(dst, b[1:])
	case 'g':
		return append(dst, b[1:]...)
	case 'c':
		return appendQuoted(dst, b)
	case 'T':
		for first := true; len(b) > 0; first = false {
			n := 1 + int(b[0])
			if !first {
				dst = append(dst, ' ')
			}
			dst = appendQuoted(dst, b[1:n])
			b = b[n:]
		}
		return dst
	case 'd':
		return time.Unix(int64(binary.BigEndian.Uint32(b)), 0).UTC().AppendFormat(dst, "20060102150405")
	case 'y':
		return append(dst, TypeName(binary.BigEndian.Uint16(b))...)
	case 'x':
		return hex.AppendEncode(dst, b)
	case 'b':
		return base64.StdEncoding.AppendEncode(dst, b)
	case 'S':
		if len(b) == 1 {
			return append(dst, '-')
		}
		return hex.AppendEncode(dst, b[1:])
	case 'H':
		return append(dst, strings.ToLower(hexBase32.EncodeToString(b[1:]))...)
	}
	return appendBitmapText(dst, b)
}

// appendBitmapText appends the types of a bitmap.
func appendBitmapText(dst, bitmap []byte) []byte {
	first := true
	for t := range BitmapTypes(bitmap) {
		if !first {
			dst = append(dst, ' ')
		}
		first = false
		dst = append(dst, TypeName(t)...)
	}
	return dst
}

// appendQuoted appends a character string.
func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c >= 0x7f:
			dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// rareText gives the form that miekg/dns knows, if it reads back.
func rareText(t uint16, rdata []byte) (string, bool) {
	head := dns.RR_Header{Name: ".", Rrtype: t, Class: dns.ClassINET, Rdlength: uint16(len(rdata))}
	rr, _, err := dns.UnpackRRWithHeader(head, rdata, 0)
	if err != nil || dns.TypeToRR[t] == nil {
		return "", false
	}
	text := strings.TrimPrefix(rr.String(), rr.Header().String())
	if strings.ContainsAny(text, "\n;()") {
		return "", false
	}
	p := parser{origin: []byte{0}}
	p.data = []byte(text)
	back, err := p.readRDATA(nil, t)
	return text, err == nil && string(back) == string(rdata)
}
