package probe

import (
	"context"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// query asks one question by UDP: the SOA of Name, or, where Want says what to
// expect, its addresses of Want's family. Answers to other questions are
// passed over, as they may be forged (RFC 5452 section 9.1).
func (p *Prober) query(ctx context.Context, pr *fleet.Probe) error {
	q := new(dns.Msg)
	q.SetQuestion(string(pr.Name), questionType(pr))
	q.RecursionDesired = false
	q.SetEdns0(1232, false)
	wire, err := q.Pack()
	if err != nil {
		return failf(fleet.CauseOther, "name %q: %s", pr.Name, err)
	}
	return p.ask(ctx, pr.Address, wire, func(answer []byte) (bool, error) { return consider(answer, q, pr) })
}

// consider reads one datagram. done says that it answers q, well or ill.
func consider(b []byte, q *dns.Msg, pr *fleet.Probe) (done bool, err error) {
	var a dns.Msg
	if err := a.Unpack(b); err != nil {
		if len(b) >= 2 && uint16(b[0])<<8|uint16(b[1]) == q.Id {
			return true, failf(fleet.CauseProtocol, "the answer does not parse: %s", err)
		}
		return false, nil
	}
	if !answers(&a, q) {
		return false, nil
	}
	return true, judge(&a, pr)
}

func questionType(pr *fleet.Probe) uint16 {
	switch {
	case len(pr.Want) == 0:
		return dns.TypeSOA
	case pr.Want[0].Is4():
		return dns.TypeA
	}
	return dns.TypeAAAA
}

// answers says whether a is about q. A server may leave the question out of
// an error, where it could not read it.
func answers(a, q *dns.Msg) bool {
	if a.Id != q.Id || !a.Response {
		return false
	}
	if len(a.Question) == 0 {
		return a.Rcode != dns.RcodeSuccess
	}
	is, was := a.Question[0], q.Question[0]
	return len(a.Question) == 1 && is.Qtype == was.Qtype && is.Qclass == was.Qclass &&
		dns.CanonicalName(is.Name) == dns.CanonicalName(was.Name)
}

func judge(a *dns.Msg, pr *fleet.Probe) error {
	if a.Rcode != dns.RcodeSuccess {
		return failf(fleet.CauseRcode, "RCODE %s", dns.RcodeToString[a.Rcode])
	}
	if len(pr.Want) == 0 && !a.Authoritative {
		return failf(fleet.CauseAnswer, "the server is not authoritative for %s", pr.Name)
	}
	for _, rr := range a.Answer {
		switch rr := rr.(type) {
		case *dns.SOA:
			if len(pr.Want) == 0 && dns.CanonicalName(rr.Hdr.Name) == dns.CanonicalName(string(pr.Name)) {
				return nil
			}
		case *dns.A:
			if ip, ok := netip.AddrFromSlice(rr.A.To4()); ok && slices.Contains(pr.Want, ip) {
				return nil
			}
		case *dns.AAAA:
			if ip, ok := netip.AddrFromSlice(rr.AAAA); ok && slices.Contains(pr.Want, ip) {
				return nil
			}
		}
	}
	return failf(fleet.CauseAnswer, "the answer holds none of the records expected")
}
