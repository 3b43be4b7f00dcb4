package route

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"meridian/fleet"
)

// Certificates finds the certificate for a server name. It is immutable.
type Certificates struct {
	exact    map[string][]*tls.Certificate
	wildcard map[string][]*tls.Certificate // key is the domain without "*."
	list     []Certificate
}

// Certificate is one of the fleet's, ready for use.
type Certificate struct {
	ID  string
	TLS *tls.Certificate // Leaf is set
}

// CompileCertificates reads every certificate that the Snapshot names and
// requires that each https service's hosts are covered by one of them. All
// problems are reported at once, as fleet.FieldErrors.
func CompileCertificates(w *fleet.World) (*Certificates, error) {
	c := &Certificates{exact: map[string][]*tls.Certificate{}, wildcard: map[string][]*tls.Certificate{}}
	var errs fleet.Errors
	spec := w.Snapshot.Spec
	for i, cert := range spec.Certificates {
		at := fmt.Sprintf("certificates[%d]", i)
		obj, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: cert.ID}]
		if !ok {
			errs.Addf(at, "certificate %q is not among the objects", cert.ID)
			continue
		}
		pair, err := tls.X509KeyPair(obj.Data, obj.Data)
		if err != nil {
			// The text may name what was found in the file, never its content.
			errs.Addf(at, "certificate %q%s: %s", cert.ID, from(obj.File), strings.TrimPrefix(err.Error(), "tls: "))
			continue
		}
		c.add(cert.ID, &pair)
	}
	for i := range spec.Services {
		s := &spec.Services[i]
		if s.Protocol != fleet.HTTPS || errs.Len() > 0 {
			continue
		}
		for j, h := range s.Hosts {
			if !c.cover(fold(h)) {
				errs.Addf(fmt.Sprintf("services[%d].hosts[%d]", i, j), "no certificate is valid for %q", h)
			}
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return c, nil
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
