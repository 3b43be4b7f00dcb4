package fleet

import "net/netip"

// Zone is one DNS zone that the fleet is authoritative for. Its content comes
// from exactly one writer: a file or records of the Spec, its primaries, or
// (dynamic) the admin API and dynamic updates.
type Zone struct {
	Zone     Name      `json:"zone" doc:"Name of the zone's apex."`
	File     string    `json:"file,omitempty" doc:"Master file (RFC 1035), relative to the Spec."`
	Records  string    `json:"records,omitempty" doc:"The zone in master-file format, in place of a file."`
	Dynamic  bool      `json:"dynamic,omitempty" doc:"The admin API and dynamic updates (RFC 2136) write the zone; file or records, if given, are its first content alone."`
	Template string    `json:"template,omitempty" doc:"Settings that are not given here are those of this template." default:"none"`
	Steered  []Steered `json:"steered,omitempty" doc:"Names whose addresses are steered."`
	Aliases  []Alias   `json:"aliases,omitempty" doc:"Names that have the addresses of a name outside of the fleet (ALIAS), the apex too. A service of the fleet goes under steered."`
	ZoneSettings
}

// ZoneSettings are what a zone and a template of zones have alike.
type ZoneSettings struct {
	Primaries  []Peer       `json:"primaries,omitempty" doc:"The zone is transferred from these servers, in this order of preference, in place of a file or records."`
	Transfer   []string     `json:"transfer,omitempty" doc:"Who may transfer the zone: prefixes, key:NAME, or PREFIX+key:NAME where both are asked for; with ! before it who may not. The first that fits decides." default:"nobody"`
	Notify     []Peer       `json:"notify,omitempty" doc:"Secondaries that are told of changes (RFC 1996)."`
	Updates    []UpdateRule `json:"updates,omitempty" doc:"Who may change the zone by dynamic update (RFC 2136)." default:"nobody"`
	UpdateFrom []string     `json:"update_from,omitempty" doc:"Where updates may come from, as transfer has it." default:"anywhere"`
	DNSSEC     string       `json:"dnssec,omitempty" doc:"Sign the zone by this DNSSEC policy." default:"unsigned, or as the file is"`
	Serial     SerialPolicy `json:"serial,omitempty" doc:"How the served SOA serial is made: keep (the content's own), increment, unixtime, date (YYYYMMDDnn)." default:"unixtime where the zone is signed, dynamic, has aliases, or has steered names and transfer or notify; else keep"`
	ZONEMD     ZONEMDMode   `json:"zonemd,omitempty" doc:"off, verify (refuse a transferred or loaded zone whose digest is wrong), generate (RFC 8976)." default:"verify"`
	Catalog    *Catalog     `json:"catalog,omitempty" doc:"The zone is a catalog (RFC 9432): its members are served too." default:"no catalog"`
	MemberOf   Name         `json:"member_of,omitempty" doc:"List the zone in this catalog zone, which the fleet makes." default:"none"`
	Group      string       `json:"group,omitempty" doc:"Group property of the zone in member_of." default:"none"`
}

// Peer is another nameserver, from which zones come or which is told of them.
type Peer struct {
	Address netip.AddrPort `json:"address" doc:"ADDRESS:PORT of the server."`
	Key     Name           `json:"key,omitempty" doc:"Name of the TSIG key to sign with." default:"none"`
	TLS     *PeerTLS       `json:"tls,omitempty" doc:"Transfer over TLS (RFC 9103)." default:"plain TCP"`
	Source  netip.Addr     `json:"source,omitzero" doc:"Own address to send from." default:"the system's choice"`
}

// PeerTLS is how to verify a nameserver over TLS.
type PeerTLS struct {
	ServerName  string `json:"server_name,omitempty" doc:"Name to verify; strict privacy (RFC 9103 section 9.3.2)."`
	CA          string `json:"ca,omitempty" doc:"Certificate authorities to trust: file:PATH or PEM text." default:"the system's"`
	Certificate string `json:"certificate,omitempty" doc:"Id of the certificate to show (mutual TLS)." default:"none"`
	Insecure    bool   `json:"insecure,omitempty" doc:"Accept any certificate (opportunistic)."`
}

// UpdateRule lets one TSIG key change some names and types of a zone.
type UpdateRule struct {
	Key   Name     `json:"key" doc:"Name of the TSIG key that the update is signed with."`
	Names []string `json:"names,omitempty" doc:"Names that it may change, relative to the zone: exact, or *.NAME for all below; @ is the apex." default:"all"`
	Types []string `json:"types,omitempty" doc:"Types that it may change, as A or TXT." default:"all but NSEC, NSEC3, RRSIG, DNSKEY, CDS, CDNSKEY and NSEC3PARAM"`
}

// Catalog says what becomes of a catalog's members (consumer).
type Catalog struct {
	Template string            `json:"template,omitempty" doc:"Template of its members; it names their primaries." default:"the catalog's own primaries, transfer and notify"`
	Groups   map[string]string `json:"groups,omitempty" doc:"Group property to template."`
}

// ZoneTemplate is a named set of settings.
type ZoneTemplate struct {
	Template string `json:"template" doc:"Unique name of the template."`
	ZoneSettings
}

// Steered is a name that answers with the VIPs of a service's chosen regions.
type Steered struct {
	Name    string        `json:"name" doc:"Name, relative to the zone; @ for the apex. The zone must hold no A, AAAA or CNAME there."`
	Service string        `json:"service" doc:"The service that it steers to."`
	TTL     Duration      `json:"ttl,omitempty" doc:"TTL of its answers, within dns.ttl." default:"dns.ttl.steered"`
	HTTPS   *SteeredHTTPS `json:"https,omitempty" doc:"Also answer type HTTPS (RFC 9460), with the addresses of the same decision as hints; the zone must then hold none there." default:"no HTTPS record"`
	Export  []netip.Addr  `json:"export,omitempty" doc:"Addresses that zone transfers show for the name." default:"the answer to a client of whom nothing is known, all regions healthy"`
}

// SteeredHTTPS is the HTTPS record of a steered name.
type SteeredHTTPS struct {
	ALPN   []string `json:"alpn,omitempty" doc:"Protocols, best first." default:"[h2]"`
	Port   uint16   `json:"port,omitempty" doc:"Port of the service." default:"443"`
	Second bool     `json:"second,omitempty" doc:"Add a second record, of lower priority, with the next-best region's addresses."`
}

// Alias is a name with the addresses of another name, looked up by the fleet.
type Alias struct {
	Name   string   `json:"name" doc:"Name, relative to the zone; @ for the apex. The zone must hold no A, AAAA or CNAME there."`
	Target Name     `json:"target" doc:"The name whose A and AAAA records it has. Its last good addresses are kept."`
	TTL    Duration `json:"ttl,omitempty" doc:"TTL of its answers (1s to 1h)." default:"60s"`
}

// DNS is how the nameservers listen and answer.
type DNS struct {
	Listen     []string         `json:"listen,omitempty" doc:"ADDRESS:PORT for UDP and TCP; several allowed. --listen overrides." default:"[\":53\"]"`
	TLS        *DNSListener     `json:"tls,omitempty" doc:"DNS over TLS (RFC 7858), transfers over TLS among it." default:"off"`
	QUIC       *DNSListener     `json:"quic,omitempty" doc:"DNS over QUIC (RFC 9250)." default:"off"`
	HTTPS      *DNSListener     `json:"https,omitempty" doc:"DNS over HTTPS (RFC 8484), by HTTP/2 and HTTP/3." default:"off"`
	Proxies    []netip.Prefix   `json:"proxies,omitempty" doc:"Networks from which PROXY protocol v2 is expected before a stream or in a datagram; all others may not send it." default:"none"`
	TTL        TTL              `json:"ttl" doc:"Bounds on TTLs."`
	ECS        *bool            `json:"ecs,omitempty" doc:"Use EDNS Client Subnet (RFC 7871)." default:"true"`
	NSID       string           `json:"nsid,omitempty" doc:"Name server identifier (RFC 5001); id.server and hostname.bind (class CH) tell it too." default:"NODE@REGION"`
	Version    string           `json:"version,omitempty" doc:"What version.bind says (class CH)." default:"refused"`
	Any        AnyMode          `json:"any,omitempty" doc:"Answer to type ANY over UDP (RFC 8482): one RRset, hinfo, or truncated to move it to TCP." default:"one"`
	Whoami     Name             `json:"whoami,omitempty" doc:"Name whose TXT record tells the resolver's address, its Client Subnet, class, scope and the epoch of the answer. It is not signed, so that it may not lie in a zone that is." default:"none"`
	ErrorsTo   Name             `json:"errors_to,omitempty" doc:"Agent domain of the error-reporting channel (RFC 9567); zones that it lies in do not name it." default:"none"`
	Cookies    Cookies          `json:"cookies" doc:"DNS cookies (RFC 7873, RFC 9018)."`
	RateLimit  RateLimit        `json:"rate_limit" doc:"Response rate limiting over UDP, by prefix."`
	TCP        DNSTCP           `json:"tcp" doc:"Limits on streams."`
	Keys       []TSIGKey        `json:"keys,omitempty" doc:"TSIG keys (RFC 8945)."`
	DNSSEC     []DNSSECPolicy   `json:"dnssec,omitempty" doc:"DNSSEC policies; one named default exists in any case."`
	Templates  []ZoneTemplate   `json:"templates,omitempty" doc:"Settings that several zones share."`
	Zones      string           `json:"zones,omitempty" doc:"Template of zones that are made by the admin API and not named in the Spec." default:"none: such zones have no settings"`
	Resolvers  []netip.AddrPort `json:"resolvers,omitempty" doc:"Resolvers to ask for aliases' targets and for DS records at parents." default:"those of the system"`
	Tap        *Tap             `json:"tap,omitempty" doc:"Log queries in dnstap format." default:"off"`
	LatencyMap string           `json:"latency_map,omitempty" doc:"CSV file, relative to the Spec, of network (prefix, AS number or country), region and milliseconds, for policy latency." default:"estimated from probes"`
}

// DNSListener is where an encrypted transport listens.
type DNSListener struct {
	Listen      []string `json:"listen,omitempty" doc:"ADDRESS:PORT; several allowed." default:"[\":853\"], for https [\":443\"]"`
	Certificate string   `json:"certificate" doc:"Id of the certificate to show."`
	ClientCA    string   `json:"client_ca,omitempty" doc:"Authorities whose certificates clients must show: file:PATH or PEM text (mutual TLS)." default:"clients need none"`
	Path        string   `json:"path,omitempty" doc:"For https: path of the service." default:"/dns-query"`
}

// Cookies are DNS cookies.
type Cookies struct {
	Off     bool     `json:"off,omitempty" doc:"Neither give nor check cookies."`
	Require bool     `json:"require,omitempty" doc:"Over UDP answer BADCOOKIE to clients that know cookies and show no valid one; without it they are answered as those that know none."`
	Secrets []Secret `json:"secrets,omitempty" doc:"Server secrets of 32 hexadecimal digits as file:PATH or env:NAME, the newest first; to share them with other products." default:"derived from the fleet key, changing daily"`
}

// RateLimit is response rate limiting on prefixes of four sizes.
type RateLimit struct {
	PerSecond *int           `json:"per_second,omitempty" doc:"Responses a second to one address (/32, /128); wider prefixes have multiples. 0 for no limit." default:"0"`
	Slip      *int           `json:"slip,omitempty" doc:"Every n-th response over the limit is sent truncated, so that real clients come by TCP; 0 for none." default:"2"`
	Exempt    []netip.Prefix `json:"exempt,omitempty" doc:"Networks without limit."`
}

// DNSTCP are limits on streams: TCP, TLS, HTTPS and QUIC.
type DNSTCP struct {
	Connections int      `json:"connections,omitempty" doc:"Open at a time (1 to 1000000)." default:"1024"`
	PerClient   int      `json:"per_client,omitempty" doc:"Open at a time from one IPv4 address or IPv6 /64 (1 to 1000000)." default:"128"`
	Idle        Duration `json:"idle,omitempty" doc:"Time without a query after which one is closed (1s to 10m)." default:"10s"`
	Queries     int      `json:"queries,omitempty" doc:"Queries of one connection that are worked on at a time (1 to 1000)." default:"100"`
}

// TSIGKey is one secret shared with another nameserver.
type TSIGKey struct {
	Name      Name          `json:"name" doc:"Name of the key, as the other side calls it."`
	Algorithm TSIGAlgorithm `json:"algorithm,omitempty" doc:"hmac-sha256, hmac-sha384, hmac-sha512, hmac-sha224 or hmac-sha1." default:"hmac-sha256"`
	Secret    Secret        `json:"secret" doc:"The key in base64: file:PATH (relative to the Spec) or env:NAME."`
}

// DNSSECPolicy is how zones are signed.
type DNSSECPolicy struct {
	Policy      string          `json:"policy" doc:"Unique name of the policy."`
	Algorithm   DNSSECAlgorithm `json:"algorithm,omitempty" doc:"ecdsap256sha256 or ed25519." default:"ecdsap256sha256"`
	Denial      Denial          `json:"denial,omitempty" doc:"nsec, nsec3 (no salt, 0 iterations, RFC 9276), or compact (RFC 9824): absence is signed when it is asked for, in one record that tells of no other name. For this alone nameservers get a key, the ZSK; does not go with single_key." default:"nsec"`
	OptOut      bool            `json:"opt_out,omitempty" doc:"For nsec3: leave insecure delegations out of the chain."`
	SingleKey   bool            `json:"single_key,omitempty" doc:"One key signs all (CSK), in place of KSK and ZSK."`
	ZSKLifetime *Duration       `json:"zsk_lifetime,omitempty" doc:"Age at which a ZSK is rolled; 0 for never." default:"720h"`
	KSKLifetime *Duration       `json:"ksk_lifetime,omitempty" doc:"Age at which a KSK (or CSK) is rolled, once the parent has the new DS; 0 for never." default:"0s"`
	Revoke      bool            `json:"revoke,omitempty" doc:"For zones whose KSK is configured as a trust anchor: a KSK (or CSK) that is rolled stays until validators trust the new one, and is then shown as revoked for 30 days (RFC 5011)."`
	Validity    Duration        `json:"validity,omitempty" doc:"Lifetime of signatures (1h to 2160h)." default:"336h"`
	Refresh     Duration        `json:"refresh,omitempty" doc:"Signatures with less time left are made anew; less than validity." default:"a third of validity"`
	TTL         Duration        `json:"ttl,omitempty" doc:"TTL of DNSKEY, CDS and CDNSKEY." default:"1h"`
	Propagation Duration        `json:"propagation,omitempty" doc:"Time after which every secondary has a change, reckoned in roll-overs." default:"1h"`
	ParentTTL   Duration        `json:"parent_ttl,omitempty" doc:"TTL of the DS record at the parent, reckoned in roll-overs." default:"24h"`
	CDS         CDSMode         `json:"cds,omitempty" doc:"Publish CDS and CDNSKEY: always, rollover (only while the parent lacks a DS), delete (ask the parent to take the DS away), never." default:"always"`
	Signal      []Name          `json:"signal,omitempty" doc:"Nameserver names under which authenticated bootstrapping is published (RFC 9615); the fleet serves their zones." default:"none"`
}

// Tap is a query log in dnstap format.
type Tap struct {
	File   string  `json:"file,omitempty" doc:"File to write to (frame streams); one of file and socket."`
	Socket string  `json:"socket,omitempty" doc:"Unix socket of a collector, or ADDRESS:PORT for TCP."`
	Sample float64 `json:"sample,omitempty" doc:"Share of queries that is logged (above 0, at most 1)." default:"1"`
}

// TTL bounds the TTLs of steered answers.
type TTL struct {
	Steered Duration `json:"steered,omitempty" doc:"TTL of steered answers." default:"30s"`
	Min     Duration `json:"min,omitempty" doc:"Least TTL of a steered answer." default:"1s"`
	Max     Duration `json:"max,omitempty" doc:"Greatest TTL of a steered answer." default:"1h"`
}
