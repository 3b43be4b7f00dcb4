package fleet

// SerialPolicy is how the SOA serial that is served comes about (RFC 1982).
type SerialPolicy string

// Keep serves the content's own serial; the others count on from what was
// served before.
const (
	SerialKeep      SerialPolicy = "keep"
	SerialIncrement SerialPolicy = "increment"
	SerialUnixtime  SerialPolicy = "unixtime"
	SerialDate      SerialPolicy = "date"
)

// Values lists the serial policies.
func (SerialPolicy) Values() []string { return []string{"keep", "increment", "unixtime", "date"} }

// ZONEMDMode is what is done with a zone's digest (RFC 8976).
type ZONEMDMode string

// The modes.
const (
	ZONEMDOff      ZONEMDMode = "off"
	ZONEMDVerify   ZONEMDMode = "verify"
	ZONEMDGenerate ZONEMDMode = "generate"
)

// Values lists the modes.
func (ZONEMDMode) Values() []string { return []string{"off", "verify", "generate"} }

// AnyMode is how type ANY is answered over UDP (RFC 8482).
type AnyMode string

// The modes.
const (
	AnyOne       AnyMode = "one"
	AnyHINFO     AnyMode = "hinfo"
	AnyTruncated AnyMode = "truncated"
)

// Values lists the modes.
func (AnyMode) Values() []string { return []string{"one", "hinfo", "truncated"} }

// TSIGAlgorithm is the algorithm of a TSIG key (RFC 8945 section 6).
type TSIGAlgorithm string

// Values lists the algorithms.
func (TSIGAlgorithm) Values() []string {
	return []string{"hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"}
}

// DNSSECAlgorithm is an algorithm to sign with.
type DNSSECAlgorithm string

// The algorithms (RFC 6605, RFC 8080).
const (
	ECDSAP256 DNSSECAlgorithm = "ecdsap256sha256"
	Ed25519   DNSSECAlgorithm = "ed25519"
)

// Values lists the algorithms.
func (DNSSECAlgorithm) Values() []string { return []string{"ecdsap256sha256", "ed25519"} }

// Denial is how the absence of names is proven.
type Denial string

// The ways (RFC 4034, RFC 5155 with RFC 9276, RFC 9824). Compact denial signs a
// record for the very name that is asked for, when it is asked for: it is the
// one way by which nameservers hold a key, the zone's ZSK.
const (
	DenialNSEC    Denial = "nsec"
	DenialNSEC3   Denial = "nsec3"
	DenialCompact Denial = "compact"
)

// Values lists the ways.
func (Denial) Values() []string { return []string{"nsec", "nsec3", "compact"} }

// CDSMode is when CDS and CDNSKEY are published (RFC 7344, RFC 8078).
type CDSMode string

// The modes.
const (
	CDSAlways   CDSMode = "always"
	CDSRollover CDSMode = "rollover"
	CDSDelete   CDSMode = "delete"
	CDSNever    CDSMode = "never"
)

// Values lists the modes.
func (CDSMode) Values() []string { return []string{"always", "rollover", "delete", "never"} }
