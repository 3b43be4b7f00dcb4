package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defence is what layer 4 does against floods before it forwards a packet for
// a VIP, in the order of its fields.
type Defence struct {
	Static          *bool          `json:"static,omitempty" doc:"Drop what can be no client's: TCP flags that stand together in no segment; packets from a VIP, from the node itself, or from addresses that no host on the way has (loopback, link-local, multicast, unspecified, reserved)." default:"true"`
	ReflectionPorts []uint16       `json:"reflection_ports,omitempty" doc:"UDP source ports from which nothing is taken, as 19, 53, 123, 389, 1900, 11211: services that attackers have answer in a victim's name." default:"none"`
	Allow           Sources        `json:"allow,omitzero" doc:"Sources that the rest does not hold up: neither block nor rules nor limits." default:"none"`
	Block           Sources        `json:"block,omitzero" doc:"Sources from which nothing is taken." default:"none"`
	Rules           []PacketRule   `json:"rules,omitempty" doc:"Looked at in order, at most 48; the first one that matches decides, but those that only count decide nothing. What edge rule add has put in force stands before them." default:"none"`
	Limits          PacketLimits   `json:"limits,omitzero" doc:"Packets a second. A burst of one second's packets passes."`
	SynCookies      SynCookies     `json:"syn_cookies,omitzero" doc:"Floods of SYNs that the other means leave."`
	Sampling        PacketSampling `json:"sampling,omitzero" doc:"Copies of packets for edge top, edge capture and sFlow."`
}

// Sources are sets of networks.
type Sources struct {
	Prefixes  []netip.Prefix `json:"prefixes,omitempty" doc:"Networks, IPv4 or IPv6."`
	Countries []string       `json:"countries,omitempty" doc:"ISO 3166-1 two-letter codes of countries, by the geo database of edge run --geo."`
	ASNs      []uint32       `json:"asns,omitempty" doc:"AS numbers, by a geo database of edge run --geo that has them."`
}

// Empty says whether there is no source in it.
func (s *Sources) Empty() bool { return len(s.Prefixes)+len(s.Countries)+len(s.ASNs) == 0 }

// PacketRule says what becomes of some packets.
type PacketRule struct {
	Name  string      `json:"name" doc:"Unique name, which metrics and edge rule list show. Lower-case letters, digits and hyphens."`
	Match PacketMatch `json:"match" doc:"Which packets: those that fit all that is given."`
	Mode  RuleMode    `json:"mode,omitempty" doc:"drop; rate: drop those above a rate, let the others pass on to the limits; count: count them and look at the next rule." default:"drop"`
	Rate  int         `json:"rate,omitempty" doc:"Packets a second that mode rate lets through (1 to 100000000), on each layer-4 node." default:"none"`
	Until time.Time   `json:"until,omitzero" doc:"Time of day from which it no longer holds, as 2027-01-31T18:00:00Z." default:"for ever"`
}

// PacketMatch is which packets a rule is about. What is left out fits any.
type PacketMatch struct {
	Protocol   IPProtocol   `json:"protocol,omitempty" doc:"tcp, udp, icmp or icmpv6." default:"any"`
	Flags      TCPFlags     `json:"flags,omitzero" doc:"TCP flags that are set, or with ! before them are not: syn,!ack. Of fin, syn, rst, psh, ack, urg, ece, cwr." default:"any"`
	Source     netip.Prefix `json:"source,omitzero" doc:"Network that it comes from." default:"any"`
	VIP        Addresses    `json:"vip,omitzero" doc:"VIP that it is for, or a network of VIPs or a part of one." default:"any"`
	SourcePort NumberRange  `json:"source_port,omitzero" doc:"Port that it comes from, or the first and the last: 123 or 1024-2047. Later fragments have no ports." default:"any"`
	Port       NumberRange  `json:"port,omitzero" doc:"Port that it is for, likewise." default:"any"`
	Length     NumberRange  `json:"length,omitzero" doc:"Octets of the IP packet, likewise." default:"any"`
	TTL        NumberRange  `json:"ttl,omitzero" doc:"Its time to live or hop limit, likewise." default:"any"`
	Fragment   FragmentKind `json:"fragment,omitempty" doc:"no: a whole packet; first: a datagram's first fragment; later: one behind it; yes: any fragment." default:"any"`
	Country    string       `json:"source_country,omitempty" doc:"Country that it comes from, an ISO 3166-1 two-letter code, by the geo database of edge run --geo." default:"any"`
	ASN        ASNumber     `json:"source_asn,omitzero" doc:"Number of the AS that it comes from, by a geo database of edge run --geo that has them; not with source_country." default:"any"`
	ID         ValueRange   `json:"ip_id,omitzero" doc:"Identification of IPv4: a number from 0 to 65535, or the first and the last." default:"any"`
	Window     ValueRange   `json:"window,omitzero" doc:"TCP's window as it stands in the header, likewise." default:"any"`
	Options    TCPOptions   `json:"tcp_options,omitzero" doc:"All options of the TCP header in their order, as mss,sack,timestamp,nop,scale: of end, nop, mss, scale, sack, timestamp, numbers from 5 to 14, and other; or none. A header with more than 15, or with one that breaks off, matches no list." default:"any"`
	Payload    Payload      `json:"payload,omitzero" doc:"Octets behind the TCP or UDP header: OFFSET:OCTETS or OFFSET:OCTETS/MASK, in hexadecimal digits, as 0:16030100 or 4:20000000/f0000000; up to 8 octets, at an offset up to 1400." default:"any"`
}

// ShowsPorts says whether it fits packets alone that show ports, or what else
// stands in a header of TCP or UDP.
func (m *PacketMatch) ShowsPorts() bool {
	return m.Flags != TCPFlags{} || m.Port != NumberRange{} || m.SourcePort != NumberRange{} || m.Window.Given || m.Options != 0 || m.Payload.Octets > 0
}

// PacketLimits are limits in packets a second.
type PacketLimits struct {
	PerSource int `json:"per_source,omitempty" doc:"From one IPv4 address, or one IPv6 /64, to all VIPs (1 to 1000000)." default:"none"`
	PerVIP    int `json:"per_vip,omitempty" doc:"To one port of one VIP address, or of one network of VIPs, on each layer-4 node (1 to 100000000)." default:"none"`
}

// PacketSampling is which packets are copied.
type PacketSampling struct {
	Rate      int `json:"rate,omitempty" doc:"One in so many packets, by chance (1 to 1000000), whatever becomes of it." default:"none"`
	PerSecond int `json:"per_second,omitempty" doc:"At most so many copies a second (1 to 100000)." default:"1000"`
}

// RuleMode is what a rule does with the packets that it matches.
type RuleMode string

// The modes.
const (
	RuleDrop  RuleMode = "drop"
	RuleRate  RuleMode = "rate"
	RuleCount RuleMode = "count"
)

// Values lists the modes.
func (RuleMode) Values() []string { return []string{"drop", "rate", "count"} }

// IPProtocol is a protocol on top of IP.
type IPProtocol string

// The protocols that a rule may name.
const (
	ProtocolTCP    IPProtocol = "tcp"
	ProtocolUDP    IPProtocol = "udp"
	ProtocolICMP   IPProtocol = "icmp"
	ProtocolICMPv6 IPProtocol = "icmpv6"
)

// Values lists the protocols.
func (IPProtocol) Values() []string { return []string{"tcp", "udp", "icmp", "icmpv6"} }

// FragmentKind is a part of a datagram.
type FragmentKind string

// The kinds.
const (
	FragmentNo    FragmentKind = "no"
	FragmentYes   FragmentKind = "yes"
	FragmentFirst FragmentKind = "first"
	FragmentLater FragmentKind = "later"
)

// Values lists the kinds.
func (FragmentKind) Values() []string { return []string{"no", "yes", "first", "later"} }

// NumberRange is a range of numbers, both ends included; zero: none given.
type NumberRange struct{ First, Last uint16 }

// String writes it as the Spec does.
func (r NumberRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText writes it as the Spec does.
func (r NumberRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a number or two with a hyphen between them.
func (r *NumberRange) UnmarshalText(b []byte) error {
	first, last, two := strings.Cut(string(b), "-")
	if !two {
		last = first
	}
	lo, err1 := strconv.ParseUint(first, 10, 16)
	hi, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || hi < lo || hi == 0 {
		return fmt.Errorf("%q is not a number from 1 to 65535 or a range such as 1024-2047", b)
	}
	*r = NumberRange{uint16(lo), uint16(hi)}
	return nil
}

// TCPFlags are flags of a segment that are set and that are not; zero: none
// given.
type TCPFlags struct{ Set, Clear uint8 }

// tcpFlags are the names of the flags, the lowest bit first (RFC 9293 section
// 3.1).
var tcpFlags = [...]string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}

// String writes them as the Spec does.
func (f TCPFlags) String() string {
	var words []string
	for i, name := range tcpFlags {
		switch bit := uint8(1) << i; {
		case f.Set&bit != 0:
			words = append(words, name)
		case f.Clear&bit != 0:
			words = append(words, "!"+name)
		}
	}
	return strings.Join(words, ",")
}

// MarshalText writes them as the Spec does.
func (f TCPFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads names of flags with commas between them.
func (f *TCPFlags) UnmarshalText(b []byte) error {
	var out TCPFlags
	for word := range strings.SplitSeq(string(b), ",") {
		name, not := strings.CutPrefix(word, "!")
		i := slices.Index(tcpFlags[:], name)
		if i < 0 || (out.Set|out.Clear)>>i&1 != 0 {
			return fmt.Errorf("%q is not a list such as syn,!ack of different flags out of %s", b, strings.Join(tcpFlags[:], ", "))
		}
		if not {
			out.Clear |= 1 << i
		} else {
			out.Set |= 1 << i
		}
	}
	*f = out
	return nil
}

func (d *Defence) fillDefaults() {
	if d.Static == nil {
		d.Static = ptr(true)
	}
	for i := range d.Rules {
		def(&d.Rules[i].Mode, RuleDrop)
	}
	d.SynCookies.fillDefaults()
	if d.Sampling.Rate > 0 {
		def(&d.Sampling.PerSecond, 1000)
	}
}

func (c *checker) defence() {
	d := c.spec.Defence
	if d == nil {
		return
	}
	for i, p := range d.ReflectionPorts {
		if p == 0 {
			c.errs.Addf(fmt.Sprintf("defence.reflection_ports[%d]", i), "0 is not a port")
		}
	}
	c.sources(&d.Allow, "defence.allow")
	c.sources(&d.Block, "defence.block")
	names := map[string]bool{}
	for i := range d.Rules {
		at := fmt.Sprintf("defence.rules[%d]", i)
		c.unique(names, d.Rules[i].Name, at+".name")
		d.Rules[i].check(at, c.errs)
	}
	optional := func(path string, v, hi int) {
		if v != 0 {
			c.between(path, v, 1, hi)
		}
	}
	optional("defence.limits.per_source", d.Limits.PerSource, 1_000_000)
	optional("defence.limits.per_vip", d.Limits.PerVIP, 100_000_000)
	d.SynCookies.check(c, "defence.syn_cookies")
	optional("defence.sampling.rate", d.Sampling.Rate, 1_000_000)
	optional("defence.sampling.per_second", d.Sampling.PerSecond, 100_000)
	if d.Sampling.Rate == 0 && d.Sampling.PerSecond != 0 {
		c.errs.Addf("defence.sampling.per_second", "has no meaning without sampling.rate")
	}
}

func (c *checker) sources(s *Sources, at string) {
	for i, p := range s.Prefixes {
		checkPrefix(p, fmt.Sprintf("%s.prefixes[%d]", at, i), c.errs)
	}
	for i, k := range s.Countries {
		if !isCode(k) {
			c.errs.Addf(fmt.Sprintf("%s.countries[%d]", at, i), "%q: expected a two-letter ISO 3166-1 code in capitals", k)
		}
	}
	for i, n := range s.ASNs {
		if n == 0 {
			c.errs.Addf(fmt.Sprintf("%s.asns[%d]", at, i), "0 is not an AS number")
		}
	}
}

func checkPrefix(p netip.Prefix, at string, errs *Errors) {
	if p.Addr().Is4In6() {
		errs.Addf(at, "%s: write an IPv4 network as such", p)
	} else if p != p.Masked() {
		errs.Addf(at, "%s has bits set beyond its length; expected %s", p, p.Masked())
	}
}

// check applies the rules on one rule but for its name's.
func (r *PacketRule) check(at string, errs *Errors) {
	m := &r.Match
	if *m == (PacketMatch{}) {
		errs.Addf(at+".match", "expected one field at least; 0.0.0.0/0 and ::/0 as source match all of a family")
	}
	for key, given := range map[string]bool{"flags": m.Flags != TCPFlags{}, "window": m.Window.Given, "tcp_options": m.Options != 0} {
		if given && m.Protocol != ProtocolTCP {
			errs.Addf(at+".match."+key, "needs protocol tcp")
		}
	}
	if m.ShowsPorts() && m.Protocol != ProtocolTCP && m.Protocol != ProtocolUDP {
		errs.Addf(at+".match.protocol", "expected tcp or udp, since ports are given, or what stands behind them")
	}
	if m.Fragment == FragmentLater && m.ShowsPorts() {
		errs.Addf(at+".match.fragment", "later fragments show no ports, nor what stands behind them")
	}
	m.checkSource(at+".match", errs)
	if m.TTL.Last > 255 {
		errs.Addf(at+".match.ttl", "%s is not between 1 and 255", m.TTL)
	}
	switch {
	case r.Mode == RuleRate && (r.Rate < 1 || r.Rate > 100_000_000):
		errs.Addf(at+".rate", "%d is not between 1 and 100000000", r.Rate)
	case r.Mode != RuleRate && r.Rate != 0:
		errs.Addf(at+".rate", "is for mode rate, and this is %s", r.Mode)
	}
}

// checkSource applies the rules on where a packet comes from and goes to.
func (m *PacketMatch) checkSource(at string, errs *Errors) {
	if m.Source.IsValid() {
		checkPrefix(m.Source, at+".source", errs)
	}
	if m.VIP.IsValid() {
		checkPrefix(m.VIP.Prefix, at+".vip", errs)
	}
	if m.Source.IsValid() && m.VIP.IsValid() && m.Source.Addr().Is4() != m.VIP.Addr().Is4() {
		errs.Addf(at, "source and vip are of different families; no packet matches")
	}
	if m.ID.Given && (m.Source.Addr().Is6() || m.VIP.Addr().Is6()) {
		errs.Addf(at+".ip_id", "is IPv4's, and source or vip is of IPv6; no packet matches")
	}
	if m.Country != "" && !isCode(m.Country) {
		errs.Addf(at+".source_country", "%q: expected a two-letter ISO 3166-1 code in capitals", m.Country)
	}
	if m.Country != "" && m.ASN != 0 {
		errs.Addf(at+".source_asn", "is not to be had together with source_country")
	}
}

// ParsePacketRule reads one rule in YAML or JSON as the Spec has it, fills in
// its defaults and checks it. All errors are FieldErrors.
func ParsePacketRule(doc []byte) (*PacketRule, error) {
	r := new(PacketRule)
	if _, err := decodeInto(doc, r); err != nil {
		return nil, err
	}
	def(&r.Mode, RuleDrop)
	var errs Errors
	if !idForm.MatchString(r.Name) {
		errs.Addf("name", "%q: %s", r.Name, idRule)
	}
	r.check("", &errs)
	for _, e := range errs.list {
		e.Path = strings.TrimPrefix(e.Path, ".")
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return r, nil
}
