package fleet

import (
	"slices"
	"time"
)

// DefaultPolicy is the name of the DNSSEC policy that exists in any case.
const DefaultPolicy = "default"

func (d *DNS) fillDefaults() {
	if len(d.Listen) == 0 {
		d.Listen = []string{":53"}
	}
	for _, l := range []*DNSListener{d.TLS, d.QUIC} {
		if l != nil && len(l.Listen) == 0 {
			l.Listen = []string{":853"}
		}
	}
	if l := d.HTTPS; l != nil {
		if len(l.Listen) == 0 {
			l.Listen = []string{":443"}
		}
		def(&l.Path, "/dns-query")
	}
	def(&d.TTL.Steered, Duration(30*time.Second))
	def(&d.TTL.Min, Duration(time.Second))
	def(&d.TTL.Max, Duration(time.Hour))
	if d.ECS == nil {
		d.ECS = ptr(true)
	}
	def(&d.Any, AnyOne)
	if d.RateLimit.PerSecond == nil {
		d.RateLimit.PerSecond = ptr(0)
	}
	if d.RateLimit.Slip == nil {
		d.RateLimit.Slip = ptr(2)
	}
	def(&d.TCP.Connections, 1024)
	def(&d.TCP.PerClient, 128)
	def(&d.TCP.Idle, Duration(10*time.Second))
	def(&d.TCP.Queries, 100)
	for i := range d.Keys {
		def(&d.Keys[i].Algorithm, "hmac-sha256")
	}
	if !slices.ContainsFunc(d.DNSSEC, func(p DNSSECPolicy) bool { return p.Policy == DefaultPolicy }) {
		d.DNSSEC = append(d.DNSSEC, DNSSECPolicy{Policy: DefaultPolicy})
	}
	for i := range d.DNSSEC {
		d.DNSSEC[i].fillDefaults()
	}
	if d.Tap != nil {
		def(&d.Tap.Sample, 1)
	}
}

func (p *DNSSECPolicy) fillDefaults() {
	def(&p.Algorithm, ECDSAP256)
	def(&p.Denial, DenialNSEC)
	if p.ZSKLifetime == nil {
		p.ZSKLifetime = ptr(Duration(720 * time.Hour))
	}
	if p.KSKLifetime == nil {
		p.KSKLifetime = ptr(Duration(0))
	}
	def(&p.Validity, Duration(336*time.Hour))
	def(&p.Refresh, p.Validity/3)
	def(&p.TTL, Duration(time.Hour))
	def(&p.Propagation, Duration(time.Hour))
	def(&p.ParentTTL, Duration(24*time.Hour))
	def(&p.CDS, CDSAlways)
}

func (z *Zone) fillDefaults(d *DNS) {
	for i := range z.Steered {
		def(&z.Steered[i].TTL, d.TTL.Steered)
		if h := z.Steered[i].HTTPS; h != nil {
			if len(h.ALPN) == 0 {
				h.ALPN = []string{"h2"}
			}
			def(&h.Port, 443)
		}
	}
	for i := range z.Aliases {
		def(&z.Aliases[i].TTL, Duration(time.Minute))
	}
}

// Settings gives a zone's settings: its own, and for those it does not have
// its template's.
func (s *Spec) Settings(z *Zone) ZoneSettings {
	out := z.ZoneSettings
	if t := s.Template(z.Template); t != nil {
		out.fill(&t.ZoneSettings)
	}
	if out.Serial == "" {
		out.Serial = SerialKeep
		shown := len(z.Steered) > 0 && len(out.Primaries) == 0 && len(out.Transfer)+len(out.Notify) > 0
		if z.Dynamic || out.DNSSEC != "" || len(z.Aliases) > 0 || shown { // it changes without anybody writing a serial
			out.Serial = SerialUnixtime
		}
	}
	def(&out.ZONEMD, ZONEMDVerify)
	return out
}

func (s *ZoneSettings) fill(t *ZoneSettings) {
	fillList(&s.Primaries, t.Primaries)
	fillList(&s.Transfer, t.Transfer)
	fillList(&s.Notify, t.Notify)
	fillList(&s.Updates, t.Updates)
	fillList(&s.UpdateFrom, t.UpdateFrom)
	def(&s.DNSSEC, t.DNSSEC)
	def(&s.Serial, t.Serial)
	def(&s.ZONEMD, t.ZONEMD)
	def(&s.Catalog, t.Catalog)
	def(&s.MemberOf, t.MemberOf)
	def(&s.Group, t.Group)
}

func fillList[T any](p *[]T, v []T) {
	if *p == nil {
		*p = v
	}
}

// Template gives the template of that name, or nil.
func (s *Spec) Template(name string) *ZoneTemplate {
	if i := slices.IndexFunc(s.DNS.Templates, func(t ZoneTemplate) bool { return t.Template == name }); i >= 0 && name != "" {
		return &s.DNS.Templates[i]
	}
	return nil
}

// DNSSECPolicy gives the policy of that name, or nil.
func (s *Spec) DNSSECPolicy(name string) *DNSSECPolicy {
	if i := slices.IndexFunc(s.DNS.DNSSEC, func(p DNSSECPolicy) bool { return p.Policy == name }); i >= 0 {
		return &s.DNS.DNSSEC[i]
	}
	return nil
}

// Zone gives the zone of that name, or nil.
func (s *Spec) Zone(name Name) *Zone {
	if i := slices.IndexFunc(s.Zones, func(z Zone) bool { return z.Zone == name }); i >= 0 {
		return &s.Zones[i]
	}
	return nil
}

// Unnamed gives the Zone that stands for one that the Spec does not name: made
// by the admin API, with the settings of the template dns.zones.
func (s *Spec) Unnamed(name Name) *Zone {
	return &Zone{Zone: name, Dynamic: true, Template: s.DNS.Zones}
}
