package conformance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// The aspects that two responses are compared by, each on its own.
const (
	aspectReply      = "reply" // whether there is one, and whether it parses
	aspectRcode      = "rcode" // with the upper bits from the OPT
	aspectFlags      = "flags"
	aspectQuestion   = "question" // octet for octet
	aspectAnswer     = "answer"
	aspectAuthority  = "authority"
	aspectGlue       = "glue"
	aspectAdditional = "additional"
	aspectOPT        = "opt"
	aspectFile       = "file" // of zone files: whether they are taken
	aspectOdd        = "odd"  // of odd messages: all but the sections
)

// aspects in the order in which they are judged.
var aspects = []string{aspectReply, aspectRcode, aspectFlags, aspectQuestion, aspectAnswer, aspectAuthority, aspectGlue, aspectAdditional, aspectOPT, aspectFile, aspectOdd}

// contents are the aspects that a truncated response tells nothing about.
var contents = []string{aspectAnswer, aspectAuthority, aspectGlue, aspectAdditional}

// normal is a response in the form that is compared: by aspect a text that is
// equal where the responses say the same. See normalise for what that means.
type normal struct {
	text  map[string]string
	extra map[string]bool // additional records that may be left out
	all   map[string]bool // every record of the response
	tc    bool
	size  int // octets
}

// normalise brings a response into the form that is compared:
//
//   - answer: RRsets in the order of their first record, so that chains keep
//     theirs; records within an RRset sorted; an RRSIG stands with the RRset
//     it covers. Owner names and names in data are folded to lower case.
//   - authority: RRsets sorted. The apex's NS set beside an authoritative
//     answer is left aside: it is courtesy (RFC 1034 section 6.2.1).
//   - glue: the addresses in the additional section of the servers of a
//     referral that lie at or below the delegation, which the response may
//     not lack (RFC 9471); all other additional records are optional.
//   - opt: whether there is one, its version, DO and other flags. Its options
//     and size are each server's own.
//   - a truncated response is compared by its header and OPT alone.
//   - QTYPE ANY and RRSIG may be answered by any subset (RFC 8482 section
//     4.1, RFC 9364): the answer is compared by its owner names alone.
func normalise(r reply, qtype uint16) normal {
	wire, err := r.wire, r.err
	n := normal{text: map[string]string{}, extra: map[string]bool{}, all: map[string]bool{}}
	if err != nil {
		n.text[aspectReply] = "none"
		return n
	}
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		n.text[aspectReply] = "malformed: " + err.Error()
		return n
	}
	n.tc, n.size = m.Truncated, len(wire)
	n.text[aspectReply] = "message"
	n.text[aspectRcode] = dns.RcodeToString[m.Rcode]
	n.text[aspectFlags] = flags(m)
	for _, q := range m.Question {
		n.text[aspectQuestion] += q.String() + "\n"
	}
	if opt := m.IsEdns0(); opt != nil {
		n.text[aspectOPT] = fmt.Sprintf("version %d flags %04x", opt.Version(), opt.Hdr.Ttl&0xffff)
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		n.all[record(rr)] = true
	}
	if m.Truncated {
		return n
	}
	if qtype == dns.TypeANY || qtype == dns.TypeRRSIG {
		n.text[aspectAnswer] = owners(m.Answer)
	} else {
		n.text[aspectAnswer] = strings.Join(sets(m.Answer), "\n")
	}
	authority := sets(m.Ns)
	slices.Sort(authority)
	if m.Authoritative && len(m.Answer) > 0 {
		authority = slices.DeleteFunc(authority, func(s string) bool { return strings.Contains(s, "\tin\tns\t") })
	}
	n.text[aspectAuthority] = strings.Join(authority, "\n")
	n.text[aspectGlue] = n.split(m)
	return n
}

// split tells glue from what else is in the additional section.
func (n *normal) split(m *dns.Msg) (glue string) {
	need := map[string]bool{}
	for _, rr := range m.Ns {
		if ns, ok := rr.(*dns.NS); ok && !m.Authoritative && dns.IsSubDomain(ns.Hdr.Name, ns.Ns) {
			need[dns.CanonicalName(ns.Ns)] = true
		}
	}
	var lines []string
	for _, rr := range m.Extra {
		h := rr.Header()
		switch {
		case h.Rrtype == dns.TypeOPT:
		case need[dns.CanonicalName(h.Name)] && (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA):
			lines = append(lines, record(rr))
		default:
			n.extra[record(rr)] = true
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func flags(m *dns.Msg) string {
	var b strings.Builder
	for _, f := range []struct {
		name string
		set  bool
	}{{"qr", m.Response}, {"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired},
		{"ra", m.RecursionAvailable}, {"z", m.Zero}, {"ad", m.AuthenticatedData}, {"cd", m.CheckingDisabled}} {
		if f.set {
			b.WriteString(f.name + " ")
		}
	}
	return b.String() + dns.OpcodeToString[m.Opcode]
}

// record is one record as text, names folded.
func record(rr dns.RR) string {
	s := rr.String()
	switch rr.(type) {
	case *dns.TXT, *dns.HINFO, *dns.CAA, *dns.URI, *dns.NAPTR, *dns.RRSIG, *dns.DNSKEY:
		name := rr.Header().Name
		return dns.CanonicalName(name) + s[len(name):]
	}
	return strings.ToLower(s[:len(s)-len(rdata(s))]) + strings.ToLower(rdata(s))
}

// rdata is what stands behind owner, TTL, class and type.
func rdata(s string) string {
	f := strings.SplitN(s, "\t", 5)
	return f[len(f)-1]
}

// sets gives the RRsets of a section in the order of their first records,
// each as sorted lines.
func sets(section []dns.RR) []string {
	type key struct {
		name  string
		rtype uint16
	}
	var order []key
	lines := map[key][]string{}
	for _, rr := range section {
		k := key{dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype}
		if sig, ok := rr.(*dns.RRSIG); ok {
			k.rtype = sig.TypeCovered
		}
		if lines[k] == nil {
			order = append(order, k)
		}
		lines[k] = append(lines[k], record(rr))
	}
	var out []string
	for _, k := range order {
		slices.Sort(lines[k])
		out = append(out, strings.Join(lines[k], "\n"))
	}
	return out
}

// owners names whom the records of a section belong to.
func owners(section []dns.RR) string {
	var out []string
	for _, rr := range section {
		out = append(out, dns.CanonicalName(rr.Header().Name))
	}
	slices.SortFunc(out, cmp.Compare)
	return strings.Join(slices.Compact(out), " ")
}
