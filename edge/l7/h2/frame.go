package h2

import (
	"encoding/binary"
	"strconv"
)

// Frame types and flags (RFC 9113 section 6).
const (
	typeData         = 0x0
	typeHeaders      = 0x1
	typePriority     = 0x2
	typeReset        = 0x3
	typeSettings     = 0x4
	typePush         = 0x5
	typePing         = 0x6
	typeGoAway       = 0x7
	typeWindowUpdate = 0x8
	typeContinuation = 0x9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113 section 6.5.2; RFC 8441 section 3).
const (
	setTableSize   = 0x1
	setPush        = 0x2
	setStreams     = 0x3
	setWindow      = 0x4
	setFrameSize   = 0x5
	setListSize    = 0x6
	setConnect     = 0x8
	preface        = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	headerSize     = 9
	frameSize      = 16384 // the largest payload that this end takes, and that it sends
	largestFrame   = 1<<24 - 1
	largestWindow  = 1<<31 - 1
	defaultWindow  = 65535
	defaultStreams = 100 // taken for a peer's limit until its settings are known
)

// Code is an error code (RFC 9113 section 7).
type Code uint32

// The codes.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
)

var codeNames = [...]string{
	"no_error", "protocol_error", "internal_error", "flow_control_error", "settings_timeout", "stream_closed",
	"frame_size_error", "refused_stream", "cancel", "compression_error", "connect_error", "enhance_your_calm",
	"inadequate_security", "http_1_1_required",
}

// String gives the word for logs and metrics.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return strconv.FormatUint(uint64(c), 16)
}

// fault ends a connection; reason is what Session.Abuse is told.
type fault struct {
	code   Code
	reason string
}

func (f *fault) Error() string { return "http2: " + f.reason + ": " + f.code.String() }

// broken makes a fault of the peer's breach of the protocol.
func broken(code Code, reason string) error { return &fault{code, reason} }

// frame is one that was read; its payload holds until the next read.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// unpad takes padding off the payload (RFC 9113 section 6.1).
func (f *frame) unpad() error {
	if !f.has(flagPadded) {
		return nil
	}
	if len(f.payload) == 0 {
		return broken(FrameSizeError, "frame_size")
	}
	n := int(f.payload[0])
	if n >= len(f.payload) {
		return broken(ProtocolError, "padding")
	}
	f.payload = f.payload[1 : len(f.payload)-n]
	return nil
}

func appendHeader(b []byte, length int, kind, flags byte, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendReset(b []byte, stream uint32, code Code) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, typeReset, 0, stream), uint32(code))
}

func appendWindowUpdate(b []byte, stream uint32, n int) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, typeWindowUpdate, 0, stream), uint32(n))
}

func appendPing(b []byte, flags byte, data [8]byte) []byte {
	return append(appendHeader(b, 8, typePing, flags, 0), data[:]...)
}

func appendGoAway(b []byte, last uint32, code Code) []byte {
	b = binary.BigEndian.AppendUint32(appendHeader(b, 8, typeGoAway, 0, 0), last)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// setting is one parameter.
type setting struct {
	id    uint16
	value uint32
}

func appendSettings(b []byte, list ...setting) []byte {
	b = appendHeader(b, 6*len(list), typeSettings, 0, 0)
	for _, s := range list {
		b = binary.BigEndian.AppendUint16(b, s.id)
		b = binary.BigEndian.AppendUint32(b, s.value)
	}
	return b
}
