package zone

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// WriteText writes the zone as a master file: the SOA first, then all records
// in canonical order, RRSIGs behind what they cover, NSEC3s last. Names are
// absolute. Reading it gives the same zone, without variants and marks.
func (z *Zone) WriteText(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	apex := z.Apex()
	if soa := apex.Get(TypeSOA); soa != nil {
		writeSet(out, apex.Name, soa)
	}
	for n := range z.Nodes() {
		for i := range n.Sets {
			if n != apex || n.Sets[i].Type != TypeSOA {
				writeSet(out, n.Name, &n.Sets[i])
			}
		}
	}
	for n := range z.NSEC3s() {
		writeSet(out, n.Name, &n.Set)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing zone %s: %w", z.Name, err)
	}
	return nil
}

func writeSet(out *bufio.Writer, owner string, s *RRset) {
	name := Text([]byte(owner))
	for rdata := range each(s.Data) {
		writeRecord(out, name, s.TTL, s.Type, rdata)
	}
	for rdata := range each(s.Sigs) {
		writeRecord(out, name, s.TTL, TypeRRSIG, rdata)
	}
}

func writeRecord(out *bufio.Writer, owner fleet.Name, ttl uint32, t uint16, rdata []byte) {
	fmt.Fprintf(out, "%s\t%d\tIN\t%s\t%s\n", owner, ttl, TypeName(t), RDATAText(t, rdata))
}

// RDATAText gives RDATA as master files write it; in the form of RFC 3597
// section 5 where no other form reads back to the same octets.
func RDATAText(t uint16, rdata []byte) string {
	if s, ok := knownText(t, rdata); ok {
		return s
	}
	return strings.TrimSuffix(fmt.Sprintf("\\# %d %s", len(rdata), hex.EncodeToString(rdata)), " ")
}

// knownText gives the form of a type that is known, if it reads back.
func knownText(t uint16, rdata []byte) (string, bool) {
	head := dns.RR_Header{Name: ".", Rrtype: t, Class: dns.ClassINET, Rdlength: uint16(len(rdata))}
	rr, _, err := dns.UnpackRRWithHeader(head, rdata, 0)
	if err != nil {
		return "", false
	}
	text := strings.TrimPrefix(rr.String(), rr.Header().String())
	again, err := dns.NewRR(". IN " + TypeName(t) + " " + text)
	if err != nil || again == nil {
		return "", false
	}
	_, back, err := pack(again)
	return text, err == nil && string(back) == string(rdata)
}
