package answer

// cookies are the secrets of DNS cookies (RFC 7873, RFC 9018).
type cookies struct {
	secret  func(day int64) [16]byte // nil where there are none by day
	fixed   [][16]byte               // the newest first; in place of those by day
	require bool
}
