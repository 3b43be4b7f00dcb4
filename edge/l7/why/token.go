package why

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// Longest is how far ahead a token may end: one that ends later is refused, so
// that none that leaks is good for long.
const Longest = time.Hour

const scheme = "v1"

// Token lets its bearer ask gateways of the fleet for reports on requests to one
// host, as route.Host writes it, until a time, in whole seconds. key is the
// fleet's (identity.WhyKey).
func Token(key []byte, host string, until time.Time) string {
	end := until.Unix()
	return scheme + "." + strconv.FormatInt(end, 36) + "." + base64.RawURLEncoding.EncodeToString(seal(key, host, end))
}

// Valid says whether the token is one for that host and has not ended. It does
// not allocate for what is no token at all.
func Valid(key []byte, host string, token []byte, now time.Time) bool {
	if len(key) == 0 || len(token) > 80 {
		return false
	}
	kind, rest, _ := strings.Cut(string(token), ".")
	when, mac, _ := strings.Cut(rest, ".")
	end, err := strconv.ParseInt(when, 36, 64)
	if kind != scheme || err != nil || end < now.Unix() || end > now.Add(Longest).Unix() {
		return false
	}
	got, err := base64.RawURLEncoding.Strict().DecodeString(mac)
	return err == nil && hmac.Equal(got, seal(key, host, end))
}

func seal(key []byte, host string, end int64) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(end)))
	mac.Write([]byte(host))
	return mac.Sum(nil)
}
