package h3

import (
	"fmt"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// Frame types (RFC 9114 section 7.2, RFC 9218 section 7.2).
const (
	frameData        = 0x0
	frameHeaders     = 0x1
	frameCancelPush  = 0x3
	frameSettings    = 0x4
	framePushPromise = 0x5
	frameGoaway      = 0x7
	frameMaxPushID   = 0xd

	framePriorityUpdate = 0xf0700 // of a request
	framePushPriority   = 0xf0701
)

// knownFrame says whether a type has a meaning, or is kept from having one
// because it had one in HTTP/2 (section 7.2.8): others are skipped.
func knownFrame(t uint64) bool {
	switch t {
	case frameData, frameHeaders, frameCancelPush, frameSettings, framePushPromise, frameGoaway, frameMaxPushID, framePriorityUpdate, framePushPriority, 0x2, 0x6, 0x8, 0x9:
		return true
	}
	return false
}

// Types of unidirectional streams (RFC 9114 section 6.2, RFC 9204 section 4.2).
const (
	streamControl = 0x0
	streamPush    = 0x1
	streamEncoder = 0x2
	streamDecoder = 0x3
)

// Settings (RFC 9114 section 7.2.4.1, RFC 9220 section 3, RFC 9297 section 2.1.1).
const (
	settingMaxFieldSection = 0x6
	settingConnect         = 0x8
	settingDatagram        = 0x33
)

// code is an error code (RFC 9114 section 8.1, RFC 9204 section 6), of a stream or of a connection.
type code uint64

const (
	noError           code = 0x100
	protocolError     code = 0x101
	internalError     code = 0x102
	streamCreation    code = 0x103
	closedCritical    code = 0x104
	frameUnexpected   code = 0x105
	frameError        code = 0x106
	excessiveLoad     code = 0x107
	idError           code = 0x108
	settingsError     code = 0x109
	missingSettings   code = 0x10a
	requestRejected   code = 0x10b
	requestIncomplete code = 0x10d
	messageError      code = 0x10e
	qpackFailed       code = 0x200
	qpackEncoder      code = 0x201
	qpackDecoder      code = 0x202
)

func (c code) stream() quic.StreamErrorCode    { return quic.StreamErrorCode(c) }
func (c code) conn() quic.ApplicationErrorCode { return quic.ApplicationErrorCode(c) }

// broken is an error that ends the connection.
type broken struct {
	code   code
	reason string // of few constant words: see l7.Session.Abuse
}

func (e *broken) Error() string {
	return fmt.Sprintf("HTTP/3 connection error 0x%x: %s", uint64(e.code), e.reason)
}

// The ways in which a client breaks a connection.
var (
	errFrame      = &broken{frameError, "frame"}
	errUnexpected = &broken{frameUnexpected, "frame_order"}
	errFlood      = &broken{excessiveLoad, "flood"}
	errSection    = &broken{qpackFailed, "qpack"}
	errEncoder    = &broken{qpackEncoder, "qpack"}
	errDecoder    = &broken{qpackDecoder, "qpack"}
	errSettings   = &broken{settingsError, "settings"}
	errNoSettings = &broken{missingSettings, "settings"}
	errID         = &broken{idError, "push_id"}
	errPriority   = &broken{idError, "priority"}
	errStream     = &broken{streamCreation, "stream"}
	errCritical   = &broken{closedCritical, "closed_stream"}
	errResets     = &broken{excessiveLoad, "resets"}
	errNoStreams  = &broken{protocolError, "no_streams"}
)

// appendFrameHead begins a frame.
func appendFrameHead(b []byte, kind, length uint64) []byte {
	return quicvarint.Append(quicvarint.Append(b, kind), length)
}
