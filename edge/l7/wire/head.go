package wire

import "bytes"

// Version is a version of HTTP.
type Version uint8

// The versions; HTTP10 and HTTP11 share one syntax (RFC 9112).
const (
	HTTP10 Version = iota
	HTTP11
	HTTP2
	HTTP3
)

var versionNames = [...]string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"}

func (v Version) String() string { return versionNames[v] }

// Field is one line of a head (RFC 9110 section 5). Name has the case that it
// came in; ID is its name where it is one of those that the gateway acts on.
type Field struct {
	ID          ID
	Name, Value []byte
}

// Head is the head of a request or of an answer, or the fields after a body. Its slices lie in the buffer
// that it was parsed from, or in its own arena; they hold until that buffer is
// used again, or until Reset. The zero Head is empty. It is not for concurrent
// use.
type Head struct {
	Version Version
	Fields  []Field // in the order in which they came; pseudo-fields are not among them

	// Of requests.
	Method    []byte
	Target    []byte // path and query as they came, "*", or empty for CONNECT; never absolute-form
	Scheme    []byte // as the client named it: HTTP/2, HTTP/3 and absolute-form only
	Authority []byte // of the target: :authority, absolute-form or CONNECT; else the Host field
	Protocol  []byte // of an extended CONNECT (RFC 8441), else nil

	// Of answers.
	Status int
	Reason []byte

	// What Request and Answer found in the fields.
	Length    int64  // of the body: -1 where its end is told in another way, 0 for none
	Chunked   bool   // HTTP/1.1: in chunks (RFC 9112 section 7.1)
	Close     bool   // the connection ends with this message
	KeepAlive bool   // HTTP/1.0: the connection may stay
	Expect    bool   // 100-continue
	Trailers  bool   // TE: trailers
	Upgrade   []byte // the protocol to switch to; nil where there is none
	listed    bool   // Connection names fields besides those that always belong to it

	scanned int // octets in which ParseRequest or ParseAnswer found no end yet
	arena   []byte
}

// Reset empties the head and keeps its memory.
func (h *Head) Reset() {
	fields, arena := h.Fields[:0], h.arena[:0]
	*h = Head{Fields: fields, arena: arena}
}

// Add appends a field whose name and value are copied. It checks nothing.
func (h *Head) Add(name, value string) {
	n := h.keep(name)
	h.Fields = append(h.Fields, Field{Lookup(n), n, h.keep(value)})
}

// AddID appends a known field, whose value is copied.
func (h *Head) AddID(id ID, value string) {
	h.Fields = append(h.Fields, Field{id, names[id], h.keep(value)})
}

// AddBytes appends a known field, whose value must hold as long as the head.
func (h *Head) AddBytes(id ID, value []byte) {
	h.Fields = append(h.Fields, Field{id, names[id], value})
}

// Keep copies s into the head's own memory. What was given before stays valid.
func (h *Head) Keep(s []byte) []byte {
	at := len(h.arena)
	h.arena = append(h.arena, s...)
	return h.arena[at:len(h.arena):len(h.arena)]
}

func (h *Head) keep(s string) []byte {
	at := len(h.arena)
	h.arena = append(h.arena, s...)
	return h.arena[at:len(h.arena):len(h.arena)]
}

// Get gives the value of the first field with that id, nil where there is none.
func (h *Head) Get(id ID) []byte {
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			return h.Fields[i].Value
		}
	}
	return nil
}

// Count says how many fields have that id.
func (h *Head) Count(id ID) int {
	n := 0
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			n++
		}
	}
	return n
}

// Find gives the index of the first field with that name, in any case, at or
// after from; -1 where there is none.
func (h *Head) Find(name string, from int) int {
	for i := from; i < len(h.Fields); i++ {
		if EqualFold(h.Fields[i].Name, name) {
			return i
		}
	}
	return -1
}

// Del removes all fields with that name, in any case, and says how many there
// were.
func (h *Head) Del(name string) int {
	n := 0
	for i := range h.Fields {
		if EqualFold(h.Fields[i].Name, name) {
			continue
		}
		h.Fields[n] = h.Fields[i]
		n++
	}
	gone := len(h.Fields) - n
	h.Fields = h.Fields[:n]
	return gone
}

// Path gives the target without its query.
func (h *Head) Path() []byte {
	if i := bytes.IndexByte(h.Target, '?'); i >= 0 {
		return h.Target[:i]
	}
	return h.Target
}

// Query gives what follows the target's first question mark, nil where it has
// none.
func (h *Head) Query() []byte {
	if i := bytes.IndexByte(h.Target, '?'); i >= 0 {
		return h.Target[i+1:]
	}
	return nil
}

// Is says whether the request's method is m; methods are case-sensitive (RFC
// 9110 section 9.1).
func (h *Head) Is(m string) bool { return string(h.Method) == m }

// PlainConnect says whether the request asks for a tunnel to its authority: a
// CONNECT that is not extended (RFC 9110 section 9.3.6).
func (h *Head) PlainConnect() bool { return h.Is("CONNECT") && h.Protocol == nil }

// EqualFold compares in ASCII, in any case.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
