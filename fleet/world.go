package fleet

import (
	"bytes"
	"strings"
)

// ObjectKind is a kind of object: data that the Snapshot names and does not
// hold, each object versioned alone with one writer.
type ObjectKind string

// The kinds of object.
const (
	ObjectZone        ObjectKind = "zone"        // a zone in master-file format; ID is its Name
	ObjectCertificate ObjectKind = "certificate" // chain and private key in PEM, one after the other; ID is the Certificate's
	ObjectCA          ObjectKind = "ca"          // authorities in PEM; ID is the reference that the Spec uses
	ObjectSecret      ObjectKind = "secret"      // a secret of nameservers or gateways; ID is the reference that the Spec uses
	ObjectPage        ObjectKind = "page"        // a body of gateways' own answers; ID is the reference that the Spec uses
	ObjectLatency     ObjectKind = "latency"     // the latency map; ID is the file's name in the Spec
	ObjectLive        ObjectKind = "live"        // a live object; ID is LiveID's
)

// ObjectKey names one object.
type ObjectKey struct {
	Kind ObjectKind
	ID   string
}

// Object is one object's content. It is immutable.
type Object struct {
	Key     ObjectKey
	Data    []byte
	File    string // where it was read from, for messages; may be empty
	Version string // names this content among those of the key; may be empty
}

// Same says whether o has the content of p, by version where both have one.
func (o Object) Same(p Object) bool {
	if o.Key != p.Key {
		return false
	}
	if o.Version != "" && p.Version != "" {
		return o.Version == p.Version
	}
	return len(o.Data) == len(p.Data) && (len(o.Data) == 0 || &o.Data[0] == &p.Data[0] || bytes.Equal(o.Data, p.Data))
}

// World is all that the control plane wants of a node, of one moment: the
// Snapshot, every object that it names, and the shifts in force. It is
// immutable.
type World struct {
	Snapshot *Snapshot
	Objects  map[ObjectKey]Object
	Shifts   []Shift // in order of ID
	Zones    *Zones  // zones with versions of their own; one that Objects has too goes before it
	Live     *Zones  // live objects, by LiveID
}

// Wanted lists the objects that the Snapshot names, in the Spec's order: the
// zones, the certificates that are not issued, and the authorities that are
// trusted by reference.
func (s *Snapshot) Wanted() []ObjectKey {
	var out []ObjectKey
	seen := map[ObjectKey]bool{}
	add := func(k ObjectKind, id string) {
		if key := (ObjectKey{k, id}); !seen[key] {
			seen[key] = true
			out = append(out, key)
		}
	}
	for _, z := range s.Spec.Zones {
		if z.File != "" || z.Records != "" {
			add(ObjectZone, string(z.Zone))
		}
	}
	for _, c := range s.Spec.Certificates {
		if c.ACME == nil {
			add(ObjectCertificate, c.ID)
			continue
		}
		if c.ACME.CA != "" {
			add(ObjectCA, c.ACME.CA)
		}
		if c.ACME.EAB != nil {
			add(ObjectSecret, string(c.ACME.EAB.Key))
		}
	}
	for _, svc := range s.Spec.Services {
		if svc.ClientAuth != nil {
			add(ObjectCA, svc.ClientAuth.CA)
		}
		for _, p := range svc.Pools {
			if p.TLS != nil && p.TLS.CA != "" {
				add(ObjectCA, p.TLS.CA)
			}
		}
	}
	if s.Spec.Probes.CA != "" {
		add(ObjectCA, s.Spec.Probes.CA)
	}
	for _, k := range s.Spec.gatewayObjects() {
		add(k.Kind, k.ID)
	}
	for _, k := range s.Spec.dnsObjects() {
		if k.Kind != ObjectCertificate {
			add(k.Kind, k.ID)
		}
	}
	return out
}

// DNSObjects says which objects nameservers need besides zones: secrets, the
// certificates that they show, authorities and the latency map.
func (s *Snapshot) DNSObjects() map[ObjectKey]bool {
	out := map[ObjectKey]bool{}
	for _, k := range s.Spec.dnsObjects() {
		out[k] = true
	}
	return out
}

// MaxPage bounds a page, in octets.
const MaxPage = 1 << 20

// GatewayObjects says which secrets and pages gateways need.
func (s *Snapshot) GatewayObjects() map[ObjectKey]bool {
	out := map[ObjectKey]bool{}
	for _, k := range s.Spec.gatewayObjects() {
		out[k] = true
	}
	return out
}

func (s *Spec) gatewayObjects() []ObjectKey {
	var out []ObjectKey
	page := func(text string) {
		if strings.HasPrefix(text, "file:") {
			out = append(out, ObjectKey{ObjectPage, text})
		}
	}
	filters := func(f *Filters) {
		if f.Maintenance != nil {
			page(f.Maintenance.Body)
		}
		for _, p := range f.ErrorPages {
			page(p.Body)
		}
		if f.BasicAuth != nil && f.BasicAuth.Users != "" {
			out = append(out, ObjectKey{ObjectSecret, string(f.BasicAuth.Users)})
		}
		if f.JWT != nil && f.JWT.Keys != "" {
			out = append(out, ObjectKey{ObjectSecret, string(f.JWT.Keys)})
		}
	}
	for i := range s.Services {
		svc := &s.Services[i]
		filters(&svc.Filters)
		for j := range svc.Routes {
			if a := svc.Routes[j].Answer; a != nil {
				page(a.Body)
			}
			if f := svc.Routes[j].Filters; f != nil {
				filters(f)
			}
		}
	}
	return out
}

func (s *Spec) dnsObjects() []ObjectKey {
	var out []ObjectKey
	add := func(kind ObjectKind, id string) {
		if id != "" {
			out = append(out, ObjectKey{kind, id})
		}
	}
	d := &s.DNS
	for _, k := range d.Keys {
		add(ObjectSecret, string(k.Secret))
	}
	for _, secret := range d.Cookies.Secrets {
		add(ObjectSecret, string(secret))
	}
	for _, l := range []*DNSListener{d.TLS, d.QUIC, d.HTTPS} {
		if l != nil {
			add(ObjectCertificate, l.Certificate)
			add(ObjectCA, l.ClientCA)
		}
	}
	peers := func(z *ZoneSettings) {
		for _, list := range [][]Peer{z.Primaries, z.Notify} {
			for _, p := range list {
				if p.TLS != nil {
					add(ObjectCertificate, p.TLS.Certificate)
					add(ObjectCA, p.TLS.CA)
				}
			}
		}
	}
	for i := range s.Zones {
		peers(&s.Zones[i].ZoneSettings)
	}
	for i := range d.Templates {
		peers(&d.Templates[i].ZoneSettings)
	}
	add(ObjectLatency, d.LatencyMap)
	return out
}
