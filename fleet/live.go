package fleet

import (
	"iter"
	"strings"
	"time"
)

// LiveKind is a kind of live object. Live objects are no part of the Spec: what
// the control plane issues, rotates, remembers or asks for on behalf of the fleet.
// They come and go without a new revision, but for LiveGateways, which comes with
// one. Each has a version of its own, its writer is the control plane (its leader
// for all that has no revision), and the Snapshot says at most that there may be some.
type LiveKind string

// The kinds of live object, each with what follows the kind in its id.
const (
	LiveCertificate LiveKind = "certificate" // CERTIFICATE/NAME: chain, private key and, where there is one, OCSP response in PEM
	LiveToken       LiveKind = "token"       // TOKEN: what HTTP-01 answers (RFC 8555 section 8.3); a Token in JSON
	LiveALPN        LiveKind = "alpn"        // NAME: certificate and key of TLS-ALPN-01 (RFC 8737) in PEM
	LiveDemand      LiveKind = "demand"      // NAME: a client has asked for it, and the leader is to decide
	LiveTXT         LiveKind = "txt"         // NAME/N: text of a TXT record that the zone of the absolute NAME has beside its content
	LiveECHKeys     LiveKind = "ech-keys"    // fleet: the gateways' keys of Encrypted Client Hello (RFC 9849); ECHKeys in JSON
	LiveECHList     LiveKind = "ech-list"    // fleet: what HTTPS records say of them; ECHLists in JSON
	LiveGateways    LiveKind = "gateways"    // REGION: the gateways that the region had before; EarlierGateways in JSON
	LiveMark        LiveKind = "mark"        // ID: nothing; who has it has all that was stored before it
)

// Awaited says whether nodes' having an object of the kind is told in their
// acknowledgements.
func (k LiveKind) Awaited() bool {
	return k != LiveCertificate && k != LiveTXT && k != LiveDemand && k != LiveGateways
}

// LiveID gives the id of a live object; Zones holds it under that.
func LiveID(k LiveKind, rest ...string) Name {
	return Name(string(k) + "/" + strings.Join(rest, "/"))
}

// ParseLiveID parts an id into kind and rest.
func ParseLiveID(id string) (k LiveKind, rest string) {
	kind, rest, _ := strings.Cut(id, "/")
	return LiveKind(kind), rest
}

// LiveOf gives the live objects of one kind, by the rest of their ids, in no
// order.
func (w *World) LiveOf(k LiveKind) iter.Seq2[string, Object] {
	return func(yield func(string, Object) bool) {
		for o := range w.Live.All() {
			if kind, rest := ParseLiveID(o.Key.ID); kind == k && !yield(rest, o) {
				return
			}
		}
	}
}

// Token is the content of a LiveToken.
type Token struct {
	Host string `json:"host"` // that is asked, in lower case
	Auth string `json:"auth"` // the answer: key authorization
}

// ECHKey is one key pair of Encrypted Client Hello.
type ECHKey struct {
	Config  []byte    `json:"config"`           // ECHConfig (RFC 9849 section 4)
	Private []byte    `json:"private"`          // X25519, 32 octets
	Made    time.Time `json:"made"`             //
	Retired time.Time `json:"retired,omitzero"` // since when no record names it; zero for the newest
}

// ECHKeys is the content of LiveECHKeys: the newest first.
type ECHKeys struct {
	Keys []ECHKey `json:"keys"`
}

// ECHLists is the content of LiveECHList: what HTTPS records have now, and what
// they will have next, so that both are signed before either is served. Each is
// an ECHConfigList; nil for none.
type ECHLists struct {
	Now  []byte `json:"now,omitempty"`
	Next []byte `json:"next,omitempty"`
}
