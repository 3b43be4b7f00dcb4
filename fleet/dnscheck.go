package fleet

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

func (c *checker) zones(services map[string]bool) {
	seen := map[Name]bool{}
	made, steered := c.madeCatalogs(), c.steeredNames()
	for i := range c.spec.Zones {
		z, at := &c.spec.Zones[i], fmt.Sprintf("zones[%d]", i)
		if z.Zone == "" {
			c.errs.Addf(at+".zone", "expected the zone's name")
		}
		if seen[z.Zone] {
			c.errs.Addf(at+".zone", "%q is already served", z.Zone)
		}
		seen[z.Zone] = true
		c.zoneContent(z, made[z.Zone], at)
		c.template(z.Template, at+".template")
		c.zoneSettings(&z.ZoneSettings, at)
		names := map[Name]bool{}
		for j := range z.Steered {
			st, path := &z.Steered[j], fmt.Sprintf("%s.steered[%d]", at, j)
			c.nameInZone(st.Name, z.Zone, names, path+".name")
			if !services[st.Service] {
				c.errs.Addf(path+".service", "service %q does not exist", st.Service)
			}
			if ttl := c.spec.DNS.TTL; st.TTL < ttl.Min || st.TTL > ttl.Max {
				c.errs.Addf(path+".ttl", "%s is not between dns.ttl.min (%s) and dns.ttl.max (%s)", st.TTL, ttl.Min, ttl.Max)
			}
		}
		for j, a := range z.Aliases {
			path := fmt.Sprintf("%s.aliases[%d]", at, j)
			c.nameInZone(a.Name, z.Zone, names, path+".name")
			if svc := steered[a.Target]; a.Target == "" {
				c.errs.Addf(path+".target", "expected a name")
			} else if svc != "" {
				c.errs.Addf(path+".target", "%q is steered here: for the same answers put %q under steered, with service %q", a.Target, a.Name, svc)
			}
			c.within(path+".ttl", a.TTL, time.Second, time.Hour)
		}
	}
}

// steeredNames are all names that are steered, with their services.
func (c *checker) steeredNames() map[Name]string {
	out := map[Name]string{}
	for _, z := range c.spec.Zones {
		for _, st := range z.Steered {
			if n, err := Under(st.Name, z.Zone); err == nil {
				out[n] = st.Service
			}
		}
	}
	return out
}

// madeCatalogs are the catalog zones that some zone is listed in: the fleet
// makes them.
func (c *checker) madeCatalogs() map[Name]bool {
	out := map[Name]bool{c.spec.Settings(c.spec.Unnamed("")).MemberOf: true}
	for i := range c.spec.Zones {
		out[c.spec.Settings(&c.spec.Zones[i]).MemberOf] = true
	}
	delete(out, "")
	return out
}

// zoneContent asks for exactly one writer.
func (c *checker) zoneContent(z *Zone, made bool, at string) {
	primaries := len(c.spec.Settings(z).Primaries) > 0
	switch {
	case made && (primaries || z.File != "" || z.Records != "" || z.Dynamic):
		c.errs.Addf(at, "is a catalog that the fleet makes (member_of): expected neither file, records, primaries nor dynamic")
	case made:
	case z.File != "" && z.Records != "":
		c.errs.Addf(at, "expected either file or records")
	case primaries && (z.File != "" || z.Records != "" || z.Dynamic):
		c.errs.Addf(at, "has primaries: expected neither file, records nor dynamic")
	case !primaries && z.File == "" && z.Records == "" && !z.Dynamic:
		c.errs.Addf(at, "expected file, records, primaries or dynamic")
	}
	if len(c.spec.Settings(z).Updates) > 0 && !z.Dynamic {
		c.errs.Addf(at+".updates", "the zone is not dynamic")
	}
	if set := c.spec.Settings(z); primaries && (set.DNSSEC != "" || len(z.Aliases) > 0) {
		c.errs.Addf(at, "has primaries, which write it: expected neither dnssec nor aliases")
	}
}

func (c *checker) nameInZone(label string, zone Name, seen map[Name]bool, path string) {
	n, err := Under(label, zone)
	switch {
	case err != nil:
		c.errs.Addf(path, "%s", err)
	case !n.In(zone):
		c.errs.Addf(path, "%q is outside of zone %q", label, zone)
	case seen[n]:
		c.errs.Addf(path, "%q is already steered or an alias", label)
	}
	seen[n] = true
}

func (c *checker) template(name, path string) {
	if name != "" && c.spec.Template(name) == nil {
		c.errs.Addf(path, "template %q does not exist", name)
	}
}

func (c *checker) zoneSettings(s *ZoneSettings, at string) {
	for i := range s.Primaries {
		c.peer(&s.Primaries[i], fmt.Sprintf("%s.primaries[%d]", at, i))
	}
	for i := range s.Notify {
		c.peer(&s.Notify[i], fmt.Sprintf("%s.notify[%d]", at, i))
	}
	c.access(s.Transfer, at+".transfer")
	c.access(s.UpdateFrom, at+".update_from")
	for i, u := range s.Updates {
		path := fmt.Sprintf("%s.updates[%d]", at, i)
		if u.Key == "" {
			c.errs.Addf(path+".key", "expected a key: updates must be signed (RFC 3007)")
		} else {
			c.key(u.Key, path+".key")
		}
	}
	if s.DNSSEC != "" && c.spec.DNSSECPolicy(s.DNSSEC) == nil {
		c.errs.Addf(at+".dnssec", "policy %q does not exist", s.DNSSEC)
	}
	if s.Catalog != nil {
		c.template(s.Catalog.Template, at+".catalog.template")
		for _, g := range slices.Sorted(maps.Keys(s.Catalog.Groups)) {
			c.template(s.Catalog.Groups[g], at+".catalog.groups."+g)
		}
	}
	if s.MemberOf != "" && c.spec.Zone(s.MemberOf) == nil {
		c.errs.Addf(at+".member_of", "zone %q does not exist", s.MemberOf)
	}
}

func (c *checker) access(list []string, at string) {
	for i, text := range list {
		path := fmt.Sprintf("%s[%d]", at, i)
		a, err := ParseAccess(text)
		if err != nil {
			c.errs.Addf(path, "%s", err)
		} else if a.Key != "" {
			c.key(a.Key, path)
		}
	}
}

func (c *checker) key(name Name, path string) {
	if !slices.ContainsFunc(c.spec.DNS.Keys, func(k TSIGKey) bool { return k.Name == name }) {
		c.errs.Addf(path, "key %q is not among dns.keys", name)
	}
}

func (c *checker) certificate(id, path string) {
	if !slices.ContainsFunc(c.spec.Certificates, func(k Certificate) bool { return k.ID == id }) {
		c.errs.Addf(path, "certificate %q does not exist", id)
	}
}

func (c *checker) peer(p *Peer, at string) {
	if !p.Address.IsValid() || p.Address.Port() == 0 {
		c.errs.Addf(at+".address", "expected ADDRESS:PORT")
	}
	if p.Key != "" {
		c.key(p.Key, at+".key")
	}
	if t := p.TLS; t != nil {
		if t.Certificate != "" {
			c.certificate(t.Certificate, at+".tls.certificate")
		}
		if t.ServerName == "" && !t.Insecure {
			c.errs.Addf(at+".tls.server_name", "expected a name to verify, or insecure")
		}
	}
}

func (c *checker) dns() {
	d := &c.spec.DNS
	for i, l := range d.Listen {
		if _, err := ParseListen(l); err != nil {
			c.errs.Addf(fmt.Sprintf("dns.listen[%d]", i), "%s", err)
		}
	}
	c.listener(d.TLS, "dns.tls")
	c.listener(d.QUIC, "dns.quic")
	c.listener(d.HTTPS, "dns.https")
	if d.HTTPS != nil {
		c.path("dns.https.path", d.HTTPS.Path)
	}
	if d.TTL.Min > d.TTL.Max {
		c.errs.Addf("dns.ttl.min", "%s is more than dns.ttl.max (%s)", d.TTL.Min, d.TTL.Max)
	}
	c.within("dns.ttl.max", d.TTL.Max, 0, 68*365*24*time.Hour)
	c.within("dns.ttl.steered", d.TTL.Steered, d.TTL.Min.D(), d.TTL.Max.D())
	c.between("dns.rate_limit.per_second", *d.RateLimit.PerSecond, 0, 1_000_000)
	c.between("dns.rate_limit.slip", *d.RateLimit.Slip, 0, 100)
	c.between("dns.tcp.connections", d.TCP.Connections, 1, 1_000_000)
	c.between("dns.tcp.per_client", d.TCP.PerClient, 1, 1_000_000)
	c.within("dns.tcp.idle", d.TCP.Idle, time.Second, 10*time.Minute)
	c.between("dns.tcp.queries", d.TCP.Queries, 1, 1000)
	names := map[Name]bool{}
	for i, k := range d.Keys {
		at := fmt.Sprintf("dns.keys[%d]", i)
		if k.Name == "" || names[k.Name] {
			c.errs.Addf(at+".name", "expected a name of its own")
		}
		names[k.Name] = true
		if k.Secret == "" {
			c.errs.Addf(at+".secret", "expected file:PATH or env:NAME")
		}
	}
	c.dnssec()
	templates := map[string]bool{}
	for i := range d.Templates {
		at := fmt.Sprintf("dns.templates[%d]", i)
		c.unique(templates, d.Templates[i].Template, at+".template")
		c.zoneSettings(&d.Templates[i].ZoneSettings, at)
	}
	c.template(d.Zones, "dns.zones")
	c.whoami()
	if t := d.Tap; t != nil {
		if (t.File == "") == (t.Socket == "") {
			c.errs.Addf("dns.tap", "expected either file or socket")
		}
		if !(t.Sample > 0 && t.Sample <= 1) {
			c.errs.Addf("dns.tap.sample", "%v is not above 0 and at most 1", t.Sample)
		}
	}
}

// whoami refuses a name in a zone that is signed here: what it says depends on
// who asks, and nothing is signed for a query.
func (c *checker) whoami() {
	name := c.spec.DNS.Whoami
	var in *Zone
	for i := range c.spec.Zones {
		if z := &c.spec.Zones[i]; name != "" && name.In(z.Zone) && (in == nil || z.Zone.In(in.Zone)) {
			in = z
		}
	}
	if in != nil && c.spec.Settings(in).DNSSEC != "" {
		c.errs.Addf("dns.whoami", "%q is in zone %q, which is signed: its answers could not be; take a name in a zone that is not", name, in.Zone)
	}
}

func (c *checker) listener(l *DNSListener, at string) {
	if l == nil {
		return
	}
	for i, a := range l.Listen {
		if _, err := ParseListen(a); err != nil {
			c.errs.Addf(fmt.Sprintf("%s.listen[%d]", at, i), "%s", err)
		}
	}
	c.certificate(l.Certificate, at+".certificate")
}

func (c *checker) dnssec() {
	seen := map[string]bool{}
	for i := range c.spec.DNS.DNSSEC {
		p, at := &c.spec.DNS.DNSSEC[i], fmt.Sprintf("dns.dnssec[%d]", i)
		c.unique(seen, p.Policy, at+".policy")
		c.within(at+".validity", p.Validity, time.Hour, 2160*time.Hour)
		c.within(at+".refresh", p.Refresh, time.Minute, p.Validity.D()-time.Minute)
		c.within(at+".ttl", p.TTL, time.Second, 7*24*time.Hour)
		if p.OptOut && p.Denial != DenialNSEC3 {
			c.errs.Addf(at+".opt_out", "is for denial nsec3")
		}
		if p.SingleKey && p.Denial == DenialCompact {
			c.errs.Addf(at+".denial", "compact does not go with single_key: every nameserver would hold the key that the parent's DS names")
		}
	}
}
