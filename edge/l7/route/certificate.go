package route

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"meridian/fleet"
)

// Certificates finds the certificate for a server name. It is immutable.
type Certificates struct {
	exact    map[string][]*tls.Certificate
	wildcard map[string][]*tls.Certificate // key is the domain without "*."
	list     []Certificate
	pending  map[string]bool   // host patterns for which certificates are or will be issued
	issued   map[string]issued // by certificate and name
}

// Certificate is one of the fleet's, ready for use.
type Certificate struct {
	ID  string           // the Spec's; of an issued one followed by / and its name
	TLS *tls.Certificate // Leaf is set
}

// CompileCertificates reads every certificate that the Snapshot names, and
// those that were issued for it, and requires that each https service's hosts,
// and the public name of ECH, are covered by one of them, or will be by one
// that is to be issued. All problems are reported at once, as
// fleet.FieldErrors.
func CompileCertificates(w *fleet.World) (*Certificates, error) { return Recompile(w, nil) }

// Recompile is CompileCertificates that takes over from old, which may be nil,
// what has not changed.
func Recompile(w *fleet.World, old *Certificates) (*Certificates, error) {
	c := &Certificates{exact: map[string][]*tls.Certificate{}, wildcard: map[string][]*tls.Certificate{},
		pending: map[string]bool{}, issued: map[string]issued{}}
	var errs fleet.Errors
	spec := w.Snapshot.Spec
	live := issuedOf(w)
	for i := range spec.Certificates {
		cert, at := &spec.Certificates[i], fmt.Sprintf("certificates[%d]", i)
		if cert.ACME != nil {
			for _, n := range spec.ACMENames(cert) {
				c.pending[fold(n)] = true
			}
			for _, o := range live[cert.ID] {
				c.addIssued(o, old, at, &errs)
			}
			continue
		}
		obj, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: cert.ID}]
		if !ok {
			errs.Addf(at, "certificate %q is not among the objects", cert.ID)
			continue
		}
		pair, err := readPair(obj.Data)
		if err != nil {
			// The text may name what was found in the file, never its content.
			errs.Addf(at, "certificate %q%s: %s", cert.ID, from(obj.File), strings.TrimPrefix(err.Error(), "tls: "))
			continue
		}
		c.add(cert.ID, pair)
	}
	c.covers(spec, &errs)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// covers notes hosts for which there is and will be no certificate.
func (c *Certificates) covers(spec *fleet.Spec, errs *fleet.Errors) {
	if errs.Len() > 0 {
		return
	}
	for i := range spec.Services {
		s := &spec.Services[i]
		if s.Protocol != fleet.HTTPS {
			continue
		}
		for j, h := range s.Hosts {
			if !c.cover(fold(h)) && !demanded(spec, fold(h)) {
				errs.Addf(fmt.Sprintf("services[%d].hosts[%d]", i, j), "no certificate is valid for %q", h)
			}
		}
	}
	if e := spec.ECH; e != nil && !c.cover(fold(e.PublicName)) {
		errs.Addf("ech.public_name", "no certificate is valid for %q", e.PublicName)
	}
}

// demanded says whether a certificate for the host pattern, or names that fit
// it, comes when a client asks for it.
func demanded(spec *fleet.Spec, pattern string) bool {
	for i := range spec.Certificates {
		a := spec.Certificates[i].ACME
		if a == nil || a.OnDemand == nil {
			continue
		}
		if a.OnDemand.Allows(strings.Replace(pattern, "*", "any", 1)) {
			return true
		}
	}
	return false
}

// issuedOf gives the issued certificates by that of the Spec which they are of,
// in order of name.
func issuedOf(w *fleet.World) map[string][]fleet.Object {
	out := map[string][]fleet.Object{}
	for rest, o := range w.LiveOf(fleet.LiveCertificate) {
		id, _, _ := strings.Cut(rest, "/")
		out[id] = append(out[id], o)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b fleet.Object) int { return strings.Compare(a.Key.ID, b.Key.ID) })
	}
	return out
}

// issued is a certificate that was issued, as it was read last.
type issued struct {
	version string
	pair    *tls.Certificate
}

func (c *Certificates) addIssued(o fleet.Object, old *Certificates, at string, errs *fleet.Errors) {
	_, id := fleet.ParseLiveID(o.Key.ID)
	is := issued{version: o.Version}
	if old != nil && old.issued[id].version == o.Version && o.Version != "" {
		is = old.issued[id]
	} else {
		var err error
		if is.pair, err = readPair(o.Data); err != nil {
			errs.Addf(at, "issued certificate %q: %s", id, strings.TrimPrefix(err.Error(), "tls: "))
			return
		}
	}
	c.issued[id] = is
	c.add(id, is.pair)
}

// readPair reads a chain and its key, and an OCSP response where one follows.
func readPair(data []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, err
	}
	for b, rest := pem.Decode(data); b != nil; b, rest = pem.Decode(rest) {
		if b.Type == "OCSP RESPONSE" {
			pair.OCSPStaple = b.Bytes
		}
	}
	return &pair, nil
}

func from(file string) string {
	if file == "" {
		return ""
	}
	return " from " + file
}

func (c *Certificates) add(id string, pair *tls.Certificate) {
	c.list = append(c.list, Certificate{id, pair})
	for _, name := range names(pair.Leaf) {
		name = fold(name)
		if domain, ok := strings.CutPrefix(name, "*."); ok {
			c.wildcard[domain] = append(c.wildcard[domain], pair)
		} else {
			c.exact[name] = append(c.exact[name], pair)
		}
	}
}

// names lists a certificate's DNS names and addresses (RFC 6125 section 6.4.4
// leaves the common name for none of them, and clients ignore it).
func names(leaf *x509.Certificate) []string {
	out := append([]string{}, leaf.DNSNames...)
	for _, a := range leaf.IPAddresses {
		out = append(out, a.String())
	}
	return out
}

// cover says whether a certificate holds for the host pattern; *.DOMAIN needs
// one for *.DOMAIN.
func (c *Certificates) cover(pattern string) bool {
	if _, parent, ok := strings.Cut(pattern, "."); c.pending[pattern] || ok && c.pending["*."+parent] {
		return true
	}
	if domain, ok := strings.CutPrefix(pattern, "*."); ok {
		return len(c.wildcard[domain]) > 0
	}
	return len(c.named(pattern)) > 0
}

// named lists the certificates for one name: those that hold it, else those
// with a wildcard in place of its first label (RFC 6125 section 6.4.3).
func (c *Certificates) named(name string) []*tls.Certificate {
	if list := c.exact[name]; len(list) > 0 {
		return list
	}
	_, domain, _ := strings.Cut(name, ".")
	return c.wildcard[domain]
}

// Find gives the certificates for a server name in lower case, without a final
// dot, in the Spec's order. It does not allocate.
func (c *Certificates) Find(name string) []*tls.Certificate { return c.named(name) }

// Default gives the Spec's first certificate, or nil.
func (c *Certificates) Default() *tls.Certificate {
	if len(c.list) == 0 {
		return nil
	}
	return c.list[0].TLS
}

// All lists the certificates in the Spec's order.
func (c *Certificates) All() []Certificate { return c.list }
