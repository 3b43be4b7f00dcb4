package filter

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"meridian/fleet"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestBasicAuthentication(t *testing.T) {
	quick, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	sum := argon2.IDKey([]byte("hunter:2"), []byte("saltsalt"), 1, 64, 1, 32)
	users := fmt.Sprintf("# people\nali:%s\n\nbob:$argon2id$v=19$m=64,t=1,p=1$%s$%s\n", quick,
		base64.RawStdEncoding.EncodeToString([]byte("saltsalt")), base64.RawStdEncoding.EncodeToString(sum))
	b, err := NewBasic([]byte(users), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		field string
		want  bool
	}{
		{"ali:open sesame", true}, {"ali:open", false}, {"ali:", false}, {"bob:hunter:2", true}, {"bob:open sesame", false},
		{"eve:open sesame", false}, {":", false}, {"ali:" + strings.Repeat("x", 100), false},
	} {
		user, password, ok := Credentials(head("GET /", "Authorization: BASIC "+base64.StdEncoding.EncodeToString([]byte(tc.field))))
		if !ok {
			t.Fatalf("%s: not read", tc.field)
		}
		if b.Known(user, password) {
			t.Errorf("%s is known before", tc.field)
		}
		if got := b.Verify(user, password); got != tc.want || b.Known(user, password) != tc.want {
			t.Errorf("%s: %v", tc.field, got)
		}
	}
	for _, field := range []string{"Bearer YTpi", "Basic", "Basic !!!", "Basic " + base64.StdEncoding.EncodeToString([]byte("nocolon"))} {
		if _, _, ok := Credentials(head("GET /", "Authorization: "+field)); ok {
			t.Errorf("%s is taken", field)
		}
	}
	if _, _, ok := Credentials(head("GET /", "Authorization: Basic YTpi", "Authorization: Basic YTpi")); ok {
		t.Error("two fields are taken")
	}
	for i := range 2*remembered + 1 { // what is remembered is bounded
		b.users[fmt.Sprint(i)] = always{}
		b.Verify(fmt.Append(nil, i), nil)
	}
	if n := len(b.verified[0]) + len(b.verified[1]); n > 2*remembered {
		t.Errorf("%d are remembered", n)
	}
	if b.Realm = `a"b`; b.Challenge() != `Basic realm="a\"b", charset="UTF-8"` {
		t.Error(b.Challenge())
	}
}

type always struct{}

func (always) fits([]byte) bool { return true }

func TestUsersThatAreRefused(t *testing.T) {
	for users, want := range map[string]string{
		"":              "holds no user",
		"ali":           "line 1: expected NAME:HASH",
		"\nali:{SHA}x":  "line 2: expected a hash of bcrypt ($2y$…) or argon2id ($argon2id$…)",
		"ali:plaintext": "line 1: expected a hash of bcrypt ($2y$…) or argon2id ($argon2id$…)",
		"a:$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA":        "line 1: expected $argon2id$v=19$m=…,t=…,p=…$SALT$SUM, of at most 262144 KiB and 16 passes",
		"a:$2y$15$" + strings.Repeat("a", 53):                                           "line 1: bcrypt with cost 15 takes too long to check; expected at most 14",
		"a:$2y$04$" + strings.Repeat("a", 53) + "\na:$2y$04$" + strings.Repeat("a", 53): `line 2: "a" is there twice`,
	} {
		if _, err := parseUsers([]byte(users)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", users, err)
		}
	}
}

// signers holds a key of each kind: its JWK and how it signs.
func signers(t *testing.T) map[string]func(string) []byte {
	t.Helper()
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ek, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	secret := make([]byte, 32)
	rand.Read(secret)
	point, _ := ek.PublicKey.Bytes()
	keySet = fmt.Sprintf(`{"keys": [{"kty":"RSA","kid":"r","n":%q,"e":"AQAB"}, {"kty":"EC","crv":"P-256","kid":"e","x":%q,"y":%q},
		{"kty":"OKP","crv":"Ed25519","kid":"o","x":%q,"alg":"EdDSA","use":"sig"}, {"kty":"oct","kid":"h","k":%q}, {"kty":"RSA","use":"enc"}]}`,
		b64(rk.N.Bytes()), b64(point[1:33]), b64(point[33:]), b64(pub), b64(secret))
	sum := func(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] }
	return map[string]func(string) []byte{
		"RS256": func(s string) []byte { sig, _ := rsa.SignPKCS1v15(nil, rk, crypto.SHA256, sum(s)); return sig },
		"ES256": func(s string) []byte {
			r, v, _ := ecdsa.Sign(rand.Reader, ek, sum(s))
			return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
		},
		"EdDSA": func(s string) []byte { return ed25519.Sign(priv, []byte(s)) },
		"HS256": func(s string) []byte { m := hmac.New(sha256.New, secret); m.Write([]byte(s)); return m.Sum(nil) },
		// The attack of RFC 8725 section 2.1: the public key as a secret.
		"HS256 with the public key": func(s string) []byte { m := hmac.New(sha256.New, rk.N.Bytes()); m.Write([]byte(s)); return m.Sum(nil) },
	}
}

var keySet string

func TestTokens(t *testing.T) {
	sign := signers(t)
	now := time.Unix(2_000_000_000, 0)
	s := sets(t, `jwt: {keys: "file:keys", issuer: me, audiences: [api, web], cookie: token, claims: {X-Sub: sub, X-Admin: admin, X-Bad: bad, X-List: list}}`,
		fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: "file:keys"}, Data: []byte(keySet)}).Service
	const good = `{"iss":"me","aud":["x","api"],"exp":2000000010,"nbf":1999999990.5,"sub":"ali","admin":true,"bad":"a\r\nb","list":[1]}`
	make := func(alg, kid, payload, signer string) string {
		signed := b64(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"JWT"}`, alg, kid)) + "." + b64([]byte(payload))
		if sign[signer] == nil {
			return signed + "."
		}
		return signed + "." + b64(sign[signer](signed))
	}
	check := func(what, token, want string) {
		t.Helper()
		claims, err := s.JWT.Verify([]byte(token), now)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(claims)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	const claims = "[{X-Admin true} {X-Sub ali}]"
	for alg, kid := range map[string]string{"RS256": "r", "ES256": "e", "EdDSA": "o", "HS256": "h"} {
		token := make(alg, kid, good, alg)
		check(alg, token, claims)
		check(alg+" without a key id", make(alg, "", good, alg), claims)
		check(alg+" with another key's id", make(alg, "zz", good, alg), "no key fits the token")
		head, rest, _ := strings.Cut(token, ".")
		_, sig, _ := strings.Cut(rest, ".")
		check(alg+" changed", head+"."+b64([]byte(strings.Replace(good, "ali", "eve", 1)))+"."+sig, "the signature is wrong")
		check(alg+" without a signature", head+"."+b64([]byte(good))+".", "the signature is wrong")
	}
	change := func(old, new string) string { return make("EdDSA", "o", strings.Replace(good, old, new, 1), "EdDSA") }
	check("none", make("none", "", good, "none"), "no key fits the token")
	check("a public key as a secret", make("HS256", "r", good, "HS256 with the public key"), "no key fits the token")
	check("expired", change("2000000010", "1999999970"), "the token has expired")
	check("expired within the leeway", change("2000000010", "1999999971"), claims)
	check("early", change("1999999990.5", "2000000031"), "the token is not valid yet")
	check("another issuer", change(`"me"`, `"you"`), "the issuer is another")
	check("another audience", change(`"api"`, `"apis"`), "the audience is another")
	check("one audience", change(`["x","api"]`, `"web"`), claims)
	check("exp of text", change("2000000010", `"2000000010"`), "the token is malformed")
	check("two parts", "a.b", "the token is malformed")
	check("padding", make("EdDSA", "o", good, "EdDSA")+"=", "the token is malformed")
	signed := b64([]byte(`{"alg":"EdDSA","crit":["b64"],"b64":false}`)) + "." + b64([]byte(good))
	check("an extension that must be understood", signed+"."+b64(sign["EdDSA"](signed)), "the token is malformed")
	if _, err := s.JWT.Verify(s.JWT.Token(head("GET /")), now); err != ErrNoToken {
		t.Errorf("no token: %v", err)
	}
	if got := s.JWT.Token(head("GET /", "Cookie: token=a.b.c")); string(got) != "a.b.c" {
		t.Errorf("cookie: %s", got)
	}
	if got := s.JWT.Token(head("GET /", "Authorization: bearer x.y.z", "Cookie: token=a.b.c")); string(got) != "x.y.z" {
		t.Errorf("field: %s", got)
	}
	// Endpoints that get the field could go by the other one.
	two := s.JWT.Token(head("GET /", "Authorization: Bearer "+make("EdDSA", "o", good, "EdDSA"), "Authorization: Bearer x.y.z"))
	if _, err := s.JWT.Verify(two, now); err == nil || err == ErrNoToken {
		t.Errorf("two fields: %v", err)
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		j, err := NewJWT(&fleet.JWT{}, fmt.Appendf(nil, `{"keys":[{"kty":"oct","k":%q}]}`, b64(make([]byte, 32))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.Verify([]byte(token), time.Unix(0, 0)); err == nil && strings.Count(token, ".") != 2 {
			t.Errorf("%q is taken", token)
		}
	})
}

func TestKeysThatAreRefused(t *testing.T) {
	weak := b64(new(big.Int).Lsh(big.NewInt(1), 1023).Bytes())
	for keys, want := range map[string]string{
		`{}`:                                     "holds no key for signatures",
		`x`:                                      "is not a JWK Set: invalid character 'x' looking for beginning of value",
		`{"keys":[{}]}`:                          `keys[0]: kty "" with crv "" is not known; expected RSA, EC with P-256, OKP with Ed25519, or oct`,
		`{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}`: "keys[0]: k: expected at least 32 octets",
		`{"keys":[{"kty":"RSA","n":"` + weak + `","e":"AQAB"}]}`:                     "keys[0]: n: expected 2048 to 8192 bits, found 1024",
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`:                    "keys[0]: x and y: expected 32 octets each",
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}]}`:           "keys[0]: is a private key; expected the public one",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`:                          "keys[0]: x: expected 32 octets",
		`{"keys":[{"kty":"oct","alg":"HS512","k":"` + b64(make([]byte, 64)) + `"}]}`: `keys[0]: alg "HS512": expected HS256 for such a key`,
	} {
		if _, err := parseKeys([]byte(keys)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", keys, err)
		}
	}
}
