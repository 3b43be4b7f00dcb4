package garden

import (
	"fmt"
	"strings"
)

const host = "Host: {host}\r\n"

// controls are the octets that no token, target or value may hold, but for
// what ends a line.
func controls() (list []byte) {
	for c := byte(0); c < 0x20; c++ {
		if c != '\t' && c != '\n' && c != '\r' {
			list = append(list, c)
		}
	}
	return append(list, 0x7f)
}

// lines bends request lines, versions and line ends.
func (b *bed) lines() {
	b.family = "line"
	for _, s := range []string{"GET /one-{id}", "GET  /one-{id} HTTP/1.1", "GET /one-{id}  HTTP/1.1", "GET\t/one-{id} HTTP/1.1", "GET /one-{id}\tHTTP/1.1", "GET\x0b/one-{id} HTTP/1.1", "GET\x0c/one-{id} HTTP/1.1", "GET /one-{id}\x0bHTTP/1.1",
		" GET /one-{id} HTTP/1.1", "\tGET /one-{id} HTTP/1.1", "\x00GET /one-{id} HTTP/1.1", "GET/one-{id} HTTP/1.1", "/one-{id} HTTP/1.1", " /one-{id} HTTP/1.1", "GET HTTP/1.1", "GET  HTTP/1.1", "GET", "",
		"GET /one-{id} HTTP/1.1 HTTP/1.1", "GET /one-{id} HTTP/1.1 /two-{id} HTTP/1.1", "GET /one-{id} HTTP/1.1 ", "GET /one-{id} HTTP/1.1\t", "GET /one-{id} x HTTP/1.1",
		"G@T /one-{id} HTTP/1.1", "GE\tT /one-{id} HTTP/1.1", "GET: /one-{id} HTTP/1.1", "\"GET\" /one-{id} HTTP/1.1", "(GET) /one-{id} HTTP/1.1", "GET, /one-{id} HTTP/1.1", "G\xc3\x89T /one-{id} HTTP/1.1", "GET\xa0/one-{id} HTTP/1.1",
		"PRI * HTTP/2.0", "PRI /one-{id} HTTP/1.1 ", "HTTP/1.1 200 OK", "GET /one-{id}\rX HTTP/1.1", "GET /one-{id} HTTP/1.1\rX: x", "GET\r/one-{id} HTTP/1.1", "GET /one-{id}\x00 HTTP/1.1", "\xef\xbb\xbfGET /one-{id} HTTP/1.1"} {
		b.refuse(quote(s), s+"\r\n"+host+"\r\n"+smuggled)
	}
	for _, v := range []string{"HTTP/0.9", "HTTP/1.2x", "HTTP/2.0", "HTTP/2", "HTTP/3", "HTTP/3.0", "HTTP/9.9", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.10", "HTTP/1.01", "HTTP/01.1", "HTTP/11", "HTTP/1,1", "HTTP/1:1", "HTTP/1.1.1", "HTTP/-1.1", "HTTP/+1.1", "HTTP/1.-1",
		"http/1.1", "Http/1.1", "HTTp/1.1", "HTTPS/1.1", "HTTP1.1", "HTTP /1.1", "HTTP/ 1.1", "HTTP/1 .1", "HTTP/1.1a", "HTTP/a.b", "HTTP\\1.1", "ICY/1.1", "XTTP/1.1", "RTSP/1.0", "SIP/2.0", "HTTP/1.1\x00", "HTTP/1.\xb1", "HTTP/4294967297.1", "HTTP/1.4294967297"} {
		b.refuse("version "+quote(v), "GET /one-{id} "+v+"\r\n"+host+"\r\n"+smuggled)
	}
	b.either("version HTTP/1.2", "GET /one-{id} HTTP/1.2\r\n"+host+"Connection: close\r\n\r\n", one("GET", ""))
	b.refuse("HTTP/0.9 and another", "GET /one-{id}\r\n"+smuggled)
	b.refuse("HTTP/0.9 and no end", "GET /one-{id}\r\n")
	b.list[len(b.list)-1].Starves = true
	for _, m := range []string{"get", "Get", "GETX", "X", "M-SEARCH", "GET.", "!#$%&'*+-.^_`|~", "PROPFIND", strings.Repeat("A", 30)} {
		b.either("method "+quote(m), m+" /one-{id} HTTP/1.1\r\n"+host+"\r\n"+second, one(m, ""), seenSecond)
	}
	for _, m := range []string{strings.Repeat("A", 100<<10), "A" + strings.Repeat(" ", 5)} {
		b.refuse("method "+quote(m), m+" /one-{id} HTTP/1.1\r\n"+host+"\r\n"+smuggled)
	}
	b.either("TRACE", "TRACE /one-{id} HTTP/1.1\r\n"+host+"Authorization: secret\r\n\r\n"+second, one("TRACE", ""), seenSecond)
	b.refuse("preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+smuggled)
	for _, c := range controls() {
		b.refuse(fmt.Sprintf("control %02x in the method", c), "GE"+string(c)+"T /one-{id} HTTP/1.1\r\n"+host+"\r\n"+smuggled)
		b.refuse(fmt.Sprintf("control %02x before the method", c), string(c)+"GET /one-{id} HTTP/1.1\r\n"+host+"\r\n"+smuggled)
		b.refuse(fmt.Sprintf("control %02x in the target", c), "GET /one-{id}"+string(c)+" HTTP/1.1\r\n"+host+"\r\n"+smuggled)
		b.refuse(fmt.Sprintf("control %02x after the version", c), "GET /one-{id} HTTP/1.1"+string(c)+"\r\n"+host+"\r\n"+smuggled)
	}
	b.ends()
}

// ends bends the ends of lines, and puts what is no line before, between and
// behind.
func (b *bed) ends() {
	b.family = "end"
	lines := []string{"POST /one-{id} HTTP/1.1", "Host: {host}", "X: x", "Content-Length: 5", ""}
	for i := range lines {
		for _, end := range []string{"\n", "\r", "\r\r\n", "\n\r", "\n\r\n", "\x00\r\n", "\r\n\r", "\x85", "\xe2\x80\xa8", "\x0b\r\n", "\x0c\r\n"} {
			if lines[i] == "" && end == "\r\n\r" || lines[i] == "X: x" && end[0] >= 0x80 {
				continue // by the letter: a body that begins with CR, a value with what is not ASCII
			}
			s := ""
			for j, l := range lines {
				if j == i {
					s += l + end
				} else {
					s += l + "\r\n"
				}
			}
			b.add(fmt.Sprintf("of line %d by %s", i, quote(end)), s+"hello "+smuggled, Refuse).Starves = true
		}
	}
	b.refuse("all by LF", "POST /one-{id} HTTP/1.1\nHost: {host}\nContent-Length: 5\n\nhello"+smuggled)
	b.refuse("all by CR", "POST /one-{id} HTTP/1.1\rHost: {host}\rContent-Length: 5\r\rhello"+smuggled)
	for _, s := range []string{"\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n\r\n"} {
		b.either("begun with "+quote(s), s+get("Connection: close\r\n"), one("GET", ""))
	}
	for _, s := range []string{"\n", "\r", "\n\n", "\r\r\n", " \r\n", "\x00\r\n", "\t\r\n", "x\r\n", "0\r\n\r\n", "\r\n ", "\r\n\t"} {
		b.refuse("begun with "+quote(s), s+get("")+smuggled)
		b.either("second begun with "+quote(s), get("")+s+smuggled, one("GET", ""))
	}
	for _, s := range []string{" \r\n", "\t\r\n", " X: x\r\n", "\tX: x\r\n", "\x0bX: x\r\n", ": x\r\n", " : x\r\n", "X\r\n", "=x\r\n", "GET /smuggled-{id} HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n"} {
		b.refuse("first field "+quote(s), "GET /one-{id} HTTP/1.1\r\n"+s+host+"\r\n"+smuggled)
		b.refuse("last field "+quote(s), get(s)+smuggled)
	}
	for _, s := range []string{" y\r\n", "\ty\r\n", "  \r\n", "\t\r\n", " Host: spoofed.example\r\n", " Content-Length: 5\r\n", "\x0by\r\n"} {
		b.refuse("fold of Host "+quote(s), "GET /one-{id} HTTP/1.1\r\n"+host+s+"\r\n"+smuggled)
		b.refuse("fold of X "+quote(s), get("X: x\r\n"+s)+smuggled)
		b.refuse("fold of the length "+quote(s), post("Content-Length: 5\r\n"+s, "hello"+smuggled))
	}
}

// targets bends request targets.
func (b *bed) targets() {
	b.family = "target"
	for _, t := range []string{"one-{id}", "one-{id}/", "{host}/one-{id}", "{host}", "?one-{id}", "#", "", "\\one-{id}", ".", "%2Fone-{id}", ":80/one-{id}", "*", "*/one-{id}", "/one-{id}#", "/one-{id}#x", "#/one-{id}", "/one-{id}?x#y",
		"http:/one-{id}", "http:///one-{id}", "http://", "http:one-{id}", "http:", "http//{host}/one-{id}", "://{host}/one-{id}", "ftp://{host}/one-{id}", "file:///one-{id}", "javascript:one-{id}", "ht tp://{host}/one-{id}", "h\x00ttp://{host}/one-{id}", "ws://{host}/one-{id}", "gopher://{host}/one-{id}",
		"http://spoofed.example/one-{id}", "http://{host}.spoofed.example/one-{id}", "http://{host}@spoofed.example/one-{id}", "http://{host}:80@spoofed.example/one-{id}", "http://spoofed.example\\@{host}/one-{id}", "http://user@{host}/one-{id}", "http://user:pw@{host}/one-{id}", "http://@{host}/one-{id}",
		"http://{host}#@spoofed.example/one-{id}", "http://{host}\\one-{id}", "http://{host} /one-{id}", "http://{host}:99999/one-{id}", "http://{host}:x/one-{id}", "http://{host}:80:80/one-{id}", "http://[{host}/one-{id}", "http://%2e{host}/one-{id}", "http://{host}%00/one-{id}", "http://{host},spoofed.example/one-{id}",
		"/one-{id}\xff", "/\xc3\xa9/one-{id}", "/one-{id}\xe2\x80\xae", "/one-{id}\x80", "/one ID", "/one-{id} HTTP/1.1\tx", "/one-{id}\tx", "/one-{id}%00", "/%00/one-{id}", "/one-{id}%", "/one-{id}%2", "/one-{id}%zz", "/one-{id}%%41", "/one-{id}%u0041"} {
		want := b.add(quote(t), "GET "+t+" HTTP/1.1\r\n"+host+"\r\n"+smuggled, Refuse)
		if strings.HasPrefix(t, "/") && strings.Contains(t, "%") {
			// Escapes are the endpoint's to judge, as long as they stay what they are.
			want.Want, want.Octets = Either, Octets("GET "+t+" HTTP/1.1\r\n"+host+"\r\n"+second)
			want.Seen = []Seen{one("GET", ""), seenSecond}
		}
	}
	for _, t := range []string{"/one-{id}", "/one-{id}?", "/one-{id}?a=b&c=d", "/one-{id}/a%2fb", "/one-{id};v=1", "/one-{id}/~!$&'()*+,;=:@", "/one-{id}?/?//"} {
		b.pass(quote(t), "GET "+t+" HTTP/1.1\r\n"+host+"\r\n"+second, one("GET", ""), seenSecond)
	}
	for _, t := range []string{"http://{host}/one-{id}", "HTTP://{host}/one-{id}", "http://{host}:80/one-{id}", "https://{host}/one-{id}", "http://{host}./one-{id}", "//one-{id}", "///one-{id}", "//{host}/one-{id}", "//spoofed.example/one-{id}", "/./one-{id}", "/../one-{id}", "/../../one-{id}", "/x/../one-{id}", "/%2e%2e/one-{id}", "/x/%2e%2e/one-{id}", "/x/..%2fone-{id}", "/x/..;/one-{id}", "/x\\..\\one-{id}", "/x%5c..%5cone-{id}",
		"/one-{id}?a=%20%0d%0a", "/one-{id}\\", "/one-{id}/", "/one-{id}//", "/one-{id}/.", "/one-{id}/..", "/one-{id}\"", "/one-{id}<>", "/one-{id}^`{|}", "/one-{id}[]", "/one-{id}?\"<>\\^`{|}", "/one-{id}?x=http://spoofed.example/", "/one-{id}:80", "/one-{id}?" + strings.Repeat("a=b&", 1000), "/" + strings.Repeat("a/", 1000) + "one-{id}", "/one-{id}%20HTTP/1.1%0d%0aX:%20spoofed", "/one-{id}%0d%0aX:spoofed", "/one-{id}%0aX:spoofed"} {
		b.either(quote(t), "GET "+t+" HTTP/1.1\r\n"+host+"\r\n"+second, one("GET", ""), seenSecond)
	}
	for _, n := range []int{70 << 10, 300 << 10} {
		b.refuse(fmt.Sprintf("of %d octets", n), "GET /one-{id}"+strings.Repeat("x", n)+" HTTP/1.1\r\n"+host+"\r\n"+smuggled)
	}
	b.either("OPTIONS *", "OPTIONS * HTTP/1.1\r\n"+host+"Connection: close\r\n\r\n", Seen{"*", "OPTIONS", ""})
	for _, t := range []string{"{host}:80", "{host}:443", "{host}", "/one-{id}", "*", "http://{host}/one-{id}", "user@{host}:80", "{host}:", "{host}:0", "[::1]:80", "127.0.0.1:80", "{host}:80/one-{id}", ":80", ""} {
		b.refuse("CONNECT "+quote(t), "CONNECT "+t+" HTTP/1.1\r\n"+host+"\r\n"+smuggled)
		b.refuse("CONNECT "+quote(t)+" of its own Host", "CONNECT "+t+" HTTP/1.1\r\nHost: "+t+"\r\nContent-Length: 0\r\n\r\n"+smuggled)
	}
}
