package server

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"meridian/dns/limit"
	"meridian/fleet"
)

// settings are what intent says of transports. They are immutable.
type settings struct {
	connections int64
	perClient   int
	queries     int
	idle        time.Duration
	path        string
	proxies     []netip.Prefix
	limiter     *limit.Limiter // nil: no limit
	tls         [HTTPS + 1]*tls.Config
	sources     [HTTPS + 1][2]fleet.Object // that tls was made from: certificate, authorities
	listen      []place
}

// place is where a transport listens; UDP stands for UDP and TCP.
type place struct {
	transport Transport
	addr      netip.AddrPort
	proxied   bool   // QUIC datagrams may have a PROXY header
	field     string // that names it
}

// compileSettings reads what a Spec says of transports. What old has made from
// the same input is taken over, so that sessions and debts go on; old may be
// nil. All errors are given at once, by field.
func compileSettings(cfg *Config, d *fleet.DNS, objects map[fleet.ObjectKey]fleet.Object, old *settings, now time.Time) (*settings, error) {
	s := &settings{
		connections: int64(cmp.Or(d.TCP.Connections, 1024)),
		perClient:   cmp.Or(d.TCP.PerClient, 128),
		queries:     cmp.Or(d.TCP.Queries, 100), // RFC 9113 section 5.1.2 and RFC 9114 section 6.1 want no less of HTTP
		idle:        cmp.Or(d.TCP.Idle.D(), 10*time.Second),
		proxies:     d.Proxies,
	}
	if old == nil {
		old = &settings{}
	}
	s.limiter = limiterFor(&d.RateLimit, old.limiter, now)
	var errs fleet.Errors
	s.plainPlaces(cfg, d, &errs)
	for _, l := range []struct {
		at        string
		transport Transport
		listener  *fleet.DNSListener
	}{{"dns.tls", TLS, d.TLS}, {"dns.quic", QUIC, d.QUIC}, {"dns.https", HTTPS, d.HTTPS}} {
		if l.listener != nil {
			s.encrypted(cfg, l.at, l.transport, l.listener, objects, old, &errs)
		}
	}
	return s, errs.Err()
}

func limiterFor(r *fleet.RateLimit, old *limit.Limiter, now time.Time) *limit.Limiter {
	if r.PerSecond == nil || *r.PerSecond == 0 {
		return nil
	}
	cfg := limit.Config{PerSecond: *r.PerSecond, Slip: 2, Exempt: r.Exempt}
	if r.Slip != nil {
		cfg.Slip = *r.Slip
	}
	if old != nil {
		if was := old.Config(); was.PerSecond == cfg.PerSecond && was.Slip == cfg.Slip && slices.Equal(was.Exempt, cfg.Exempt) {
			return old
		}
	}
	return limit.New(cfg, now)
}

func (s *settings) plainPlaces(cfg *Config, d *fleet.DNS, errs *fleet.Errors) {
	for _, a := range cfg.Listen {
		s.listen = append(s.listen, place{UDP, a, false, "listening"})
	}
	if len(cfg.Listen) == 0 {
		s.places("dns.listen", UDP, d.Listen, errs)
	}
}

func (s *settings) places(field string, t Transport, listen []string, errs *fleet.Errors) {
	for i, l := range listen {
		at := fmt.Sprintf("%s[%d]", field, i)
		a, err := fleet.ParseListen(l)
		if err != nil {
			errs.Addf(at, "%s", err)
			continue
		}
		p := place{t, a, (t == QUIC || t == HTTPS) && len(s.proxies) > 0, at}
		if !slices.ContainsFunc(s.listen, p.same) {
			s.listen = append(s.listen, p)
		}
	}
}

// String names the transports of the place.
func (p place) String() string {
	if p.transport == UDP {
		return "udp and tcp"
	}
	return p.transport.String()
}

func (p place) same(o place) bool {
	return p.transport == o.transport && p.addr == o.addr && p.proxied == o.proxied
}

func (s *settings) encrypted(cfg *Config, at string, t Transport, l *fleet.DNSListener, objects map[fleet.ObjectKey]fleet.Object, old *settings, errs *fleet.Errors) {
	if t == QUIC && cfg.QUIC == nil {
		errs.Addf(at, "this program does not speak QUIC")
		return
	}
	if t == HTTPS {
		s.path = cmp.Or(l.Path, "/dns-query")
	}
	s.places(at+".listen", t, l.Listen, errs)
	cert, ok := objects[fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: l.Certificate}]
	if !ok {
		errs.Addf(at+".certificate", "certificate %q is not among the objects", l.Certificate)
		return
	}
	var ca fleet.Object
	if l.ClientCA != "" {
		if ca, ok = objects[fleet.ObjectKey{Kind: fleet.ObjectCA, ID: l.ClientCA}]; !ok {
			errs.Addf(at+".client_ca", "its object is missing")
			return
		}
	}
	s.sources[t] = [2]fleet.Object{cert, ca}
	if old.tls[t] != nil && old.sources[t][0].Same(cert) && old.sources[t][1].Same(ca) {
		s.tls[t] = old.tls[t]
		return
	}
	s.tls[t] = tlsConfig(at, t, cert, ca, errs)
}

// tlsConfig makes the configuration of one transport (RFC 8310 section 9: TLS
// 1.2 at least; RFC 9250 section 4.1: QUIC has 1.3 by itself). dns/quic puts in
// its own protocols.
func tlsConfig(at string, t Transport, cert, ca fleet.Object, errs *fleet.Errors) *tls.Config {
	pair, err := tls.X509KeyPair(cert.Data, cert.Data)
	if err != nil {
		// The text may name what was found, never its content.
		errs.Addf(at+".certificate", "certificate %q: %s", cert.Key.ID, strings.TrimPrefix(err.Error(), "tls: "))
		return nil
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	switch t {
	case TLS:
		c.NextProtos = []string{"dot"} // RFC 7858 section 3.1 asks for none; RFC 9103 section 7.1 for this one
	case QUIC:
		c.NextProtos = []string{"doq"}
	case HTTPS:
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	if len(ca.Data) > 0 {
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(ca.Data) {
			errs.Addf(at+".client_ca", "no certificate in PEM is in it")
		}
	}
	return c
}

// proxied says whether a PROXY header is expected from an address.
func (s *settings) proxied(a netip.Addr) bool {
	for _, p := range s.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
