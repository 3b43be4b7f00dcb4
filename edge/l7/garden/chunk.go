package garden

import "strings"

// withChunks is the first request with its body in chunks as they stand.
func withChunks(chunks string) string { return post("Transfer-Encoding: chunked\r\n", chunks) }

// chunks bends the sizes, extensions and ends of chunks.
func (b *bed) chunks() {
	b.family = "chunk"
	for _, s := range []string{"+5", "-5", "0x5", "0X5", " 5", "\t5", "5_", "5h", "g", "", "five", "5.0", "5,5", "5 5", "#5", "=5", "\"5\"", "(5)", "5:", "5\x00", "\x005", "5\x0b", "5\xa0", "\xa05", "\xef\xbc\x95",
		"10000000000000005", "100000000000000000000000000000005", "fffffffffffffffb", "-fffffffffffffffb", "8000000000000005", "ffffffffffffffff5",
		"5\r", "5\r\r", "5\rX", "5\nX", "5\n\n", "5;a\rb", "5;a\nb", "5;a=\"\r\n\"", "5;a=\"\n\"", "5;a\r", "5;a=\x00", "5;a=\x01", "5;\x7f", "5;\x00", "5;a\n5"} {
		b.refuse("size "+quote(s), withChunks(s+"\r\nhello\r\n0\r\n\r\n"+smuggled))
		b.refuse("second size "+quote(s), withChunks("3\r\nabc\r\n"+s+"\r\nhello\r\n0\r\n\r\n"+smuggled))
	}
	// More than 16 digits, space and extensions: by the letter, or nearly.
	for _, s := range []string{"05", "00005", "0000000000000005", "00000000000000000000000000000005", "5;", "5;a", "5;a=b", "5;a=b;c=d", "5; a = b", "5 ;a=b", "5\t;a", "5 ", "5\t", "5;a=\"b\"", "5;a=\"b;c\"", "5;a=\"\\\"\"", "5;a=\"",
		"5;=", "5;;;", "5;a=b=c", "5;0", "5;\xff", "5;" + strings.Repeat("a", 200), "5;" + strings.Repeat("a=b;", 4000)} {
		b.either("size "+quote(s), withChunks(s+"\r\nhello\r\n0\r\n\r\n"+second), one("POST", "hello"), seenSecond)
		if rest := strings.TrimLeft(s, "05"); rest != "" {
			b.either("last size 0"+quote(rest), withChunks("5\r\nhello\r\n0"+rest+"\r\n\r\n"+second), one("POST", "hello"), seenSecond)
		}
	}
	for _, s := range []string{"5", "a", "A", "F"} {
		data := strings.Repeat("x", strings.Index("0123456789ABCDEF", strings.ToUpper(s)))
		b.pass("size "+quote(s), withChunks(s+"\r\n"+data+"\r\n0\r\n\r\n"+second), one("POST", data), seenSecond)
	}
	for _, end := range []string{"\n", "\r", "", " ", "X\r\n", "\r\r\n", "\n\r", "\n\n", " \r\n", "\x00\r\n", "\r\n\r\n"} {
		b.refuse("data ended by "+quote(end), withChunks("5\r\nhello"+end+"0\r\n\r\n"+smuggled))
		b.refuse("data ended by "+quote(end)+", then more", withChunks("5\r\nhello"+end+"3\r\nabc\r\n0\r\n\r\n"+smuggled))
	}
	for _, end := range []string{"0\n\n", "0\n\r\n", "0\r\n\n", "0\r\r", "0\r\n\r", "0\r\n\rX\r\n", "0\r\n \r\n", "0\r\n\x00\r\n", "-0\r\n\r\n", "+0\r\n\r\n", "0x0\r\n\r\n", " 0\r\n\r\n", "0 0\r\n\r\n", "0\x00\r\n\r\n", "0;a\n\r\n", "0;\rb\r\n\r\n", "\r\n\r\n", "\n", "00000000000000000000x\r\n\r\n"} {
		b.refuse("ended by "+quote(end), withChunks("5\r\nhello\r\n"+end+smuggled))
		b.refuse("empty, ended by "+quote(end), withChunks(end+smuggled))
	}
	for _, end := range []string{"00\r\n\r\n", "0000000000000000\r\n\r\n", "00000000000000000000\r\n\r\n"} {
		b.either("ended by "+quote(end), withChunks("5\r\nhello\r\n"+end+second), one("POST", "hello"), seenSecond)
	}
	for _, s := range []string{"", "5", "5\r\n", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\nX: x\r\n", "6\r\nhello", "7fffffffffffffff\r\nhello", "fffffff\r\nhello"} {
		b.add("cut after "+quote(s), withChunks(s), Refuse).Starves = true
	}
	for _, n := range []string{"4", "3"} {
		b.refuse("size "+n+" of five", withChunks(n+"\r\nhello\r\n0\r\n\r\n"+smuggled))
	}
	const inner = "GET /smuggled-0 HTTP/1.1\r\nHost: spoofed.example\r\n\r\n"
	b.pass("a request as data", withChunks(chunk(inner)+"0\r\n\r\n"+second), one("POST", inner), seenSecond)
	b.pass("an end as data", withChunks("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"+second), one("POST", "\r\n0\r\n\r\n"), seenSecond)
	b.pass("of one octet each", withChunks(strings.Repeat("1\r\nx\r\n", 3000)+"0\r\n\r\n"+second), one("POST", strings.Repeat("x", 3000)), seenSecond)
}

// trailers bends what follows the last chunk.
func (b *bed) trailers() {
	b.family = "trailer"
	body := func(trailer string) string { return withChunks("5\r\nhello\r\n0\r\n" + trailer) }
	hello := one("POST", "hello")
	for _, t := range []string{"X-End: x", "X-End: x\r\nX-More: y", "X-End:", "x-end:\tx"} {
		b.either(quote(t), body(t+"\r\n\r\n"+second), hello, seenSecond)
	}
	for _, t := range []string{"Transfer-Encoding: chunked", "Content-Length: 5", "Content-Length: 1000", "Host: spoofed.example", "Connection: close", "Authorization: spoofed", "X-Forwarded-For: spoofed", "Forwarded: for=spoofed", "X-Real-IP: spoofed",
		"Trailer: X", "Content-Type: spoofed", "Content-Encoding: gzip", "Cookie: spoofed", "Expect: 100-continue", "TE: trailers", "Upgrade: websocket", "Range: bytes=0-1", "Cache-Control: no-store", "Set-Cookie: spoofed"} {
		b.either(quote(t), body(t+"\r\n\r\n"+second), hello, seenSecond)
		name, _, _ := strings.Cut(t, ":")
		b.either("announced "+quote(t), post("Trailer: "+name+"\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"+t+"\r\n\r\n"+second), hello, seenSecond)
	}
	for _, t := range []string{"X : x", "X\t: x", " X: x", "\tX: x", ": x", "X", "X: a\nY: b", "X: a\rY: b", "X: a\r\n b", "X: \x00", "X\x00: x", "X: x\n", "X: x\r", "X\n: x", "GET /smuggled-{id} HTTP/1.1", "X: x\r\n\n", "X: \x01", "(X): x", "X: \x7f"} {
		b.refuse("bent "+quote(t), body(t+"\r\n\r\n"+smuggled))
	}
	b.refuse("of 200 KB", body("X: "+strings.Repeat("x", 200<<10)+"\r\n\r\n"+smuggled))
	b.refuse("of 5,000 fields", body(strings.Repeat("X: x\r\n", 5000)+"\r\n"+smuggled))
}
