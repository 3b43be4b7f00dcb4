package tap

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"meridian/dns/server"
)

// Fields and values of dnstap.proto.
const (
	fieldIdentity = 1
	fieldVersion  = 2
	fieldMessage  = 14
	fieldType     = 15
	typeMessage   = 1

	messageType      = 1
	messageFamily    = 2
	messageProtocol  = 3
	messageAddress   = 4
	messagePort      = 6
	messageSeconds   = 8
	messageNanos     = 9
	messageQuery     = 10
	messageResponded = 12
	messageRespNanos = 13
	messageResponse  = 14

	authQuery    = 1
	authResponse = 2
)

// protocols are dnstap's SocketProtocol by transport.
var protocols = [...]uint64{server.UDP: 1, server.TCP: 2, server.TLS: 3, server.QUIC: 7, server.HTTPS: 4}

// appendMessage appends one Dnstap message: AUTH_RESPONSE with query and answer,
// or AUTH_QUERY where there is no answer.
func appendMessage(b []byte, identity, version string, query, answer []byte, client netip.AddrPort, t server.Transport, at time.Time) []byte {
	b = appendBytes(b, fieldIdentity, identity)
	b = appendBytes(b, fieldVersion, version)
	b = appendNumber(b, fieldType, typeMessage)
	b = protowire.AppendTag(b, fieldMessage, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(query)+len(answer)+messageRoom))
	start := len(b)
	kind, family := uint64(authQuery), uint64(1)
	if len(answer) > 0 {
		kind = authResponse
	}
	a := client.Addr()
	if a.Is6() {
		family = 2
	}
	b = appendNumber(b, messageType, kind)
	b = appendNumber(b, messageFamily, family)
	b = appendNumber(b, messageProtocol, protocols[t])
	address := a.As16()
	raw := address[:]
	if a.Is4() {
		raw = address[12:]
	}
	b = appendBytes(b, messageAddress, raw)
	b = appendNumber(b, messagePort, uint64(client.Port()))
	b = appendTime(b, messageSeconds, messageNanos, at)
	b = appendBytes(b, messageQuery, query)
	if len(answer) > 0 {
		b = appendTime(b, messageResponded, messageRespNanos, at)
		b = appendBytes(b, messageResponse, answer)
	}
	return fixLength(b, start, len(query)+len(answer)+messageRoom)
}

// messageRoom is more than what a message has besides query and answer, so that
// its length is known not to need more octets than that of the guess.
const messageRoom = 128

// fixLength puts the true length of what begins at start in place of the guess
// before it.
func fixLength(b []byte, start, guess int) []byte {
	var length [10]byte
	n := protowire.AppendVarint(length[:0], uint64(len(b)-start))
	room := protowire.SizeVarint(uint64(guess))
	at := start - room
	copy(b[at:], n)
	if len(n) < room {
		b = append(b[:at+len(n)], b[start:]...)
	}
	return b
}

func appendNumber(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendBytes[T string | []byte](b []byte, field protowire.Number, v T) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

func appendTime(b []byte, seconds, nanos protowire.Number, t time.Time) []byte {
	b = appendNumber(b, seconds, uint64(t.Unix()))
	return protowire.AppendFixed32(protowire.AppendTag(b, nanos, protowire.Fixed32Type), uint32(t.Nanosecond()))
}
