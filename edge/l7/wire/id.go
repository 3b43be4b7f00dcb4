package wire

// ID is a field name that the gateway acts on; Other is any other name.
type ID uint8

// The known names.
const (
	Other ID = iota
	Connection
	KeepAlive
	ProxyConnection
	ProxyAuthenticate
	ProxyAuthorization
	TE
	Trailer
	TransferEncoding
	Upgrade
	HTTP2Settings
	Host
	ContentLength
	Expect
	XRequestID
	EdgeWhy
	XForwardedFor
	XForwardedProto
	XForwardedHost
	XForwardedPort
	XRealIP
	Forwarded
	Cookie
	SetCookie
	Authorization
	UserAgent
	Referer
	Accept
	AcceptEncoding
	ContentType
	ContentEncoding
	CacheControl
	Date
	Server
	Location
	Vary
	ETag
	AltSvc
	IdempotencyKey
	Traceparent
	Tracestate
	ServerTiming
	RetryAfter
	StrictTransportSecurity
	SecWebSocketKey
	SecWebSocketAccept
	SecWebSocketVersion
	SecWebSocketProtocol
	SecWebSocketExtensions
	GRPCTimeout
	GRPCStatus
	idCount
)

// IDs is how many there are, Other among them.
const IDs = int(idCount)

// names are spelled as HTTP/1.1 writes them.
var names = [idCount][]byte{
	Connection: []byte("Connection"), KeepAlive: []byte("Keep-Alive"), ProxyConnection: []byte("Proxy-Connection"),
	ProxyAuthenticate: []byte("Proxy-Authenticate"), ProxyAuthorization: []byte("Proxy-Authorization"),
	TE: []byte("TE"), Trailer: []byte("Trailer"), TransferEncoding: []byte("Transfer-Encoding"),
	Upgrade: []byte("Upgrade"), HTTP2Settings: []byte("HTTP2-Settings"), Host: []byte("Host"),
	ContentLength: []byte("Content-Length"), Expect: []byte("Expect"), XRequestID: []byte("X-Request-ID"),
	XForwardedFor: []byte("X-Forwarded-For"), XForwardedProto: []byte("X-Forwarded-Proto"),
	XForwardedHost: []byte("X-Forwarded-Host"), XForwardedPort: []byte("X-Forwarded-Port"),
	XRealIP: []byte("X-Real-IP"), Forwarded: []byte("Forwarded"), Cookie: []byte("Cookie"), SetCookie: []byte("Set-Cookie"),
	Authorization: []byte("Authorization"), UserAgent: []byte("User-Agent"), Referer: []byte("Referer"),
	Accept: []byte("Accept"), AcceptEncoding: []byte("Accept-Encoding"), ContentType: []byte("Content-Type"),
	ContentEncoding: []byte("Content-Encoding"), CacheControl: []byte("Cache-Control"), Date: []byte("Date"),
	Server: []byte("Server"), Location: []byte("Location"), Vary: []byte("Vary"), ETag: []byte("ETag"),
	AltSvc: []byte("Alt-Svc"), IdempotencyKey: []byte("Idempotency-Key"), Traceparent: []byte("Traceparent"),
	Tracestate: []byte("Tracestate"), ServerTiming: []byte("Server-Timing"), EdgeWhy: []byte("X-Edge-Why"),
	RetryAfter: []byte("Retry-After"), StrictTransportSecurity: []byte("Strict-Transport-Security"),
	SecWebSocketKey: []byte("Sec-WebSocket-Key"), SecWebSocketAccept: []byte("Sec-WebSocket-Accept"),
	SecWebSocketVersion: []byte("Sec-WebSocket-Version"), SecWebSocketProtocol: []byte("Sec-WebSocket-Protocol"),
	SecWebSocketExtensions: []byte("Sec-WebSocket-Extensions"), GRPCTimeout: []byte("Grpc-Timeout"), GRPCStatus: []byte("Grpc-Status"),
}

// Name gives the spelling of HTTP/1.1. The caller must not change it.
func (id ID) Name() []byte { return names[id] }

// HopByHop says whether the field belongs to one connection (RFC 9110 section
// 7.6.1), as older ones of its kind do.
func (id ID) HopByHop() bool { return Connection <= id && id <= HTTP2Settings }

// index finds candidates by the name's length, first and last octet.
var index = makeIndex()

const indexSize = 1 << 10

func slot(n int, first, last byte) int {
	return (n*131 + int(first|0x20)*31 + int(last|0x20)*7) & (indexSize - 1)
}

func makeIndex() (t [indexSize][3]ID) {
	for id := Other + 1; id < idCount; id++ {
		n := names[id]
		s := &t[slot(len(n), n[0], n[len(n)-1])]
		for i := range s {
			if s[i] == Other {
				s[i] = id
				break
			}
			if i == len(s)-1 {
				panic("wire: three known names share one slot")
			}
		}
	}
	return t
}

// Lookup finds a field name, in any case. It does not allocate.
func Lookup(name []byte) ID {
	if len(name) < 2 {
		return Other
	}
	for _, id := range index[slot(len(name), name[0], name[len(name)-1])] {
		if id == Other {
			return Other
		}
		if EqualFold(name, string(names[id])) {
			return id
		}
	}
	return Other
}
