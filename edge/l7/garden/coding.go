package garden

import "strconv"

// kind says what a line is to a strict reader.
type kind uint8

const (
	bent    kind = iota // no line that any reader may take
	chunked             // Transfer-Encoding: chunked, by the letter
	unknown             // a field of another name
)

// codings are lines that one reader or another takes for Transfer-Encoding:
// chunked.
var codings = []struct {
	line string
	is   kind
}{
	{"Transfer-Encoding: chunked\r\n", chunked},
	{"Transfer-Encoding:chunked\r\n", chunked},
	{"Transfer-Encoding:\tchunked\r\n", chunked},
	{"Transfer-Encoding: \t chunked \t\r\n", chunked},
	{"transfer-encoding: chunked\r\n", chunked},
	{"TRANSFER-ENCODING: CHUNKED\r\n", chunked},
	{"tRANSFER-eNCODING: cHuNkEd\r\n", chunked},
	{"Transfer-Encoding : chunked\r\n", bent},
	{"Transfer-Encoding\t: chunked\r\n", bent},
	{"Transfer-Encoding\x0b: chunked\r\n", bent},
	{"Transfer-Encoding\x0c: chunked\r\n", bent},
	{"Transfer-Encoding\x00: chunked\r\n", bent},
	{"Transfer-Encoding\xa0: chunked\r\n", bent},
	{"Transfer-Encoding\r: chunked\r\n", bent},
	{"Transfer-Encoding\n: chunked\r\n", bent},
	{"Transfer-Encoding\r\n : chunked\r\n", bent},
	{" Transfer-Encoding: chunked\r\n", bent},
	{"\tTransfer-Encoding: chunked\r\n", bent},
	{"\x0bTransfer-Encoding: chunked\r\n", bent},
	{"\x00Transfer-Encoding: chunked\r\n", bent},
	{"Trans\x00fer-Encoding: chunked\r\n", bent},
	{"Trans\x01fer-Encoding: chunked\r\n", bent},
	{"Trans fer-Encoding: chunked\r\n", bent},
	{"Transfer-Encoding chunked\r\n", bent},
	{"Transfer-Encoding= chunked\r\n", bent},
	{"Transfer-Encoding:: chunked\r\n", bent},
	{"Transfer-Encoding: : chunked\r\n", bent},
	{"Transfer-Encoding: xchunked\r\n", bent},
	{"Transfer-Encoding: chunkedx\r\n", bent},
	{"Transfer-Encoding: chunk\r\n", bent},
	{"Transfer-Encoding: x\r\n", bent},
	{"Transfer-Encoding:\r\n", bent},
	{"Transfer-Encoding: \r\n", bent},
	{"Transfer-Encoding: identity\r\n", bent},
	{"Transfer-Encoding: gzip\r\n", bent},
	{"Transfer-Encoding: gzip, chunked\r\n", bent},
	{"Transfer-Encoding: identity, chunked\r\n", bent},
	{"Transfer-Encoding: chunked, identity\r\n", bent},
	{"Transfer-Encoding: chunked, gzip\r\n", bent},
	{"Transfer-Encoding: chunked, chunked\r\n", bent},
	{"Transfer-Encoding: chunked,\r\n", bent},
	{"Transfer-Encoding: ,chunked\r\n", bent},
	{"Transfer-Encoding: , chunked ,\r\n", bent},
	{"Transfer-Encoding: chunked;\r\n", bent},
	{"Transfer-Encoding: chunked;q=1\r\n", bent},
	{"Transfer-Encoding: chunked; chunked\r\n", bent},
	{"Transfer-Encoding: \"chunked\"\r\n", bent},
	{"Transfer-Encoding: 'chunked'\r\n", bent},
	{"Transfer-Encoding: chunked chunked\r\n", bent},
	{"Transfer-Encoding: chu nked\r\n", bent},
	{"Transfer-Encoding: chu\tnked\r\n", bent},
	{"Transfer-Encoding: chunked\x00\r\n", bent},
	{"Transfer-Encoding: \x00chunked\r\n", bent},
	{"Transfer-Encoding: chunked\x0b\r\n", bent},
	{"Transfer-Encoding: \x0bchunked\r\n", bent},
	{"Transfer-Encoding:\x0cchunked\r\n", bent},
	{"Transfer-Encoding: chunked\xa0\r\n", bent},
	{"Transfer-Encoding: \xa0chunked\r\n", bent},
	{"Transfer-Encoding: \x85chunked\r\n", bent},
	{"Transfer-Encoding: \xef\xbd\x83hunked\r\n", bent},
	{"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", bent}, // KELVIN SIGN, k when folded
	{"Transfer-Encoding: chunked\r\r\n", bent},
	{"Transfer-Encoding: chunked\rX: x\r\n", bent},
	{"Transfer-Encoding: chunked\n", bent},
	{"Transfer-Encoding: \nchunked\r\n", bent},
	{"Transfer-Encoding: chunked\r\n ,identity\r\n", bent},
	{"Transfer-Encoding:\r\n chunked\r\n", bent},
	{"Transfer-Encoding:\r\n\tchunked\r\n", bent},
	{"Transfer-Encoding: identity\r\n ,chunked\r\n", bent},
	{"X: x\nTransfer-Encoding: chunked\r\n", bent},
	{"X: x\rTransfer-Encoding: chunked\r\n", bent},
	{"X: x\r\n Transfer-Encoding: chunked\r\n", bent},
	{"X: x\r\r\nTransfer-Encoding: chunked\r\n", bent},
	{"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", bent},
	{"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", bent},
	{"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", bent},
	{"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", bent},
	{"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", bent},
	{"Transfer_Encoding: chunked\r\n", unknown},
	{"Transfer.Encoding: chunked\r\n", unknown},
	{"TransferEncoding: chunked\r\n", unknown},
	{"XTransfer-Encoding: chunked\r\n", unknown},
	{"Transfer-Encodings: chunked\r\n", unknown},
	{"Content-Encoding: chunked\r\n", unknown},
	{"TE: chunked\r\n", unknown},
}

// coding bends Transfer-Encoding: alone, with a Content-Length that ends the
// body early (the rest would be a request), and with one that includes it all.
func (b *bed) coding() {
	const body = "5\r\nhello\r\n0\r\n\r\n"
	for _, c := range codings {
		b.family = "te"
		alone := post(c.line, body+second)
		switch c.is {
		case bent:
			b.refuse(quote(c.line), post(c.line, "0\r\n\r\n"+smuggled))
		case chunked:
			b.pass(quote(c.line), alone, one("POST", "hello"), seenSecond)
		case unknown: // no body then, and what follows is no request
			b.either(quote(c.line), post(c.line, "0\r\n\r\n"+smuggled), one("POST", ""))
		}
		// CL.TE: who takes the length passes on what the other takes for a request.
		hidden := "0\r\n\r\n" + smuggled
		for _, first := range []bool{true, false} {
			b.family = "cl-te"
			fields := "Content-Length: LENGTH\r\n" + c.line
			if !first {
				b.family, fields = "te-cl", c.line+"Content-Length: LENGTH\r\n"
			}
			if c.is == unknown {
				b.either(quote(c.line), post(fixed(fields, 5), "hello"+second), one("POST", "hello"), seenSecond)
			} else {
				b.refuse(quote(c.line), post(fixed(fields, 6), hidden))
			}
		}
	}
	b.family = "te-cl"
	for _, n := range []int{0, 1, 3, 4, 5, 1000} {
		b.refuse("chunk of which the length takes "+strconv.Itoa(n),
			post(fixed("Content-Length: LENGTH\r\nTransfer-Encoding: chunked\r\n", n), "3c\r\n"+smuggled+"\r\n0\r\n\r\n"))
	}
	b.family = "te"
	b.refuse("chunked in HTTP/1.0", "POST /one-{id} HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+smuggled)
	b.refuse("chunked in HTTP/1.0 kept alive", "POST /one-{id} HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+smuggled)
	b.either("GET with chunks", "GET /one-{id} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+second, one("GET", "hello"), seenSecond)
	b.either("HEAD with chunks", "HEAD /one-{id} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+second, one("HEAD", "hello"), seenSecond)
	b.refuse("list by Connection", post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n", hidden()))
	b.either("named by Connection", post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"+second), one("POST", "hello"), seenSecond)
}

func hidden() string { return "0\r\n\r\n" + smuggled }
