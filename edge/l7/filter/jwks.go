package filter

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
)

// jwk is a key that tokens are verified by: its kind fixes the one algorithm
// that it is good for, so that no token chooses another.
type jwk struct {
	id, alg string
	public  crypto.PublicKey
	secret  []byte // HS256
}

// parseKeys reads a JWK Set (RFC 7517 section 5). Keys that are not for
// signatures are left out; one that is of no kind known, or too weak, is an
// error. Errors name the key's place, never its content.
func parseKeys(data []byte) ([]jwk, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("is not a JWK Set: %w", err)
	}
	var out []jwk
	for i, raw := range set.Keys {
		k, err := parseKey(raw)
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		if k != nil {
			out = append(out, *k)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("holds no key for signatures")
	}
	return out, nil
}

type keyFields struct {
	Kty, Use, Alg, Kid, Crv string
	N, E, X, Y, K           string
	D                       string
}

func parseKey(raw []byte) (*jwk, error) {
	var f keyFields
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("is not a JWK")
	}
	if f.Use != "" && f.Use != "sig" {
		return nil, nil
	}
	if f.D != "" {
		return nil, fmt.Errorf("is a private key; expected the public one")
	}
	k := &jwk{id: f.Kid}
	var err error
	switch f.Kty + " " + f.Crv {
	case "RSA ":
		k.alg = "RS256"
		k.public, err = rsaKey(&f)
	case "EC P-256":
		k.alg = "ES256"
		k.public, err = ecKey(&f)
	case "OKP Ed25519":
		k.alg = "EdDSA"
		x, bad := octets(f.X)
		if bad != nil || len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("x: expected 32 octets")
		}
		k.public = ed25519.PublicKey(x)
	case "oct ":
		k.alg = "HS256"
		if k.secret, err = octets(f.K); err == nil && len(k.secret) < 32 {
			err = fmt.Errorf("k: expected at least 32 octets")
		}
	default:
		return nil, fmt.Errorf("kty %q with crv %q is not known; expected RSA, EC with P-256, OKP with Ed25519, or oct", f.Kty, f.Crv)
	}
	if err == nil && f.Alg != "" && f.Alg != k.alg {
		err = fmt.Errorf("alg %q: expected %s for such a key", f.Alg, k.alg)
	}
	return k, err
}

func octets(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }

func rsaKey(f *keyFields) (*rsa.PublicKey, error) {
	n, err1 := octets(f.N)
	e, err2 := octets(f.E)
	exp := new(big.Int).SetBytes(e)
	if err1 != nil || err2 != nil || !exp.IsInt64() || exp.Int64() < 3 || exp.Int64() > 1<<31-1 {
		return nil, fmt.Errorf("n and e: expected a modulus and an exponent")
	}
	k := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exp.Int64())}
	if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
		return nil, fmt.Errorf("n: expected 2048 to 8192 bits, found %d", bits)
	}
	return k, nil
}

func ecKey(f *keyFields) (*ecdsa.PublicKey, error) {
	x, err1 := octets(f.X)
	y, err2 := octets(f.Y)
	if err1 != nil || err2 != nil || len(x) != 32 || len(y) != 32 {
		return nil, fmt.Errorf("x and y: expected 32 octets each")
	}
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, fmt.Errorf("x and y: not a point of P-256")
	}
	return k, nil
}
