package garden

import (
	"strconv"
	"strings"
)

// Frame is one frame of HTTP/3 on a request's stream.
type Frame struct {
	Kind    uint64
	Fields  []Field // of HEADERS, else
	Payload string  // as it is; {host} and {id} stand in it as in Octets
	Missing int     // octets that its length counts and that never come
	Wide    bool    // its type and length take eight octets each
}

// Types of frames (RFC 9114 section 7.2).
const (
	kindData    = 0x0
	kindHeaders = 0x1
	kindUnknown = 0x21 // nobody's, ever (section 7.2.8)
)

// ForHTTP3 gives the frames of a stream that has none of its own.
func (s *Stream) ForHTTP3() []Frame {
	if s.Frames != nil {
		return s.Frames
	}
	list := []Frame{{Kind: kindHeaders, Fields: s.Fields}}
	for _, d := range s.Body {
		list = append(list, data(d))
	}
	if s.Trailers != nil {
		list = append(list, Frame{Kind: kindHeaders, Fields: s.Trailers})
	}
	return list
}

// HTTP3Streams gives every request over HTTP/3: those of Streams, and those that
// HTTP/2 cannot say.
func HTTP3Streams() []Stream {
	b := new(streams)
	b.list = Streams()
	b.order()
	b.unknown()
	b.lengths()
	b.sections()
	return b.list
}

func data(s string) Frame { return Frame{Kind: kindData, Payload: s} }

func headers(list []Field) Frame { return Frame{Kind: kindHeaders, Fields: list} }

func (b *streams) frames(name string, want Want, seen *Seen, frames ...Frame) *Stream {
	s := b.add(name, want, nil, seen)
	s.Frames = frames
	return s
}

// other is a whole head that must not become a request of its own.
func other() []Field {
	return []Field{{":method", "GET"}, {":scheme", "https"}, {":authority", "{host}"}, {":path", "/smuggled-{id}"}}
}

// order has frames where they have no place.
func (b *streams) order() {
	hello := one("POST", "hello")
	get := one("GET", "")
	end := []Field{{"x-end", "x"}}
	b.frames("nothing", Refuse, nil)
	b.frames("DATA alone", Refuse, nil, data(smuggled))
	b.frames("DATA before HEADERS", Refuse, nil, data(smuggled), headers(head("POST")))
	b.frames("empty DATA before HEADERS", Refuse, nil, data(""), headers(head("GET")))
	b.frames("HEADERS twice", Either, &get, headers(head("GET")), headers(end))
	b.frames("a request as trailers", Refuse, nil, headers(head("POST")), data("hello"), headers(other()))
	b.frames("a request as trailers of no body", Refuse, nil, headers(head("POST")), headers(other()))
	b.frames("DATA after trailers", Refuse, nil, headers(head("POST")), data("hello"), headers(end), data(smuggled))
	b.frames("trailers twice", Refuse, nil, headers(head("POST")), data("hello"), headers(end), headers(end))
	b.frames("a request after trailers", Refuse, nil, headers(head("POST")), data("hello"), headers(end), headers(other()))
	b.frames("DATA after trailers, with a content-length", Either, &hello, headers(head("POST", Field{"content-length", "5"})), data("hello"), headers(end), data(smuggled))
	for kind, name := range []string{2: "PRIORITY", 3: "CANCEL_PUSH", 4: "SETTINGS", 5: "PUSH_PROMISE", 6: "PING", 7: "GOAWAY", 8: "WINDOW_UPDATE", 9: "CONTINUATION", 13: "MAX_PUSH_ID"} {
		if name == "" {
			continue
		}
		f := Frame{Kind: uint64(kind), Payload: "\x00\x00\x00" + smuggled}
		b.frames(name+" before HEADERS", Refuse, nil, f, headers(head("GET")))
		b.frames(name+" in the body", Refuse, nil, headers(head("POST")), data("hel"), f, data("lo"))
		b.frames(name+" after the body", Refuse, nil, headers(head("POST")), data("hello"), f)
	}
	for _, s := range []string{"", "hel", "hello"} {
		cut := b.frames("given up after "+quote(s), Refuse, nil, headers(head("POST")), data(s))
		cut.Reset = true
		cut = b.frames("given up after "+quote(s)+" of 9", Refuse, nil, headers(head("POST", Field{"content-length", "9"})), data(s))
		cut.Reset = true
	}
}

// unknown has frames between others that mean nothing.
func (b *streams) unknown() {
	hello := one("POST", "hello")
	for _, s := range []string{"", "x", smuggled, strings.Repeat("x", 5000)} {
		f := Frame{Kind: kindUnknown, Payload: s}
		name := quote(s[:min(len(s), 20)])
		b.frames("unknown frames everywhere "+name, Pass, &hello, f, headers(head("POST")), f, data("hel"), f, data("lo"), f, headers([]Field{{"x-end", "x"}}), f)
		b.frames("unknown frames everywhere, with a content-length "+name, Pass, &hello, f, headers(head("POST", Field{"content-length", "5"})), f, data("hel"), f, data("lo"), f)
	}
	b.frames("an unknown frame that is large", Refuse, nil, Frame{Kind: kindUnknown, Payload: strings.Repeat("x", 100<<10)}, headers(head("GET")))
	b.frames("unknown frame alone", Refuse, nil, Frame{Kind: kindUnknown, Payload: smuggled})
}

// lengths bends what says where a frame ends.
func (b *streams) lengths() {
	hello := one("POST", "hello")
	b.frames("wide frames", Pass, &hello, Frame{Kind: kindHeaders, Fields: head("POST"), Wide: true}, Frame{Payload: "hel", Wide: true}, Frame{Kind: kindUnknown, Wide: true}, Frame{Payload: "lo", Wide: true})
	for _, n := range []int{1, 5, 64, 1 << 14, 1 << 30} {
		lacks := func(f Frame) Frame {
			f.Missing = n
			return f
		}
		name := " that lacks " + strconv.Itoa(n)
		b.frames("HEADERS"+name, Refuse, nil, lacks(headers(head("GET"))))
		b.frames("DATA"+name, Refuse, nil, headers(head("POST")), lacks(data("hello")))
		b.frames("DATA with a content-length"+name, Refuse, nil, headers(head("POST", Field{"content-length", "5"})), lacks(data("hello")))
		b.frames("trailers"+name, Refuse, nil, headers(head("POST")), data("hello"), lacks(headers([]Field{{"x-end", "x"}})))
		b.frames("an unknown frame"+name, Refuse, nil, headers(head("POST")), data("hello"), lacks(Frame{Kind: kindUnknown, Payload: "x"}))
	}
	inside := "\x00\x05hello\x01\x10" + inner
	whole := one("POST", inside)
	b.frames("frames within DATA", Pass, &whole, headers(head("POST")), data(inside))
}

// sections bends what QPACK says (RFC 9204 section 4.5).
func (b *streams) sections() {
	hello := one("POST", "hello")
	b.frames("section without fields", Refuse, nil, Frame{Kind: kindHeaders, Payload: "\x00\x00"})
	b.frames("trailers without fields", Either, &hello, headers(head("POST")), data("hello"), Frame{Kind: kindHeaders, Payload: "\x00\x00"})
	for name, s := range map[string]string{
		"empty":                                "",
		"of the dynamic table":                 "\x02\x00\x80",
		"an entry of the dynamic table":        "\x00\x00\x80",
		"an entry past the base":               "\x00\x00\x10",
		"a name of the dynamic table":          "\x00\x00\x40\x01x",
		"a name past the base":                 "\x00\x00\x00\x01x",
		"a base before nothing":                "\x00\x80",
		"past the static table":                "\x00\x00\xff\x24",
		"a name past the static table":         "\x00\x00\x5f\x54\x01x",
		"a name that is cut short":             "\x00\x00\x27\x7fx",
		"a value that is cut short":            "\x00\x00\x21x\x7fx",
		"a number without an end":              "\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"Huffman that ends within a character": "\x00\x00\x21x\x81\x00",
		"Huffman with its end as character":    "\x00\x00\x21x\x84\xff\xff\xff\xff",
	} {
		f := Frame{Kind: kindHeaders, Payload: s}
		b.frames("section "+name, Refuse, nil, f)
		b.frames("trailers "+name, Refuse, nil, headers(head("POST")), data("hello"), f)
	}
}
