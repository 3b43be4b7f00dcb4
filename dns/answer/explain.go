package answer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// Explanation is why a client gets the answer that it gets.
type Explanation struct {
	Name     fleet.Name      `json:"name"`
	Type     string          `json:"type"`
	Client   netip.Prefix    `json:"client"`
	Rcode    string          `json:"rcode"`
	Answer   []string        `json:"answer"`             // records in master-file form
	Zone     fleet.Name      `json:"zone,omitempty"`     // the zone that the name belongs to
	Serial   uint32          `json:"serial,omitempty"`   // of the zone
	Steered  bool            `json:"steered"`            // the answer depends on steering; the rest is empty where not
	Place    geo.Place       `json:"place"`              // where the client is
	Source   string          `json:"source,omitempty"`   // the geo database that says so
	Class    geo.Class       `json:"class"`              // number of the client's class, in this plan
	Scope    int             `json:"scope"`              // prefix length for which the answer holds (RFC 7871)
	Block    netip.Prefix    `json:"block,omitzero"`     // the same as a prefix
	Decision *fleet.Decision `json:"decision,omitempty"` // what steering decided, and why
	Hash     string          `json:"hash,omitempty"`     // of the Snapshot
	Revision uint64          `json:"revision"`           // of the Snapshot
	View     uint64          `json:"view"`               // revision of the View
	Moment   *Moment         `json:"moment,omitempty"`   // see WithRecord
	Record   *Record         `json:"record,omitempty"`

	record Record
}

// WithRecord adds what it takes to give the same answer again, by the plan
// that explained it.
func (e *Explanation) WithRecord(p *Plan) error {
	m, err := p.Moment()
	if err != nil {
		return err
	}
	e.record.Moment = m.Hash()
	e.Moment, e.Record = m, &e.record
	return nil
}

// Explain asks the plan as a resolver would that sends the client's prefix,
// and adds why the answer is what it is.
func (p *Plan) Explain(name fleet.Name, qtype uint16, client netip.Prefix) (*Explanation, error) {
	if !client.IsValid() {
		return nil, fmt.Errorf("client: expected an address or prefix")
	}
	client = client.Masked()
	var w Worker
	out := make([]byte, MaxStream)
	query, from := explainQuery(name, qtype, client), Client{Addr: client.Addr(), Stream: true}
	n, _ := p.Answer(&w, query, from, out)
	var msg dns.Msg
	if err := msg.Unpack(out[:n]); err != nil {
		return nil, fmt.Errorf("explaining %s: the answer does not parse: %w", name, err)
	}
	e := &Explanation{Name: name, Type: dns.Type(qtype).String(), Client: client,
		Rcode: dns.RcodeToString[msg.Rcode], Answer: []string{}, record: w.Record("", query, from, out[:n])}
	for _, rr := range msg.Answer {
		e.Answer = append(e.Answer, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	if z := p.find(zone.Wire(name), qtype); z != nil && z.Zone != nil {
		e.Zone, e.Serial = z.Name, z.Serial
	}
	if p.world != nil {
		e.Hash, e.Revision = p.world.Snapshot.Hash, p.world.Snapshot.Revision
		e.View = p.scene.Revision()
	}
	if w.steered != nil {
		p.explainSteering(e, &w, qtype)
	}
	return e, nil
}

// explainQuery makes the query, with the client's prefix as Client Subnet.
func explainQuery(name fleet.Name, qtype uint16, client netip.Prefix) []byte {
	wire := zone.Wire(name)
	q := make([]byte, headerLen, headerLen+len(wire)+40)
	q[5], q[11] = 1, 1
	q = append(q, wire...)
	q = binary.BigEndian.AppendUint16(q, qtype)
	q = binary.BigEndian.AppendUint16(q, classIN)
	family, addr := byte(1), client.Addr().AsSlice()
	if client.Addr().Is6() {
		family = 2
	}
	addr = addr[:(client.Bits()+7)/8]
	q = append(q, 0, 0, typeOPT, 0xff, 0xff, 0, 0, 0, 0, 0, byte(8+len(addr)),
		0, optionECS, 0, byte(4+len(addr)), 0, family, byte(client.Bits()), 0)
	return append(q, addr...)
}

func (p *Plan) explainSteering(e *Explanation, w *Worker, qtype uint16) {
	addr := e.Client.Addr()
	f := steer.V4
	if qtype == zone.TypeAAAA {
		f = steer.V6
	}
	e.Steered = true
	e.Class, _ = p.table.Lookup(addr)
	_, e.Scope, _ = p.pick(&w.scratch, w.steered, qtype, addr)
	e.Block = netip.PrefixFrom(addr, e.Scope).Masked()
	if p.source != nil {
		e.Place, _ = p.source.Lookup(geo.Carried(addr))
		e.Source = p.source.String()
	}
	slot, _ := steer.SlotOf(addr)
	d := p.scene.Decide(w.steered.service, f, steer.Client{Place: p.classes.Locate(e.Place, addr), Slot: slot},
		time.Duration(w.steered.ttl)*time.Second)
	e.Decision = &d
}

// String renders the explanation for people.
func (e *Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s for %s: %s\n", e.Name, e.Type, e.Client, e.Rcode)
	for _, rr := range e.Answer {
		fmt.Fprintf(&b, "  %s\n", rr)
	}
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", key, fmt.Sprintf(format, args...))
	}
	if e.Zone == "" {
		line("zone", "none served here")
	} else {
		line("zone", "%s, serial %d", e.Zone, e.Serial)
	}
	if !e.Steered {
		line("steering", "none: the same answer for every client")
		tw.Flush()
		return b.String()
	}
	line("place", "%s (class %d; %s)", e.Place, e.Class, cmp.Or(e.Source, "no geo database"))
	if e.Scope == 0 {
		line("scope", "/0: the same answer for every client")
	} else {
		line("scope", "%s", e.Block)
	}
	d := e.Decision
	line("decision", "service %s by %s: %s from %s, TTL %s", d.Service, d.Policy, d.Answer, cmp.Or(strings.Join(d.Regions, ", "), "none"), d.TTL)
	group := ""
	for _, r := range d.Reasons {
		indent := strings.Repeat("  ", 1+r.Depth)
		if r.Group != group && r.Depth > 0 && r.Code == fleet.ReasonPolicy {
			line(indent[2:]+"group", "%s", r.Group)
		}
		group = r.Group
		line(indent+string(r.Code), "%s", strings.TrimSpace(r.Region+" "+r.Detail))
	}
	tw.Flush()
	return b.String()
}

// Steering is where a service's clients of one country are sent.
type Steering struct {
	Country   string             `json:"country"`
	Name      string             `json:"name"`
	Latitude  float64            `json:"latitude"`
	Longitude float64            `json:"longitude"`
	Region    string             `json:"region"` // for most of them; empty for none
	Answer    fleet.AnswerKind   `json:"answer"`
	Shares    map[string]float64 `json:"shares,omitempty"` // by region, where clients are split
}

// summarySlots is into how many samples a country is split where clients are.
const summarySlots = 256

// Summary says for each country where the clients of a service are sent,
// taking all of a country to be at its point; nil where there is no such
// service.
func (p *Plan) Summary(service string) []Steering {
	if p.world == nil || p.world.Snapshot.Service(service) == nil {
		return nil
	}
	spec := p.world.Snapshot.Spec
	index := slices.IndexFunc(spec.Services, func(s fleet.Service) bool { return s.Service == service })
	f := steer.V4
	if !slices.ContainsFunc(spec.Regions, func(r fleet.Region) bool { return len(r.VIPs.V4) > 0 }) && len(spec.Anycast.V4) == 0 {
		f = steer.V6
	}
	var out []Steering
	for _, c := range geo.Countries() {
		s := Steering{Country: c.Code, Name: c.Name, Latitude: c.Latitude, Longitude: c.Longitude, Answer: fleet.Regional}
		class := p.classes.Rank(index, c.Place())
		counts := map[string]float64{}
		first := p.scene.Choose(index, f, class, 0)
		samples := 1
		if first.Sliced {
			samples = summarySlots
		}
		if first.Anycast {
			s.Answer = fleet.Anycast
		}
		for i := range samples {
			choice := p.scene.Choose(index, f, class, steer.Slot(i*steer.Slots/samples))
			if r := choice.Regions(); len(r) > 0 {
				counts[spec.Regions[r[0]].ID] += 1 / float64(samples)
			}
		}
		for id, share := range counts {
			if s.Region == "" || share > counts[s.Region] || share == counts[s.Region] && id < s.Region {
				s.Region = id
			}
		}
		if samples > 1 {
			s.Shares = counts
		}
		out = append(out, s)
	}
	return out
}
