package stub

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// typeDSYNC and schemeNotify are RFC 9859's (sections 2.1 and 6.2).
const (
	typeDSYNC    = 66
	schemeNotify = 1
)

// mostLookups bounds the steps of a discovery, and mostAddresses whom of a
// target's addresses to try: what the parent publishes is not ours.
const (
	mostLookups   = 8
	mostAddresses = 6
)

// dsync is where to send notifications about one type to (RFC 9859 section
// 2.1).
type dsync struct {
	Type   uint16
	Scheme uint8
	Port   uint16
	Target fleet.Name
}

// parseDSYNC reads RDATA. Its target is not compressed (RFC 3597 section 4).
func parseDSYNC(rdata []byte) (dsync, error) {
	if len(rdata) < 6 || zone.WireLen(rdata[5:]) != len(rdata)-5 {
		return dsync{}, errors.New("malformed DSYNC record")
	}
	return dsync{Type: binary.BigEndian.Uint16(rdata), Scheme: rdata[2], Port: binary.BigEndian.Uint16(rdata[3:]), Target: zone.Text(rdata[5:])}, nil
}

// NotifyParent tells whom the zone's parent names that the zone's CDS or
// CDNSKEY set has changed, by NOTIFY(CDS) (RFC 9859 section 4.2): one target,
// at the first of its addresses that answers. It gives the target as HOST:PORT
// and the response code that it answered with; "" where the parent names none.
// It does not try again: that no one answered is an error.
func (s *Stub) NotifyParent(ctx context.Context, name fleet.Name) (target, rcode string, err error) {
	at, err := s.discover(ctx, name)
	if err != nil || at.Target == "" {
		return "", "", err
	}
	target = fmt.Sprintf("%s:%d", at.Target, at.Port)
	var addrs []netip.Addr
	var errs []error
	for _, v6 := range []bool{false, true} {
		list, _, err := s.Addresses(ctx, at.Target, v6)
		addrs, errs = append(addrs, list...), append(errs, err)
	}
	if len(addrs) == 0 {
		return target, "", fmt.Errorf("target %s of %s: %w", target, name, errors.Join(append(errs, errors.New("it has no address"))...))
	}
	errs = nil
	for _, a := range addrs[:min(len(addrs), mostAddresses)] {
		m := new(dns.Msg)
		m.SetNotify(string(name)) // RFC 1996 section 3.7
		m.Question[0].Qtype = dns.TypeCDS
		answer, err := s.exchange(ctx, m, netip.AddrPortFrom(a, at.Port))
		if err == nil && answer.Opcode == dns.OpcodeNotify {
			return target, dns.RcodeToString[answer.Rcode], nil
		}
		if err == nil {
			err = fmt.Errorf("%s answers with another opcode", a)
		}
		errs = append(errs, err)
	}
	return target, "", fmt.Errorf("NOTIFY(CDS) of %s to %s: %w", name, target, errors.Join(errs...))
}

// discover finds the target of notifications about a zone's CDS; one without a
// name where there is none (RFC 9859 section 4.1). The resolvers that are
// asked validate.
func (s *Stub) discover(ctx context.Context, name fleet.Name) (dsync, error) {
	child := zone.Wire(name)
	if len(child) == 1 {
		return dsync{}, errors.New("the root has no parent")
	}
	parent := child[1+int(child[0]):] // as far as is known
	front := true                     // the child's labels stand before _dsync
	for range mostLookups {
		var at []byte
		if front {
			at = append(at, child[:len(child)-len(parent)]...)
		}
		at = append(append(at, "\x06_dsync"...), parent...)
		if len(at) > 255 {
			return dsync{}, nil
		}
		m, err := s.resolve(ctx, zone.Text(at), typeDSYNC)
		if err != nil {
			return dsync{}, fmt.Errorf("looking for the target of notifications: %w", err)
		}
		if found, ok := pick(m); ok {
			return found, nil
		}
		above := apexOf(m)
		switch {
		case above != nil && len(above) < len(parent) && zone.Below(parent, string(above)):
			parent, front = above, true
		case front:
			front = false
		default:
			return dsync{}, nil
		}
	}
	return dsync{}, nil
}

// pick gives the target for CDS of an answer; ok says that the answer has
// DSYNC records at all. Of several, which there are not to be, it takes the
// first (RFC 9859 section 3).
func pick(m *dns.Msg) (at dsync, ok bool) {
	for _, rr := range m.Answer {
		raw, is := rr.(*dns.RFC3597)
		if !is || raw.Hdr.Rrtype != typeDSYNC {
			continue
		}
		ok = true
		rdata, err := hex.DecodeString(raw.Rdata)
		if err != nil {
			continue
		}
		d, err := parseDSYNC(rdata)
		if err == nil && d.Type == dns.TypeCDS && d.Scheme == schemeNotify && d.Port != 0 && d.Target != "." {
			return d, true
		}
	}
	return dsync{}, ok
}

// apexOf gives the apex of the zone that a negative answer is from, or nil.
func apexOf(m *dns.Msg) []byte {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			if n, err := fleet.ParseName(soa.Hdr.Name); err == nil {
				return zone.Wire(n)
			}
		}
	}
	return nil
}
