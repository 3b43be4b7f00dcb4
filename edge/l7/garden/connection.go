package garden

import "strings"

// connections bends Connection, Expect and Upgrade, and what they make of the
// octets that follow.
func (b *bed) connections() {
	b.family = "connection"
	hello := one("POST", "hello")
	for _, v := range []string{"Host", "close, Host", "X-Forwarded-For", "X-Real-IP, X-Forwarded-Proto, X-Forwarded-Host", "X-Request-ID", "Forwarded", "Cookie", "Authorization", "Expect", "Trailer", "Connection", "Keep-Alive", "keep-alive", "close", "Upgrade", "upgrade, keep-alive", "TE", "transfer-encoding", ",", "", ", ,close", "close;x", "\"close\"",
		"x y", "(", "*", strings.Repeat("a,", 1000), "content-type", "range", "x, x, x"} {
		b.either(quote(v), post("Connection: "+v+"\r\nCookie: x\r\nContent-Length: 5\r\n", "hello"+second), hello, seenSecond)
	}
	for _, f := range []string{"Proxy-Connection: close", "Proxy-Connection: keep-alive", "Keep-Alive: timeout=5, max=1", "Keep-Alive: x", "Proxy-Authorization: Basic eA==", "Proxy-Authenticate: x", "TE: trailers", "TE: gzip", "TE: trailers;q=0", "HTTP2-Settings: AAMAAABkAAQAAP__", "Upgrade: h2c", "Upgrade: websocket", "Trailer: Content-Length", "Connection: close\r\nConnection: keep-alive"} {
		b.either(quote(f), post(f+"\r\nContent-Length: 5\r\n", "hello"+second), hello, seenSecond)
	}
	for _, f := range []string{"Connection: x\x00", "Connection: close\x0b", "Connection : close", "Connection: clo\rse", "Connection: close\n"} {
		b.refuse(quote(f), get(f+"\r\n")+smuggled)
	}
	b.family = "upgrade"
	key := "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for _, u := range []string{"websocket", "WebSocket", "h2c", "HTTP/2.0", "TLS/1.0", "x", "websocket, h2c", "h2c, websocket", "HTTP/1.1", "", "web socket", "websocket/13"} {
		f := "Connection: Upgrade\r\nUpgrade: " + u + "\r\n"
		b.either(quote(u), get(f+key)+second, one("GET", ""), seenSecond)
		b.either(quote(u)+" with settings", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: "+u+"\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"+key)+second, one("GET", ""), seenSecond)
		b.either(quote(u)+" with a body", post(f+key+"Content-Length: 5\r\n", "hello"+second), hello, seenSecond)
		b.either(quote(u)+" with chunks", post(f+key+"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"+second), hello, seenSecond)
	}
	b.either("version 777", get("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 777\r\n")+second, one("GET", ""), seenSecond)
	b.either("two Upgrade fields", get("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"+key)+second, one("GET", ""), seenSecond)
	b.either("without Connection", get("Upgrade: websocket\r\n"+key)+second, one("GET", ""), seenSecond)
	b.either("Connection alone", get("Connection: Upgrade\r\n"+key)+second, one("GET", ""), seenSecond)
	b.either("in HTTP/1.0", "GET /one-{id} HTTP/1.0\r\n"+host+"Connection: Upgrade\r\nUpgrade: websocket\r\n"+key+"\r\n", one("GET", ""))

	b.family = "expect"
	for _, v := range []string{"100-continue", "100-Continue", "100-CONTINUE", " 100-continue ", "100-continue, 100-continue", "100-continue, x", "100-continue;x", "100-continue=x", "x", "x=y", "200-ok", "", "100", "continue", "100-continue x", "\"100-continue\"", "y 100-continue", "100-continue\r\nExpect: 100-continue", "100-continue\r\nExpect: x"} {
		b.either(quote(v), post("Expect: "+v+"\r\nContent-Length: 5\r\n", "hello"+second), hello, seenSecond)
		b.either(quote(v)+" with chunks", post("Expect: "+v+"\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"+second), hello, seenSecond)
		b.either(quote(v)+" without a body", get("Expect: "+v+"\r\n")+second, one("GET", ""), seenSecond)
	}
	b.add("and the body never comes", post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""), Refuse).Starves = true
	b.refuse("100-continue and NUL", post("Expect: 100-continue\x00\r\nContent-Length: 5\r\n", "hello"+smuggled))
	b.refuse("100-continue and VT", post("Expect: \x0b100-continue\r\nContent-Length: 5\r\n", "hello"+smuggled))
	b.either("in HTTP/1.0", "POST /one-{id} HTTP/1.0\r\n"+host+"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", hello)
}

// followers puts well-formed and less well-formed requests behind one another.
func (b *bed) followers() {
	b.family = "pipeline"
	const inner = "GET /smuggled-0 HTTP/1.1\r\nHost: spoofed.example\r\n\r\n"
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT", "QUERY"} {
		line := m + " /one-{id} HTTP/1.1\r\n" + host
		b.either(m+" without a body", line+"\r\n"+second, one(m, ""), seenSecond)
		b.either(m+" with length 0", line+"Content-Length: 0\r\n\r\n"+second, one(m, ""), seenSecond)
		// A method that one reader thinks has no body.
		b.either(m+" with a request as body", line+length(inner)+"\r\n"+inner+second, one(m, inner), seenSecond)
		b.either(m+" with a request in chunks", line+"Transfer-Encoding: chunked\r\n\r\n"+chunk(inner)+"0\r\n\r\n"+second, one(m, inner), seenSecond)
		b.either(m+" with garbage behind", line+"Content-Length: 5\r\n\r\nhello("+smuggled, one(m, "hello"))
	}
	third := "GET /three-{id} HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n"
	b.pass("three", get("")+"GET /two-{id} HTTP/1.1\r\n"+host+"\r\n"+third, one("GET", ""), seenSecond, Seen{"three", "GET", ""})
	b.pass("a body in the middle", get("")+"POST /two-{id} HTTP/1.1\r\n"+host+length(inner)+"\r\n"+inner+third, one("GET", ""), Seen{"two", "POST", inner}, Seen{"three", "GET", ""})
	b.pass("after close", get("Connection: close\r\n")+smuggled, one("GET", ""))
	b.pass("after a body and close", post("Connection: close\r\nContent-Length: 5\r\n", "hello"+smuggled), one("POST", "hello"))
	b.pass("after chunks and close", post("Connection: close\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"+smuggled), one("POST", "hello"))
	b.pass("CRLF behind a body", post("Content-Length: 5\r\n", "hello\r\n"+second), one("POST", "hello"), seenSecond)
	b.list[len(b.list)-1].Want = Either
	b.either("HTTP/1.0", "GET /one-{id} HTTP/1.0\r\n"+host+"\r\n"+smuggled, one("GET", ""))
	b.either("HTTP/1.0 kept alive", "GET /one-{id} HTTP/1.0\r\n"+host+"Connection: keep-alive\r\n\r\n"+second, one("GET", ""), seenSecond)
	b.either("HTTP/1.0 with a body", "POST /one-{id} HTTP/1.0\r\n"+host+"Content-Length: 5\r\n\r\nhello"+smuggled, one("POST", "hello"))
	b.either("HTTP/1.0 with a body of no length", "POST /one-{id} HTTP/1.0\r\n"+host+"\r\n"+smuggled, one("POST", ""))
	for _, s := range []string{"0\r\n\r\n", "hello ", "HTTP/1.1 200 OK\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"} {
		b.refuse("begun with "+quote(s), s+smuggled)
		b.either("second begun with "+quote(s), get("")+s+smuggled, one("GET", ""))
	}
	b.refuse("message in HTTP/1.1 without a length", "POST /one-{id} HTTP/1.1\r\nHost: spoofed.example\r\n\r\nhello "+smuggled)
}

// spoofs says about the client what only the gateway may say. What an endpoint
// sees of these fields must not hold the word spoofed.
func (b *bed) spoofs() {
	b.family = "spoof"
	for _, n := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-IP", "Forwarded", "x-forwarded-for", "X-FORWARDED-HOST", "X_Forwarded_For", "X_Forwarded-For", "x_real_ip", "X-Forwarded_Proto", "X_FORWARDED_HOST"} {
		v := "spoofed"
		if strings.EqualFold(n, "Forwarded") {
			v = "for=spoofed;host=spoofed.example"
		}
		b.either(n, get(n+": "+v+"\r\n")+second, one("GET", ""), seenSecond)
		b.either(n+" twice", get(n+": "+v+"\r\n"+n+": "+v+"\r\n")+second, one("GET", ""), seenSecond)
		b.either(n+" with commas", get(n+": 127.0.0.1, "+v+", ::1\r\n")+second, one("GET", ""), seenSecond)
		b.either(n+" listed by Connection", get("Connection: "+n+"\r\n"+n+": "+v+"\r\n")+second, one("GET", ""), seenSecond)
		b.refuse(n+" with space", get(n+" : "+v+"\r\n")+smuggled)
	}
	b.either("X-Request-ID", get("X-Request-ID: spoofed spoofed\r\n")+second, one("GET", ""), seenSecond)
	b.either("X-Request-ID twice", get("X-Request-ID: spoofed\r\nX-Request-ID: spoofed2\r\n")+second, one("GET", ""), seenSecond)
	b.either("X-Request-ID too long", get("X-Request-ID: "+strings.Repeat("spoofed", 100)+"\r\n")+second, one("GET", ""), seenSecond)
}
