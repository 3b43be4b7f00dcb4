package garden

import "strings"

// Field is a field of HTTP/2 or HTTP/3, as it is encoded.
type Field struct{ Name, Value string }

// Stream is one hostile request over HTTP/2 or HTTP/3; {host} and {id} stand in
// its values as in Octets. Another request, two, follows on the same connection.
type Stream struct {
	Name     string
	Fields   []Field
	Body     []string // one DATA frame each; none: the head ends the stream
	Trailers []Field
	Want     Want
	Seen     []Seen  // but for two, which endpoints may see always
	Frames   []Frame // over HTTP/3 alone: these, in the place of Fields, Body and Trailers
	Reset    bool    // they are not ended but given up
}

// For puts a host and an id into a field's value.
func (f Field) For(host, id string) Field {
	return Field{f.Name, Octets(f.Value).For(host, id)}
}

// head is a request's pseudo-fields, POST where there is a body.
func head(method string, more ...Field) []Field {
	return append([]Field{{":method", method}, {":scheme", "https"}, {":authority", "{host}"}, {":path", "/one-{id}"}}, more...)
}

// with is a head in which one pseudo-field has another value.
func with(name, value string, more ...Field) []Field {
	list := head("GET", more...)
	for i := range list {
		if list[i].Name == name {
			list[i].Value = value
		}
	}
	return list
}

// without is a head that lacks a pseudo-field.
func without(name string, more ...Field) []Field {
	var list []Field
	for _, f := range head("GET", more...) {
		if f.Name != name {
			list = append(list, f)
		}
	}
	return list
}

// Streams gives every request over HTTP/2 and HTTP/3.
func Streams() []Stream {
	b := new(streams)
	b.values()
	b.pseudo()
	b.framing()
	b.ends()
	return b.list
}

type streams struct{ list []Stream }

func (b *streams) add(name string, want Want, fields []Field, seen *Seen, body ...string) *Stream {
	s := Stream{Name: name, Fields: fields, Body: body, Want: want}
	if seen != nil {
		s.Seen = []Seen{*seen}
	}
	b.list = append(b.list, s)
	return &b.list[len(b.list)-1]
}

func (b *streams) refuse(name string, fields []Field, body ...string) {
	b.add(name, Refuse, fields, nil, body...)
}

// values puts what HTTP/1.1 would read as its own syntax into names and values.
func (b *streams) values() {
	injections := []string{"x\r\nInjected: spoofed", "x\nInjected: spoofed", "x\rInjected: spoofed", "x\x00y", "x\r\n\r\n" + smuggled, "x\n\n" + smuggled, "x\r\n", "x\n", "x\r", "\r\nx", "\nx", "x\r\n y", "x\x01", "x\x0b", "x\x0c", "x\x1f", "x\x7f",
		"x HTTP/1.1\r\nInjected: spoofed\r\n\r\n", "x HTTP/1.1\r\nHost: spoofed.example\r\n\r\n" + smuggled, "x\r\nTransfer-Encoding: chunked", "x\r\nContent-Length: 5"}
	for _, v := range injections {
		b.refuse("value "+quote(v), head("GET", Field{"x", v}))
		b.refuse("cookie "+quote(v), head("GET", Field{"cookie", v}))
		b.refuse("forwarded "+quote(v), head("GET", Field{"x-request-id", v}, Field{"x-forwarded-for", v}))
		b.refuse("name "+quote(v), head("GET", Field{v, "x"}))
		b.refuse("path "+quote(v), with(":path", "/one-{id}"+v))
		b.refuse("method "+quote(v), with(":method", "GET"+v))
		b.refuse("authority "+quote(v), with(":authority", "{host}"+v))
		b.refuse("scheme "+quote(v), with(":scheme", "https"+v))
		b.refuse("host "+quote(v), without(":authority", Field{"host", "{host}" + v}))
	}
	for _, n := range []string{"X", "xY", "Content-Length", "Transfer-Encoding", "x:y", "x: y", ":x", "x:", "", " ", " x", "x ", "x y", "x\t", "x\xff", "x\xc3\xa9", "(x)", "x\"", "x/y", "x@y", "x,y", "x;y", "x=y", "{x}", "transfer-encoding: chunked\r\nx", "content-length\r", "host:", "x\x00"} {
		b.refuse("name "+quote(n), head("GET", Field{n, "x"}))
	}
	get := one("GET", "")
	for _, v := range []string{"", " x", "x ", "\tx\t", "a\tb", "\xff", "\xc3\xa9", "%0d%0aInjected:%20spoofed", "a: b"} {
		b.add("value "+quote(v), Either, head("GET", Field{"x", v}), &get)
	}
	for _, n := range []string{"x_y", "transfer_encoding", "content_length", "x", "!#$%&'*+-.^_`|~"} {
		b.add("name "+quote(n), Either, head("GET", Field{n, "0"}), &get)
	}
	for _, n := range []string{"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "x_forwarded_for", "x-forwarded_host"} {
		b.add("spoof "+n, Either, head("GET", Field{n, "spoofed"}), &get)
		b.add("spoof twice "+n, Either, head("GET", Field{n, "spoofed"}, Field{n, "spoofed"}), &get)
	}
	b.add("cookies in crumbs", Pass, head("GET", Field{"cookie", "a=b"}, Field{"cookie", "c=d"}), &get)
	b.refuse("value of 100 KB", head("GET", Field{"x", strings.Repeat("x", 100<<10)}))
	b.refuse("5,000 fields", head("GET", many(5000)...))
}

func many(n int) (list []Field) {
	for range n {
		list = append(list, Field{"x", "x"})
	}
	return list
}

// pseudo bends the pseudo-fields.
func (b *streams) pseudo() {
	get := one("GET", "")
	for _, n := range []string{":method", ":scheme", ":path"} {
		b.refuse("without "+n, without(n))
		b.refuse("empty "+n, with(n, ""))
	}
	for _, f := range head("GET") {
		b.refuse("twice "+f.Name, head("GET", f))
		b.refuse("late "+f.Name, append(without(f.Name, Field{"x", "x"}), f))
		b.refuse("another "+f.Name, append([]Field{{f.Name, "spoofed.example"}}, head("GET")...))
	}
	for _, n := range []string{":status", ":x", ":", ":Path", ":host", ":protocol", ":path ", ":authority\r"} {
		b.refuse("unknown "+quote(n), append([]Field{{n, "200"}}, head("GET")...))
	}
	for _, v := range []string{"one-{id}", "*", "?one-{id}", "#", "http://{host}/one-{id}", "https://spoofed.example/one-{id}", "/one-{id} x", "/one-{id} HTTP/1.1", " /one-{id}", "/one-{id} ", "/one-{id}\t", "/one-{id}#x", "/one-{id}\x80", "/\xc3\xa9/one-{id}", "\\one-{id}", "/one-{id}\x00"} {
		b.refuse(":path "+quote(v), with(":path", v))
	}
	for _, v := range []string{"//one-{id}", "/../one-{id}", "/x/%2e%2e/one-{id}", "/one-{id}%0d%0aX:%20y", "/one-{id}%00", "/one-{id}?x=\"<>", "/one-{id}\\"} {
		b.add(":path "+quote(v), Either, with(":path", v), &get)
	}
	for _, v := range []string{"GET /smuggled-{id} HTTP/1.1", "GE T", "G@T", "GET:", "\"GET\"", "G\xc3\x89T", " GET", "GET ", "\tGET"} {
		b.refuse(":method "+quote(v), with(":method", v))
	}
	for _, v := range []string{"ftp", "file", "javascript", "https:", "https://x", "ht tp", "://", "h\x00"} {
		b.refuse(":scheme "+quote(v), with(":scheme", v))
	}
	b.add(":scheme http", Either, with(":scheme", "http"), &get)
	for _, v := range []string{"user@{host}", "{host}@spoofed.example", "{host}/", "/{host}", "{host}?x", "{host}#x", "{host} x", "{host},{host}", "{host}:x", "{host}:80:80", "[{host}", "http://{host}", "spoofed.example", "{host}.spoofed.example", "{host}\x00", "%2e{host}", "*"} {
		b.refuse(":authority "+quote(v), with(":authority", v))
		b.refuse("host beside it "+quote(v), head("GET", Field{"host", v}))
		b.refuse("host alone "+quote(v), without(":authority", Field{"host", v}))
	}
	b.refuse("two hosts", head("GET", Field{"host", "{host}"}, Field{"host", "{host}"}))
	b.refuse("two hosts alone", without(":authority", Field{"host", "{host}"}, Field{"host", "spoofed.example"}))
	b.refuse("no authority and no host", without(":authority"))
	b.add("host beside it, the same", Either, head("GET", Field{"host", "{host}"}), &get)
	b.add("host alone", Either, without(":authority", Field{"host", "{host}"}), &get)
	b.refuse("CONNECT", []Field{{":method", "CONNECT"}, {":authority", "{host}:443"}})
	b.refuse("CONNECT with a path", with(":method", "CONNECT"))
	b.refuse("CONNECT of another protocol", with(":method", "CONNECT", Field{":protocol", "spoofed"}))
	tunnel := append([]Field{{":protocol", "websocket"}}, with(":method", "CONNECT")...)
	b.add("CONNECT of WebSocket", Either, tunnel, &get)
	b.add("CONNECT of WebSocket before a request", Either, tunnel, &get, smuggled)
}

// inner is a request that is a body as a whole.
const inner = "GET /smuggled-0 HTTP/1.1\r\nHost: spoofed.example\r\n\r\n"

// framing bends what says where a body ends.
func (b *streams) framing() {
	hello := one("POST", "hello")
	for _, f := range []Field{{"transfer-encoding", "chunked"}, {"transfer-encoding", "identity"}, {"transfer-encoding", ""}, {"connection", "close"}, {"connection", "keep-alive"}, {"connection", "x"}, {"connection", ""}, {"keep-alive", "timeout=5"}, {"proxy-connection", "close"}, {"upgrade", "websocket"}, {"upgrade", "h2c"}, {"te", "gzip"}, {"te", "trailers, gzip"}, {"te", "chunked"}} {
		b.refuse(f.Name+" "+quote(f.Value), head("POST", f), "hello")
		b.refuse(f.Name+" "+quote(f.Value)+" and chunks", head("POST", f), "0\r\n\r\n"+smuggled)
		b.refuse(f.Name+" "+quote(f.Value)+" without a body", head("GET", f))
	}
	b.add("te trailers", Pass, head("POST", Field{"te", "trailers"}), &hello, "hello")
	for _, n := range []string{"0", "1", "4", "6", "1000", "18446744073709551621", "+5", "-5", "0x5", "5 ", " 5", "5,5", "5, 6", "5\x00", "five", "", "5.0", "5\r\nx: y", "5;5"} {
		b.refuse("content-length "+quote(n), head("POST", Field{"content-length", n}), "hello")
		b.refuse("content-length 5 and "+quote(n), head("POST", Field{"content-length", "5"}, Field{"content-length", n}), "hello")
		if n != "0" {
			b.refuse("content-length "+quote(n)+" and no body", head("POST", Field{"content-length", n}))
		}
	}
	b.refuse("content-length before a request", head("POST", Field{"content-length", "0"}), smuggled)
	b.refuse("content-length that ends before a request", head("POST", Field{"content-length", "5"}), "hello", smuggled)
	b.add("content-length 5", Pass, head("POST", Field{"content-length", "5"}), &hello, "hello")
	b.add("content-length 5 in three frames", Pass, head("POST", Field{"content-length", "5"}), &hello, "he", "", "llo")
	b.add("no content-length", Pass, head("POST"), &hello, "hel", "lo")
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		seen := one(m, inner)
		b.add(m+" with a request as body", Either, head(m), &seen, inner)
		hidden := one(m, "0\r\n\r\n"+inner)
		b.add(m+" with an end of chunks as body", Either, head(m), &hidden, "0\r\n\r\n"+inner)
		empty := one(m, "")
		b.add(m+" with an empty body", Either, head(m), &empty, "")
	}
	for _, v := range []string{"100-continue", "x"} {
		b.add("expect "+v, Either, head("POST", Field{"expect", v}), &hello, "hello")
	}
}

// ends bends trailers.
func (b *streams) ends() {
	hello := one("POST", "hello")
	for _, f := range []Field{{":path", "/smuggled-{id}"}, {":method", "GET"}, {":status", "200"}, {"X", "x"}, {"x:y", "x"}, {"", "x"}, {"x", "x\r\nInjected: spoofed"}, {"x", "x\n\n" + smuggled}, {"x\r\n", "x"}, {"x", "\x00"}, {"x y", "x"}} {
		b.add("trailer "+quote(f.Name+": "+f.Value), Refuse, head("POST"), nil, "hello").Trailers = []Field{f}
	}
	for _, f := range []Field{{"x-end", "x"}, {"content-length", "5"}, {"content-length", "1000"}, {"transfer-encoding", "chunked"}, {"host", "spoofed.example"}, {"connection", "close"}, {"x-forwarded-for", "spoofed"}, {"authorization", "spoofed"}, {"trailer", "x"}, {"te", "trailers"}} {
		b.add("trailer "+quote(f.Name+": "+f.Value), Either, head("POST"), &hello, "hello").Trailers = []Field{f}
	}
}
