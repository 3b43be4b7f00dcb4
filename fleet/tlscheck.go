package fleet

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	second = time.Second
	hour   = time.Hour
)

func (c *checker) certificates() {
	ids, names := map[string]bool{}, map[string]string{}
	for i := range c.spec.Certificates {
		cert, at := &c.spec.Certificates[i], fmt.Sprintf("certificates[%d]", i)
		c.unique(ids, cert.ID, at+".id")
		if cert.ACME != nil {
			if cert.Cert != "" || cert.Key != "" {
				c.errs.Addf(at, "expected either cert and key, or acme")
			}
			c.acme(cert, at+".acme", names)
			continue
		}
		if !strings.HasPrefix(cert.Cert, "file:") {
			c.errs.Addf(at+".cert", "expected file:PATH, or acme in place of cert and key")
		}
		if cert.Key == "" {
			c.errs.Addf(at+".key", "expected file:PATH or env:NAME")
		}
	}
	c.shown()
	c.ech()
}

func (c *checker) acme(cert *Certificate, at string, names map[string]string) {
	a := cert.ACME
	if u, err := url.Parse(a.Directory); a.Directory != Internal && (err != nil || u.Scheme != "https" || u.Host == "") {
		c.errs.Addf(at+".directory", "%q: expected an https URL, or %s", a.Directory, Internal)
	}
	if a.Email != "" && strings.Count(a.Email, "@") != 1 {
		c.errs.Addf(at+".email", "%q is not an address", a.Email)
	}
	if b := a.EAB; b != nil && (b.KeyID == "" || b.Key == "") {
		c.errs.Addf(at+".eab", "expected key_id and key")
	}
	c.within(at+".lifetime", a.Lifetime, time.Minute, 2160*time.Hour)
	for i, n := range a.Names {
		path := fmt.Sprintf("%s.names[%d]", at, i)
		if !c.host(n, path) {
			continue
		}
		n = hostName(n)
		if was, ok := names[n]; ok {
			c.errs.Addf(path, "%q is already at %s", n, was)
		}
		names[n] = path
	}
	list := c.spec.ACMENames(cert)
	if len(list) == 0 && a.OnDemand == nil {
		c.errs.Addf(at+".names", "expected at least one, since no https service has a host that no other certificate names")
	}
	for _, n := range list {
		if a.Directory != Internal && (len(a.Names) > 0 || c.host(n, at+".names")) {
			c.challenge(a, n, at)
		}
	}
	c.onDemand(a, at+".on_demand")
}

// challenge refuses one that nobody of the fleet could answer.
func (c *checker) challenge(a *ACME, name, at string) {
	switch how := c.spec.ChallengeFor(a, name); {
	case strings.HasPrefix(name, "*.") && how != DNS01:
		c.errs.Addf(at+".challenge", "%q needs %s", name, DNS01)
	case how == DNS01 && a.Challenge == "" && c.spec.HostingZone(name) == nil:
		c.errs.Addf(at+".names", "%q needs %s, and no zone of the Spec that the fleet writes holds it; with challenge: %s, a CNAME at its _acme-challenge may lead to one", name, DNS01, DNS01)
	case how == HTTP01 && !c.spec.listens(HTTP, 80):
		c.errs.Addf(at+".challenge", "%s for %q needs an http service at port 80", HTTP01, name)
	case how == TLSALPN01 && !c.spec.listens(HTTPS, 443):
		c.errs.Addf(at+".challenge", "%s for %q needs an https service at port 443", TLSALPN01, name)
	}
}

func (c *checker) onDemand(a *ACME, at string) {
	o := a.OnDemand
	if o == nil {
		return
	}
	if len(o.Hosts)+len(o.Zones) == 0 {
		c.errs.Addf(at, "expected hosts or zones: names for which certificates may be issued")
	}
	for i, h := range o.Hosts {
		c.host(h, fmt.Sprintf("%s.hosts[%d]", at, i))
	}
	c.between(at+".per_hour", o.PerHour, 1, 100_000)
	c.within(at+".wait", o.Wait, 0, time.Minute)
}

// host refuses what is neither a host name nor *.DOMAIN.
func (c *checker) host(h, path string) bool {
	n, err := ParseName(strings.TrimPrefix(h, "*."))
	if err == nil && n != "." && strings.Contains(strings.TrimSuffix(string(n), "."), ".") && !strings.Contains(string(n), "*") {
		return true
	}
	c.errs.Addf(path, "%q: expected a host name of two labels or more, or *.DOMAIN", h)
	return false
}

// shown refuses certificates that do not exist, or cannot be shown there.
func (c *checker) shown() {
	exist, issued := map[string]bool{}, map[string]bool{}
	for _, cert := range c.spec.Certificates {
		exist[cert.ID], issued[cert.ID] = true, cert.ACME != nil
	}
	for i := range c.spec.Services {
		s, at := &c.spec.Services[i], fmt.Sprintf("services[%d]", i)
		if s.ClientAuth != nil && s.Protocol != HTTPS {
			c.errs.Addf(at+".client_auth", "is for an https service, and this is %s", s.Protocol)
		}
		if s.ClientAuth != nil && s.ClientAuth.CA == "" {
			c.errs.Addf(at+".client_auth.ca", "expected file:PATH or authorities in PEM")
		}
		for j, p := range s.Pools {
			path := fmt.Sprintf("%s.pools[%d].tls.certificate", at, j)
			switch {
			case p.TLS == nil || p.TLS.Certificate == "":
			case !exist[p.TLS.Certificate]:
				c.errs.Addf(path, "certificate %q does not exist", p.TLS.Certificate)
			case issued[p.TLS.Certificate]:
				c.errs.Addf(path, "certificate %q is issued by ACME, for servers; expected one with cert and key", p.TLS.Certificate)
			}
		}
	}
	for _, k := range c.spec.dnsObjects() {
		if k.Kind == ObjectCertificate && issued[k.ID] {
			c.errs.Addf("dns", "certificate %q is issued by ACME, for gateways; expected one with cert and key for nameservers", k.ID)
		}
	}
}

func (c *checker) ech() {
	e := c.spec.ECH
	if e == nil {
		return
	}
	if c.host(e.PublicName, "ech.public_name") && strings.HasPrefix(e.PublicName, "*.") {
		c.errs.Addf("ech.public_name", "%q: expected one name", e.PublicName)
	}
	c.within("ech.rotate", e.Rotate, time.Minute, 720*time.Hour)
	c.within("ech.keep", e.Keep, time.Minute, 720*time.Hour)
}
