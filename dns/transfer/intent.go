package transfer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	"meridian/dns/tsig"
	"meridian/fleet"
)

// intent is what a World wants of transfers, read. It is immutable.
type intent struct {
	world   *fleet.World
	keys    tsig.Keys
	zones   map[fleet.Name]*policy // zones of the Spec
	unnamed *policy                // of zones that the admin API has made
	read    *policyReader          // for members of catalogs
}

// policy is one zone's settings, read.
type policy struct {
	fleet.ZoneSettings
	dynamic   bool
	access    []fleet.Access // who may transfer it
	from      []fleet.Access // where updates may come from; none: anywhere
	primaries []peer
	notify    []peer
}

// peer is another nameserver with what it takes to talk to it.
type peer struct {
	fleet.Peer
	key *tsig.Key   // nil: unsigned
	tls *tls.Config // nil: plain
}

// takesUpdates says whether updates may come from a client with that key.
func (p *policy) takesUpdates(client netip.Addr, key fleet.Name) bool {
	return len(p.from) == 0 || fleet.Allowed(p.from, client, key)
}

// readIntent reads a World; all errors are given at once. What does not
// differ from the last World is taken over.
func readIntent(w *fleet.World, last *intent) (*intent, error) {
	if last != nil && last.world.Snapshot == w.Snapshot && sameObjects(w, last.world) {
		out := *last
		out.world = w
		return &out, nil
	}
	keys, err := tsig.Load(w)
	if err != nil {
		return nil, err
	}
	spec := w.Snapshot.Spec
	r := &policyReader{world: w, keys: keys, pools: map[string]*x509.CertPool{}, certs: map[string]*tls.Certificate{}}
	in := &intent{world: w, keys: keys, zones: make(map[fleet.Name]*policy, len(spec.Zones)), read: r}
	for i := range spec.Zones {
		z := &spec.Zones[i]
		p, err := r.read(spec.Settings(z))
		if err != nil {
			r.errs = append(r.errs, fmt.Errorf("zone %s: %w", z.Zone, err))
			continue
		}
		p.dynamic = z.Dynamic
		in.zones[z.Zone] = p
	}
	for i := range spec.DNS.Templates {
		t := &spec.DNS.Templates[i]
		if _, err := r.read(t.ZoneSettings); err != nil {
			r.errs = append(r.errs, fmt.Errorf("template %s: %w", t.Template, err))
		}
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	in.unnamed, err = r.read(spec.Settings(spec.Unnamed("")))
	if err != nil {
		return nil, err
	}
	in.unnamed.dynamic = true
	return in, nil
}

// sameObjects says whether two Worlds hold the same objects that transfers
// need.
func sameObjects(a, b *fleet.World) bool {
	for key := range a.Snapshot.DNSObjects() {
		x, had := a.Objects[key]
		y, has := b.Objects[key]
		if had != has || !x.Same(y) {
			return false
		}
	}
	return true
}

type policyReader struct {
	world *fleet.World
	keys  tsig.Keys
	pools map[string]*x509.CertPool
	certs map[string]*tls.Certificate
	errs  []error
}

// member gives the settings of a member of a catalog: those of a template, or
// where the catalog names none its own primaries, transfer and notify.
func (r *policyReader) member(catalog *policy, template string) (*policy, error) {
	if template == "" {
		return &policy{ZoneSettings: fleet.ZoneSettings{ZONEMD: catalog.ZONEMD, Serial: fleet.SerialKeep},
			access: catalog.access, primaries: catalog.primaries, notify: catalog.notify}, nil
	}
	return r.read(r.world.Snapshot.Spec.Settings(&fleet.Zone{Template: template}))
}

func (r *policyReader) read(s fleet.ZoneSettings) (*policy, error) {
	p := &policy{ZoneSettings: s}
	var err error
	if p.access, err = accessList(s.Transfer); err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	if p.from, err = accessList(s.UpdateFrom); err != nil {
		return nil, fmt.Errorf("update_from: %w", err)
	}
	if p.primaries, err = r.peers(s.Primaries); err != nil {
		return nil, fmt.Errorf("primaries: %w", err)
	}
	if p.notify, err = r.peers(s.Notify); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	return p, nil
}

func accessList(list []string) (out []fleet.Access, err error) {
	for _, text := range list {
		a, err := fleet.ParseAccess(text)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func (r *policyReader) peers(list []fleet.Peer) ([]peer, error) {
	var out []peer
	for _, p := range list {
		q := peer{Peer: p}
		q.Address = netip.AddrPortFrom(p.Address.Addr().Unmap(), p.Address.Port())
		if p.Key != "" {
			if q.key = r.keys[p.Key]; q.key == nil {
				return nil, fmt.Errorf("%s: key %s is not among dns.keys", p.Address, p.Key)
			}
		}
		if p.TLS != nil {
			var err error
			if q.tls, err = r.tls(p.TLS); err != nil {
				return nil, fmt.Errorf("%s: %w", p.Address, err)
			}
		}
		out = append(out, q)
	}
	return out, nil
}

// tls gives the client's side of a transfer over TLS: TLS 1.3 and the ALPN
// token dot (RFC 9103 sections 7.1 and 8.1).
func (r *policyReader) tls(p *fleet.PeerTLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"dot"}, ServerName: p.ServerName, InsecureSkipVerify: p.Insecure}
	if p.CA != "" {
		if c.RootCAs = r.pools[p.CA]; c.RootCAs == nil {
			o, ok := r.world.Objects[fleet.ObjectKey{Kind: fleet.ObjectCA, ID: p.CA}]
			if !ok {
				return nil, errors.New("tls: its authorities are missing")
			}
			c.RootCAs = x509.NewCertPool()
			if !c.RootCAs.AppendCertsFromPEM(o.Data) {
				return nil, errors.New("tls: its authorities hold no certificate")
			}
			r.pools[p.CA] = c.RootCAs
		}
	}
	if p.Certificate != "" {
		cert := r.certs[p.Certificate]
		if cert == nil {
			o, ok := r.world.Objects[fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: p.Certificate}]
			if !ok {
				return nil, fmt.Errorf("tls: certificate %s is missing", p.Certificate)
			}
			pair, err := tls.X509KeyPair(o.Data, o.Data)
			if err != nil {
				return nil, fmt.Errorf("tls: certificate %s: %w", p.Certificate, err)
			}
			cert = &pair
			r.certs[p.Certificate] = cert
		}
		c.Certificates = []tls.Certificate{*cert}
	}
	return c, nil
}
