package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// File is a key file: its name without folders, and its text.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Export writes a key as BIND and most others read it: NAME.key with the
// DNSKEY record and NAME.private (format 1.3), NAME being K<zone>+<algorithm>+<tag>.
func Export(name fleet.Name, k *Key, ttl uint32) []File {
	base := fmt.Sprintf("K%s+%03d+%05d", name, k.Algorithm, k.Tag())
	public := fmt.Sprintf("; %s of %s, made %s\n%s %d IN DNSKEY %d 3 %d %s\n", k.Role, name, k.Created.UTC().Format(time.RFC3339),
		name, ttl, k.flags(), k.Algorithm, base64.StdEncoding.EncodeToString(k.Public))
	mnemonic := map[uint8]string{algP256: "ECDSAP256SHA256", algEd25519: "ED25519"}[k.Algorithm]
	const stamp = "20060102150405"
	private := fmt.Sprintf("Private-key-format: v1.3\nAlgorithm: %d (%s)\nPrivateKey: %s\nCreated: %s\n",
		k.Algorithm, mnemonic, base64.StdEncoding.EncodeToString(k.Private), k.Created.UTC().Format(stamp))
	if !k.DNSKEY.Since.IsZero() {
		private += fmt.Sprintf("Publish: %s\nActivate: %s\n", k.DNSKEY.Since.UTC().Format(stamp), k.DNSKEY.Since.UTC().Format(stamp))
	}
	return []File{{base + ".key", public}, {base + ".private", private}}
}

// Import reads keys: pairs of .key and .private as BIND writes them, and PEM
// files (PKCS #8) as Knot keeps them. role, if not empty, says what the keys
// are for, which PEM files do not tell; a single key that BIND calls a KSK is
// a CSK. Keys of RSA cannot sign here, and are refused.
func Import(name fleet.Name, files []File, role Role, now time.Time) ([]Key, error) {
	if role != "" {
		if _, err := ParseRole(string(role)); err != nil {
			return nil, fmt.Errorf("role: %w", err)
		}
	}
	var out []Key
	publics := map[string]*publicKey{}
	for _, f := range files {
		if base, ok := strings.CutSuffix(f.Name, ".key"); ok {
			p, err := parsePublic(name, f.Text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			publics[base] = p
		}
	}
	used := map[string]bool{}
	for _, f := range files {
		var k Key
		var err error
		switch base, private := strings.CutSuffix(f.Name, ".private"); {
		case strings.HasSuffix(f.Name, ".key"):
			continue
		case private:
			used[base] = true
			k, err = parsePrivate(f.Text, publics[base], role, now)
		case strings.Contains(f.Text, "-----BEGIN"):
			k, err = parsePEM(f.Text, role, now)
		default:
			err = errors.New("expected .key and .private of BIND, or PEM")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		out = append(out, k)
	}
	for base := range publics {
		if !used[base] {
			return nil, fmt.Errorf("%s.key: without its .private", base)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no key in what is to be imported")
	}
	if len(out) == 1 && out[0].Role == KSK && role == "" {
		out[0].Role = CSK
	}
	for i := range out {
		if tagUsed(&out[i], out[:i]) {
			return nil, fmt.Errorf("key %s: comes twice", out[i])
		}
	}
	return out, nil
}

// publicKey is the content of a .key file.
type publicKey struct {
	flags     uint16
	algorithm uint8
	public    []byte
}

func parsePublic(name fleet.Name, text string) (*publicKey, error) {
	rr, err := dns.NewRR(text)
	if err != nil {
		return nil, fmt.Errorf("is not a record: %w", err)
	}
	k, ok := rr.(*dns.DNSKEY)
	if !ok {
		return nil, errors.New("expected a DNSKEY record")
	}
	if owner, err := fleet.ParseName(k.Hdr.Name); err != nil || owner != name {
		return nil, fmt.Errorf("is a key of %s, not of %s", k.Hdr.Name, name)
	}
	if k.Flags&flagRevoke != 0 {
		return nil, errors.New("is revoked (RFC 5011)")
	}
	public, err := base64.StdEncoding.DecodeString(k.PublicKey)
	if err != nil {
		return nil, errors.New("the public key is not base64")
	}
	return &publicKey{k.Flags, k.Algorithm, public}, nil
}

// fields reads lines of the form "Name: value".
func fields(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			out[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
	}
	return out
}

func parsePrivate(text string, public *publicKey, role Role, now time.Time) (Key, error) {
	f := fields(text)
	if !strings.HasPrefix(f["private-key-format"], "v1.") {
		return Key{}, errors.New("expected Private-key-format: v1.3")
	}
	number, _, _ := strings.Cut(f["algorithm"], " ")
	alg, err := strconv.ParseUint(number, 10, 8)
	if err != nil {
		return Key{}, errors.New("expected a line Algorithm: NUMBER")
	}
	if f["privatekey"] == "" && alg != algP256 && alg != algEd25519 {
		return Key{}, fmt.Errorf("zones are signed with ecdsap256sha256 (13) and ed25519 (15), not with algorithm %d", alg)
	}
	private, err := base64.StdEncoding.DecodeString(f["privatekey"])
	if err != nil {
		return Key{}, errors.New("PrivateKey is not base64")
	}
	created, err := time.Parse("20060102150405", f["created"])
	if err != nil {
		created = now
	}
	if role == "" {
		if public == nil {
			return Key{}, errors.New("its .key is missing, and no role is given")
		}
		if role = ZSK; public.flags&flagSEP != 0 {
			role = KSK
		}
	}
	k, err := KeyFrom(role, uint8(alg), private, created)
	if err != nil {
		return Key{}, err
	}
	if public != nil && (public.algorithm != k.Algorithm || !bytes.Equal(public.public, k.Public)) {
		return Key{}, errors.New("is not the private key of its .key")
	}
	return k, nil
}

func parsePEM(text string, role Role, now time.Time) (Key, error) {
	if role == "" {
		return Key{}, errors.New("PEM does not say what the key is for: give its role")
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return Key{}, errors.New("is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("expected a private key in PKCS #8: %w", err)
	}
	switch p := parsed.(type) {
	case *ecdsa.PrivateKey:
		raw, err := p.Bytes()
		if err != nil || len(raw) != 32 {
			return Key{}, errors.New("expected a key of P-256 or Ed25519")
		}
		return KeyFrom(role, algP256, raw, now)
	case ed25519.PrivateKey:
		return KeyFrom(role, algEd25519, p.Seed(), now)
	}
	return Key{}, errors.New("expected a key of P-256 or Ed25519")
}
