package fleet

import (
	"slices"
	"strings"
)

// ACME is how the fleet has certificates issued.
type ACME struct {
	Directory string        `json:"directory,omitempty" doc:"URL of the authority's ACME directory (RFC 8555); or internal, an authority of the fleet's own, for trials: its root is the last certificate of each chain." default:"https://acme-v02.api.letsencrypt.org/directory"`
	Email     string        `json:"email,omitempty" doc:"Address of the account, for what the authority has to say." default:"none"`
	EAB       *EAB          `json:"eab,omitempty" doc:"External account binding, for authorities that ask for one." default:"none"`
	CA        string        `json:"ca,omitempty" doc:"Certificate authorities to trust for the directory itself: file:PATH or PEM text." default:"the system's"`
	Names     []string      `json:"names,omitempty" doc:"Host names, each of which gets a certificate of its own: exact, or *.DOMAIN." default:"the hosts of https services that no other certificate names here"`
	Challenge ACMEChallenge `json:"challenge,omitempty" doc:"How the authority sees that the names are the fleet's: dns-01 (a TXT record in a zone of the fleet), http-01 (asked at port 80) or tls-alpn-01 (asked at port 443)." default:"dns-01 where a zone of the Spec holds the name, else http-01 where an http service has port 80, else tls-alpn-01"`
	KeyType   ACMEKeyType   `json:"key_type,omitempty" doc:"ecdsa (P-256) or rsa (2048 bits)." default:"ecdsa"`
	Profile   string        `json:"profile,omitempty" doc:"Name of the authority's certificate profile, such as shortlived." default:"the authority's"`
	Lifetime  Duration      `json:"lifetime,omitempty" doc:"With directory internal: how long certificates are valid (1m to 2160h). They are renewed after two thirds." default:"24h0m0s"`
	OnDemand  *OnDemand     `json:"on_demand,omitempty" doc:"Also have certificates issued for names that clients ask for." default:"off"`
}

// EAB binds the fleet's account at an authority to one that the operator has
// there (RFC 8555 section 7.3.4).
type EAB struct {
	KeyID string `json:"key_id" doc:"Id of the key, as the authority gave it."`
	Key   Secret `json:"key" doc:"The key, in base64url as the authority gave it: file:PATH (relative to the Spec) or env:NAME."`
}

// Internal is the directory that stands for the fleet's own authority.
const Internal = "internal"

// OnDemand is which names get a certificate when a client asks for them.
type OnDemand struct {
	Hosts   []string `json:"hosts,omitempty" doc:"Names that may: exact, or *.DOMAIN for one label more."`
	Zones   []Name   `json:"zones,omitempty" doc:"Zones all of whose names may."`
	PerHour int      `json:"per_hour,omitempty" doc:"So many new names an hour, for the whole fleet (1 to 100000)." default:"20"`
	Wait    Duration `json:"wait,omitempty" doc:"A handshake waits so long for its certificate, and then fails (up to 1m)." default:"5s"`
}

// ACMEChallenge is how an authority sees that a name is the fleet's.
type ACMEChallenge string

// The challenges: RFC 8555 sections 8.4 and 8.3, RFC 8737.
const (
	DNS01     ACMEChallenge = "dns-01"
	HTTP01    ACMEChallenge = "http-01"
	TLSALPN01 ACMEChallenge = "tls-alpn-01"
)

// Values lists the challenges.
func (ACMEChallenge) Values() []string { return []string{"dns-01", "http-01", "tls-alpn-01"} }

// ACMEKeyType is the kind of key of an issued certificate.
type ACMEKeyType string

// The kinds of key.
const (
	KeyECDSA ACMEKeyType = "ecdsa"
	KeyRSA   ACMEKeyType = "rsa"
)

// Values lists the kinds of key.
func (ACMEKeyType) Values() []string { return []string{"ecdsa", "rsa"} }

// ClientAuth is which certificates the clients of a service show.
type ClientAuth struct {
	CA   string         `json:"ca" doc:"Certificate authorities whose certificates are taken: file:PATH or PEM text."`
	Mode ClientAuthMode `json:"mode,omitempty" doc:"required: a handshake without a valid certificate fails; optional: one that is shown must be valid." default:"required"`
}

// ClientAuthMode says whether clients must show a certificate.
type ClientAuthMode string

// The modes.
const (
	AuthRequired ClientAuthMode = "required"
	AuthOptional ClientAuthMode = "optional"
)

// Values lists the modes.
func (ClientAuthMode) Values() []string { return []string{"required", "optional"} }

// ECH is how the fleet hides server names (Encrypted Client Hello, RFC 9849).
type ECH struct {
	PublicName string   `json:"public_name" doc:"Name that others see in place of the real one. One of the certificates must be valid for it, for clients whose key is out of date."`
	Rotate     Duration `json:"rotate,omitempty" doc:"A new key comes so often (1m to 720h)." default:"1h0m0s"`
	Keep       Duration `json:"keep,omitempty" doc:"Keys serve for so long after the records with them have run out by TTL (1m to 720h)." default:"1h0m0s"`
}

func (s *Spec) fillTLSDefaults() {
	for i := range s.Certificates {
		a := s.Certificates[i].ACME
		if a == nil {
			continue
		}
		def(&a.Directory, "https://acme-v02.api.letsencrypt.org/directory")
		def(&a.KeyType, KeyECDSA)
		def(&a.Lifetime, Duration(24*hour))
		if a.OnDemand != nil {
			def(&a.OnDemand.PerHour, 20)
			def(&a.OnDemand.Wait, Duration(5*second))
		}
	}
	for i := range s.Services {
		if c := s.Services[i].ClientAuth; c != nil {
			def(&c.Mode, AuthRequired)
		}
	}
	if s.ECH != nil {
		def(&s.ECH.Rotate, Duration(hour))
		def(&s.ECH.Keep, Duration(hour))
	}
}

// hostName gives a host or pattern in lower case, without a final dot.
func hostName(h string) string { return strings.ToLower(strings.TrimSuffix(h, ".")) }

// ACMENames lists the names that an issued certificate is to have, in lower
// case, without a final dot.
func (s *Spec) ACMENames(c *Certificate) []string {
	var out []string
	if len(c.ACME.Names) > 0 {
		for _, n := range c.ACME.Names {
			out = append(out, hostName(n))
		}
		return out
	}
	taken := map[string]bool{}
	for i := range s.Certificates {
		o := &s.Certificates[i]
		if o.ACME == nil {
			continue
		}
		for _, n := range o.ACME.Names {
			taken[hostName(n)] = true
		}
		if o.ID != c.ID && len(o.ACME.Names) == 0 && i < slices.IndexFunc(s.Certificates, func(x Certificate) bool { return x.ID == c.ID }) {
			return nil // the first without names has them
		}
	}
	for i := range s.Services {
		if s.Services[i].Protocol != HTTPS {
			continue
		}
		for _, h := range s.Services[i].Hosts {
			if h = hostName(h); !taken[h] {
				taken[h] = true
				out = append(out, h)
			}
		}
	}
	return out
}

// HostingZone gives the deepest zone of the Spec that the fleet writes and that
// a host or *.DOMAIN lies in, or nil.
func (s *Spec) HostingZone(host string) *Zone {
	name, err := ParseName(strings.TrimPrefix(host, "*."))
	if err != nil {
		return nil
	}
	var best *Zone
	for i := range s.Zones {
		z := &s.Zones[i]
		if len(s.Settings(z).Primaries) == 0 && name.In(z.Zone) && (best == nil || len(z.Zone) > len(best.Zone)) {
			best = z
		}
	}
	return best
}

// listens says whether a service of that protocol has the port.
func (s *Spec) listens(p Protocol, port uint16) bool {
	return slices.ContainsFunc(s.Services, func(svc Service) bool { return svc.Protocol == p && slices.Contains(svc.Ports, port) })
}

// ChallengeFor gives the challenge for a name of a certificate.
func (s *Spec) ChallengeFor(a *ACME, host string) ACMEChallenge {
	switch {
	case a.Challenge != "":
		return a.Challenge
	case s.HostingZone(host) != nil || strings.HasPrefix(host, "*."):
		return DNS01
	case s.listens(HTTP, 80):
		return HTTP01
	}
	return TLSALPN01
}

// Allows says whether a certificate may be issued for a host that a client asks
// for, which is in lower case, without a final dot. What a client sends may be
// anything: what is no host name is refused.
func (o *OnDemand) Allows(host string) bool {
	name, err := ParseName(host)
	if err != nil || strings.ContainsFunc(host, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	}) {
		return false
	}
	_, parent, _ := strings.Cut(host, ".")
	for _, h := range o.Hosts {
		if h = hostName(h); h == host || parent != "" && h == "*."+parent {
			return true
		}
	}
	return slices.ContainsFunc(o.Zones, name.In)
}
