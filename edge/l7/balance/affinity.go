package balance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// Affinity gives each member of a pool the value of a cookie that names it: one
// that tells nothing of its address, is the same on every gateway, and cannot
// be made without the key. It is immutable.
type Affinity struct {
	values []string
	owners map[string]int
}

// valueOctets is 96 bits: two members of a pool never have the same.
const valueOctets = 12

// NewAffinity makes the values of the members, in their order, under a secret
// key. The scope, as SERVICE/POOL, keeps the values of two pools with the same
// endpoint apart.
func NewAffinity(key []byte, scope string, members []Member) *Affinity {
	a := &Affinity{owners: make(map[string]int, len(members))}
	for i, m := range members {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(scope))
		mac.Write([]byte{0})
		mac.Write([]byte(m.Name))
		v := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:valueOctets])
		a.values = append(a.values, v)
		a.owners[v] = i
	}
	return a
}

// Value gives the cookie's value for a member: 16 characters of base64url.
func (a *Affinity) Value(i int) string { return a.values[i] }

// Held gives 1 + the member that a cookie's value names, as Ask.Held wants it;
// 0 for a value that names none, as one of an endpoint that is gone. It does
// not allocate.
func (a *Affinity) Held(value []byte) int {
	if i, ok := a.owners[string(value)]; ok {
		return i + 1
	}
	return 0
}
