package garden

import (
	"fmt"
	"strconv"
	"strings"
)

// hosts bends Host.
func (b *bed) hosts() {
	b.family = "host"
	line := "GET /one-{id} HTTP/1.1\r\n"
	b.refuse("missing", line+"\r\n"+smuggled)
	b.refuse("missing in HTTP/1.0", "GET /one-{id} HTTP/1.0\r\n\r\n"+smuggled)
	for _, h := range []string{"{host}", "spoofed.example", "", "{host}:80", "x"} {
		b.refuse("twice, then "+quote(h), line+host+"Host: "+h+"\r\n\r\n"+smuggled)
		b.refuse("twice, first "+quote(h), line+"Host: "+h+"\r\n"+host+"\r\n"+smuggled)
		b.refuse("twice apart, then "+quote(h), line+host+"X: x\r\nhost: "+h+"\r\n\r\n"+smuggled)
	}
	for _, h := range []string{"user@{host}", "user:pw@{host}", "@{host}", "{host}@spoofed.example", "{host}/", "{host}/x", "/{host}", "//{host}", "http://{host}", "{host}?x", "{host}#x", "{host}\\x", "{host} x", "x {host}", "{host}\tx", "{host},{host}", "{host}, spoofed.example", "{host};x", "{host}:80:80", "{host}:x", "{host}:-1", "{host}:+80",
		"{host}:8 0", "{host}: 80", "{host} :80", "[{host}", "{host}]", "[{host}]", "[::1", "[::1]x", "::1", "[::g]", "%2e{host}", "{host}%00", "{host}%", "{host}\x00", "\x00{host}", "{host}\x0b", "{host}\xa0", "\xc3\xb6{host}", "{host}\xe3\x80\x82", "({host})", "\"{host}\"", "<{host}>", "{host}|x", "{host}^", "{host}`", "{{host}}", "*", "*.{host}", "{host}\rX: x", "{host}\nX: x", "{host}\r\n .spoofed.example", "\r\n {host}"} {
		b.refuse(quote(h), line+"Host: "+h+"\r\n\r\n"+smuggled)
	}
	for _, h := range []string{"{host}.", "{host}:80", "{host}:443", "{host}:", "{host}:080", "{host}:0", "{host}:65535", "{host}:99999", "  {host}  ", "\t{host}\t"} {
		b.either(quote(h), line+"Host: "+h+"\r\n\r\n"+second, one("GET", ""), seenSecond)
	}
	// Names that no service can have; the connection may go on.
	for _, h := range []string{"", " ", "..{host}", "{host}..", ".{host}", ".", strings.Repeat("a", 300) + ".{host}", strings.Repeat("a.", 130) + "{host}"} {
		b.either(quote(h), line+"Host: "+h+"\r\n\r\n"+second, seenSecond)
	}
	for _, n := range []string{"Host ", "Host\t", "Host\x0b", "Host\x0c", "Host\x00", " Host", "\tHost", "Ho st", "Ho\x00st", "H\xc3\xb6st", "Host\xa0", "Host\r", "Host\n", "Host_", "X-Host", "Hosts"} {
		b.refuse("named "+quote(n)+" alone", line+n+": {host}\r\n\r\n"+smuggled)
		if n == "Host_" || n == "X-Host" || n == "Hosts" {
			continue
		}
		b.refuse("named "+quote(n)+" too", line+host+n+": spoofed.example\r\n\r\n"+smuggled)
	}
	for _, h := range []string{"spoofed.example", "{host}.", "{host}:8080", "", "user@{host}"} {
		b.refuse("other than the absolute form, "+quote(h), "GET http://{host}/one-{id} HTTP/1.1\r\nHost: "+h+"x\r\n\r\n"+smuggled)
	}
}

// fields bends names and values.
func (b *bed) fields() {
	b.family = "field"
	for _, c := range controls() {
		b.refuse(fmt.Sprintf("control %02x in a name", c), get("X"+string(c)+"Y: x\r\n")+smuggled)
		b.refuse(fmt.Sprintf("control %02x before the colon", c), get("X"+string(c)+": x\r\n")+smuggled)
		b.refuse(fmt.Sprintf("control %02x before a name", c), get(string(c)+"X: x\r\n")+smuggled)
		b.refuse(fmt.Sprintf("control %02x in a value", c), get("X: x"+string(c)+"y\r\n")+smuggled)
		b.refuse(fmt.Sprintf("control %02x at a value's end", c), get("X: x"+string(c)+"\r\n")+smuggled)
	}
	for _, c := range " \t\"(),/;<=>?@[\\]{}" {
		b.refuse("name with "+quote(string(c)), get("X"+string(c)+"Y: x\r\n")+smuggled)
		b.refuse("name ended by "+quote(string(c)), get("X"+string(c)+": x\r\n")+smuggled)
	}
	for _, c := range []string{"\x80", "\xa0", "\xff", "\xc3\xa9", "\xef\xbc\x9a", "\xe2\x84\xaa"} {
		b.refuse("name with "+quote(c), get("X"+c+"Y: x\r\n")+smuggled)
		b.either("value with "+quote(c), get("X: x"+c+"y\r\n")+second, one("GET", ""), seenSecond)
	}
	for _, v := range []string{"x\rGET /smuggled-{id} HTTP/1.1", "x\nGET /smuggled-{id} HTTP/1.1", "x\n\nGET /smuggled-{id} HTTP/1.1", "x\r\rGET /smuggled-{id} HTTP/1.1", "x\n\r\nGET /smuggled-{id} HTTP/1.1", "x\r\r\nInjected: spoofed", "x\nInjected: spoofed", "x\rInjected: spoofed", "x\x00\nInjected: spoofed", "x\r\n\tInjected: spoofed"} {
		b.refuse("value "+quote(v), get("X: "+v+"\r\n")+smuggled)
	}
	for _, v := range []string{"", " ", "\t", "a\tb", "%0d%0aInjected:%20spoofed", "\\r\\nInjected: spoofed", "=?utf-8?q?=0D=0AInjected?=", "\xe5\x98\x8a\xe5\x98\x8dInjected: spoofed", "\"", "(", "a: b: c", ":::"} {
		b.either("value "+quote(v), get("X: "+v+"\r\n")+second, one("GET", ""), seenSecond)
	}
	for _, n := range []string{"!", "#", "$%&'*+-.^_`|~", "0", "x_y", "X_Y", "Connection_", "-", "--", strings.Repeat("n", 200), "__proto__", "constructor", "HTTP_X", "Proxy"} {
		b.either("name "+quote(n), get(n+": x\r\n")+second, one("GET", ""), seenSecond)
	}
}

// sizes are too much of everything, and much of what is allowed.
func (b *bed) sizes() {
	b.family = "size"
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, n := range []int{80 << 10, 1 << 20} {
		b.refuse("value of "+strconv.Itoa(n), get("X: "+long(n)+"\r\n")+smuggled)
		b.refuse("name of "+strconv.Itoa(n), get(long(n)+": x\r\n")+smuggled)
		b.refuse("fields of "+strconv.Itoa(n), get(strings.Repeat("Cookie: "+long(1000)+"\r\n", n/1000))+smuggled)
		b.refuse("space of "+strconv.Itoa(n), get("X:"+strings.Repeat(" ", n)+"x\r\n")+smuggled)
		b.refuse("line of "+strconv.Itoa(n), long(n)+"\r\n"+host+"\r\n"+smuggled)
		b.add("head without end of "+strconv.Itoa(n), "GET /one-{id} HTTP/1.1\r\n"+host+"X: "+long(n), Refuse).Starves = true
		b.refuse("empty lines of "+strconv.Itoa(n), strings.Repeat("\r\n", n/2)+" "+smuggled)
	}
	b.refuse("10,000 fields", get(strings.Repeat("a:\r\n", 10000))+smuggled)
	b.either("100 fields", get(strings.Repeat("X: x\r\n", 100))+second, one("GET", ""), seenSecond)
	b.either("value of 6,000", get("X: "+long(6000)+"\r\n")+second, one("GET", ""), seenSecond)
	b.refuse("chunk extension of 200 KB", withChunks("5;"+long(200<<10)+"\r\nhello\r\n0\r\n\r\n"+smuggled))
	b.refuse("chunk size of 200 KB", withChunks(strings.Repeat("0", 200<<10)+"5\r\nhello\r\n0\r\n\r\n"+smuggled))
	b.pass("body of 300 KB", post(length(long(300<<10)), long(300<<10)+second), one("POST", long(300<<10)), seenSecond)
	b.pass("chunk of 300 KB", withChunks(chunk(long(300<<10))+"0\r\n\r\n"+second), one("POST", long(300<<10)), seenSecond)
}
