package filter

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"meridian/edge/l7/route"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// JWT verifies tokens (RFC 7519, RFC 7515 compact form, RFC 8725). It is
// immutable.
type JWT struct {
	Optional bool
	Keep     bool // endpoints get the Authorization field
	spec     *fleet.JWT
	keys     []jwk
	claims   []claim
}

type claim struct{ field, name string }

// Token errors; a client is told no more than these words.
var (
	ErrNoToken  = errors.New("no token")
	errForm     = errors.New("the token is malformed")
	errKey      = errors.New("no key fits the token")
	errSign     = errors.New("the signature is wrong")
	errExpired  = errors.New("the token has expired")
	errEarly    = errors.New("the token is not valid yet")
	errIssuer   = errors.New("the issuer is another")
	errAudience = errors.New("the audience is another")
)

// maxToken bounds a token, in octets.
const maxToken = 16 << 10

// NewJWT makes it of the Spec's part and a JWK Set.
func NewJWT(spec *fleet.JWT, keys []byte) (*JWT, error) {
	j := &JWT{Optional: spec.Optional, Keep: spec.Keep, spec: spec}
	var err error
	if j.keys, err = parseKeys(keys); err != nil {
		return nil, err
	}
	for field, name := range spec.Claims {
		j.claims = append(j.claims, claim{field, name})
	}
	slices.SortFunc(j.claims, func(a, b claim) int { return strings.Compare(a.field, b.field) })
	return j, nil
}

// Token finds the request's token: Authorization: Bearer, else the cookie; nil
// where there is none. Of several Authorization fields none counts: endpoints
// might go by another.
func (j *JWT) Token(h *wire.Head) []byte {
	if h.Count(wire.Authorization) > 1 {
		return []byte{} // malformed
	}
	scheme, rest, _ := bytes.Cut(h.Get(wire.Authorization), []byte{' '})
	if fold(scheme, "bearer") {
		return bytes.Trim(rest, " ")
	}
	if j.spec.Cookie != "" {
		if v, ok := route.Cookie(h, j.spec.Cookie); ok {
			return v
		}
	}
	return nil
}

// Claim is what endpoints are told of a token: one request field.
type Claim struct{ Field, Value string }

// Fields lists the request fields that claims are told in; those of clients
// have to go whether there is a token or not.
func (j *JWT) Fields() []string {
	var out []string
	for _, c := range j.claims {
		out = append(out, c.field)
	}
	return out
}

// Verify checks a token at a moment, and gives the claims that endpoints are to
// know. ErrNoToken: token is nil.
func (j *JWT) Verify(token []byte, now time.Time) ([]Claim, error) {
	if token == nil {
		return nil, ErrNoToken
	}
	part := bytes.Split(token, []byte{'.'})
	if len(part) != 3 || len(token) > maxToken {
		return nil, errForm
	}
	var head struct {
		Alg, Kid string
		Crit     json.RawMessage
	}
	var raw [3][]byte
	for i := range part {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().AppendDecode(nil, part[i]); err != nil {
			return nil, errForm
		}
	}
	if json.Unmarshal(raw[0], &head) != nil || head.Crit != nil {
		return nil, errForm // an extension that must be understood is not (RFC 7515 section 4.1.11)
	}
	signed := token[:len(part[0])+1+len(part[1])]
	if err := j.verifySignature(head.Alg, head.Kid, signed, raw[2]); err != nil {
		return nil, err
	}
	return j.verifyClaims(raw[1], now)
}

func (j *JWT) verifySignature(alg, kid string, signed, sig []byte) error {
	err := errKey
	for i := range j.keys {
		k := &j.keys[i]
		if k.alg != alg || kid != "" && k.id != "" && k.id != kid {
			continue
		}
		if k.verify(signed, sig) {
			return nil
		}
		err = errSign
	}
	return err
}

func (k *jwk) verify(signed, sig []byte) bool {
	sum := sha256.Sum256(signed)
	switch pub := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], sig) == nil
	case *ecdsa.PublicKey:
		return len(sig) == 64 && ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	case ed25519.PublicKey:
		return ed25519.Verify(pub, signed, sig)
	}
	m := hmac.New(sha256.New, k.secret)
	m.Write(signed)
	return hmac.Equal(m.Sum(nil), sig)
}

func (j *JWT) verifyClaims(payload []byte, now time.Time) ([]Claim, error) {
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &all) != nil || all == nil {
		return nil, errForm
	}
	leeway := j.spec.Leeway.D()
	if exp, ok, err := moment(all["exp"]); err != nil {
		return nil, err
	} else if ok && !now.Add(-leeway).Before(exp) {
		return nil, errExpired
	}
	if nbf, ok, err := moment(all["nbf"]); err != nil {
		return nil, err
	} else if ok && now.Add(leeway).Before(nbf) {
		return nil, errEarly
	}
	var iss string
	if j.spec.Issuer != "" && (json.Unmarshal(all["iss"], &iss) != nil || iss != j.spec.Issuer) {
		return nil, errIssuer
	}
	if len(j.spec.Audiences) > 0 && !j.forUs(all["aud"]) {
		return nil, errAudience
	}
	var out []Claim
	for _, c := range j.claims {
		if v, ok := plain(all[c.name]); ok {
			out = append(out, Claim{c.field, v})
		}
	}
	return out, nil
}

// moment reads a NumericDate (RFC 7519 section 2).
func moment(raw json.RawMessage) (time.Time, bool, error) {
	if raw == nil {
		return time.Time{}, false, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f < 0 || f > 1e12 {
		return time.Time{}, false, errForm
	}
	return time.UnixMicro(int64(f * 1e6)), true, nil
}

// forUs reads aud, a text or a list of them.
func (j *JWT) forUs(raw json.RawMessage) bool {
	var one string
	list := []string{}
	if json.Unmarshal(raw, &one) == nil {
		list = append(list, one)
	} else if json.Unmarshal(raw, &list) != nil {
		return false
	}
	return slices.ContainsFunc(list, func(a string) bool { return slices.Contains(j.spec.Audiences, a) })
}

// plain gives a claim as a field's value; false where it is none that can be.
func plain(raw json.RawMessage) (string, bool) {
	var s string
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null" {
		return "", false
	}
	if raw[0] != '"' {
		return string(raw), true
	}
	if json.Unmarshal(raw, &s) != nil || !validValue(s) || len(s) > 1024 {
		return "", false
	}
	return s, true
}
