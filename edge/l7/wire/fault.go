package wire

import "strconv"

// Fault is why a message is refused. The zero Fault is none.
type Fault uint8

// The faults, with the rule that each breaks.
const (
	NoFault         Fault = iota
	BadLine               // request or status line (RFC 9112 sections 3 and 4)
	BadVersion            // not HTTP/1.0 or HTTP/1.1
	BadTarget             // request target (RFC 9112 section 3.2)
	BadName               // field name (RFC 9110 section 5.1), or space before the colon
	BadValue              // field value (RFC 9110 section 5.5): CR, LF, NUL, controls
	BadFold               // obs-fold (RFC 9112 section 5.2)
	BareLF                // a line that ends in LF alone, or holds a bare CR
	BadHost               // Host missing, twice, or other than the authority (RFC 9112 section 3.2)
	BadLength             // Content-Length (RFC 9112 section 6.3)
	BadCoding             // Transfer-Encoding other than chunked (RFC 9112 section 6.1)
	LengthAndCoding       // both Content-Length and Transfer-Encoding
	BadConnection         // Connection, Upgrade, or connection fields in HTTP/2 and HTTP/3
	BadPseudo             // pseudo-fields (RFC 9113 section 8.3)
	BadExpect             // an expectation other than 100-continue
	BadChunk              // chunk size, extension or ending (RFC 9112 section 7.1)
	BadTrailer            // a field that must not follow a body (RFC 9110 section 6.5.1)
	TooLarge              // more octets or fields than the limit
	TargetTooLong         // a request line of more than the limit
	BadStatus             // status of an answer
	FaultCount
)

var faultNames = [FaultCount]string{
	"", "line", "version", "target", "field_name", "field_value", "folded_field", "bare_lf", "host", "content_length",
	"transfer_encoding", "length_and_encoding", "connection", "pseudo_field", "expect", "chunk", "trailer",
	"too_large", "target_too_long", "status",
}

// String gives the word that metrics and logs use.
func (f Fault) String() string {
	if f >= FaultCount {
		return strconv.Itoa(int(f))
	}
	return faultNames[f]
}

// Error makes a Fault an error.
func (f Fault) Error() string { return "malformed message: " + f.String() }

// Status is what a client is told.
func (f Fault) Status() int {
	switch f {
	case BadVersion:
		return 505
	case BadExpect:
		return 417
	case BadCoding:
		return 501
	case TooLarge:
		return 431
	case TargetTooLong:
		return 414
	}
	return 400
}
