package filter

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"meridian/edge/l7/wire"
)

// Basic knows users and their passwords' hashes (RFC 7617), and remembers what
// it has verified. It is safe for concurrent use.
type Basic struct {
	Realm string
	Keep  bool   // endpoints get the Authorization field
	Field string // that tells endpoints the user's name; "" for none
	users map[string]hash
	dummy hash     // asked for names that are unknown, so that they take as long
	sum   [32]byte // of the file
	salt  [32]byte
	*memory
}

// memory is what was verified.
type memory struct {
	mu       sync.Mutex // guards below
	verified [2]map[[32]byte]bool
}

// Adopt takes over what an older Basic has verified, where that was by the same
// users.
func (b *Basic) Adopt(old *Basic) {
	if old != nil && b.sum == old.sum && b.salt == old.salt {
		b.memory = old.memory
	}
}

// remembered bounds each of the two halves of what was verified.
const remembered = 4096

// hash is a password's hash.
type hash interface{ fits(password []byte) bool }

type bcryptHash []byte

func (h bcryptHash) fits(password []byte) bool {
	return len(password) <= 72 && bcrypt.CompareHashAndPassword(h, password) == nil
}

type argonHash struct {
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

func (h *argonHash) fits(password []byte) bool {
	sum := argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// parseUsers reads users, a line NAME:HASH each; empty lines and those that
// begin with # are left out. Errors name the line, never the hash.
func parseUsers(data []byte) (map[string]hash, error) {
	users := map[string]hash{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, text, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d: expected NAME:HASH", n)
		}
		if users[name] != nil {
			return nil, fmt.Errorf("line %d: %q is there twice", n, name)
		}
		h, err := parseHash(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		users[name] = h
	}
	if len(users) == 0 {
		return nil, fmt.Errorf("holds no user")
	}
	return users, nil
}

func parseHash(text string) (hash, error) {
	if rest, ok := strings.CutPrefix(text, "$argon2id$"); ok {
		return parseArgon(rest)
	}
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil || !strings.HasPrefix(text, "$2") {
		return nil, fmt.Errorf("expected a hash of bcrypt ($2y$…) or argon2id ($argon2id$…)")
	}
	if cost > 14 {
		return nil, fmt.Errorf("bcrypt with cost %d takes too long to check; expected at most 14", cost)
	}
	return bcryptHash(text), nil
}

// parseArgon reads v=19$m=…,t=…,p=…$SALT$SUM.
func parseArgon(rest string) (hash, error) {
	bad := fmt.Errorf("expected $argon2id$v=19$m=…,t=…,p=…$SALT$SUM, of at most 262144 KiB and 16 passes")
	f := strings.Split(rest, "$")
	if len(f) != 4 || f[0] != "v=19" {
		return nil, bad
	}
	h := new(argonHash)
	for _, p := range strings.Split(f[1], ",") {
		key, value, _ := strings.Cut(p, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil, bad
		}
		switch key {
		case "m":
			h.memory = uint32(n)
		case "t":
			h.time = uint32(n)
		case "p":
			if n > 16 {
				return nil, bad
			}
			h.threads = uint8(n)
		default:
			return nil, bad
		}
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(f[2])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(f[3])
	if err1 != nil || err2 != nil || h.threads == 0 || h.time == 0 || h.time > 16 || h.memory < 8*uint32(h.threads) || h.memory > 262144 || len(h.salt) < 8 || len(h.sum) < 16 || len(h.sum) > 64 {
		return nil, bad
	}
	return h, nil
}

// NewBasic makes it of a file of users; salt is drawn at random, so that what
// is remembered tells nobody anything.
func NewBasic(data []byte, salt [32]byte) (*Basic, error) {
	users, err := parseUsers(data)
	if err != nil {
		return nil, err
	}
	b := &Basic{users: users, sum: sha256.Sum256(data), salt: salt, memory: &memory{verified: [2]map[[32]byte]bool{{}, {}}}}
	for _, h := range users {
		b.dummy = h
		break
	}
	return b, nil
}

// Credentials reads the Authorization field; ok is false where there is none,
// or one of another scheme or form.
func Credentials(h *wire.Head) (user, password []byte, ok bool) {
	value := h.Get(wire.Authorization)
	scheme, rest, found := bytes.Cut(value, []byte{' '})
	if !found || !fold(scheme, "basic") || h.Count(wire.Authorization) != 1 {
		return nil, nil, false
	}
	plain, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimLeft(rest, " "))
	if err != nil {
		return nil, nil, false
	}
	return bytes.Cut(plain, []byte{':'})
}

func (b *Basic) key(user, password []byte) [32]byte {
	s := sha256.New()
	s.Write(b.salt[:])
	s.Write(user)
	s.Write([]byte{':'}) // no user's name holds one
	s.Write(password)
	return [32]byte(s.Sum(nil))
}

// Known says whether the password was verified not long ago. It is cheap.
func (b *Basic) Known(user, password []byte) bool {
	k := b.key(user, password)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verified[0][k] || b.verified[1][k]
}

// Verify checks a password by its hash: this takes tens of milliseconds and, by
// argon2id, memory; the caller bounds how many are under way.
func (b *Basic) Verify(user, password []byte) bool {
	h, known := b.users[string(user)]
	if !known {
		h = b.dummy
	}
	if fits := h.fits(password); !fits || !known {
		return false
	}
	k := b.key(user, password)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.verified[0]) >= remembered {
		b.verified[0], b.verified[1] = map[[32]byte]bool{}, b.verified[0]
	}
	b.verified[0][k] = true
	return true
}

// Challenge is the value of WWW-Authenticate.
func (b *Basic) Challenge() string {
	return `Basic realm="` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(b.Realm) + `", charset="UTF-8"`
}
