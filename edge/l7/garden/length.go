package garden

import (
	"strconv"
	"strings"
)

// fixed puts a number in the place of LENGTH.
func fixed(s string, n int) string { return strings.ReplaceAll(s, "LENGTH", strconv.Itoa(n)) }

// lengths are values that one reader or another takes for five.
var lengths = []string{
	"+5", "-5", "--5", "+ 5", "0x5", "0X5", "0b101", "0o5", "#5", "$5", "5h", "5x", "x5", "five", "5.", "5.0", ".5", "5e0", "0.5e1", "5_0", "5 5", "5\t5",
	"5,5", "5, 5", "5,6", "5, 6", ",5", "5,", ", 5", "5;5", "5;", "5:5", "(5)", "[5]", "\"5\"", "'5'", "=5", "5=", "", " ", "\t", "-0", "+0",
	"5\x00", "\x005", "5\x0b", "\x0b5", "\x0c5", "5\xa0", "\xa05", "\xef\xbc\x95", "\xd9\xa5", "5\r\n 5", "5\r\n ,5", "\r\n 5", "5\r", "\r5", "5\rX: x", "5\nX: x",
	"18446744073709551621", "18446744073709551616", "9223372036854775808", "9223372036854775813", "4294967301x", "99999999999999999999999999999999",
	"340282366920938463463374607431768211461", "NaN", "Infinity", "null", "undefined", "true",
}

// length bends Content-Length.
func (b *bed) length() {
	b.family = "cl"
	for _, v := range lengths {
		line := "Content-Length: " + v + "\r\n"
		b.refuse(quote(v), post(line, "hello "+smuggled))
		b.refuse("5 and "+quote(v), post("Content-Length: 5\r\n"+line, "hello "+smuggled))
		b.refuse(quote(v)+" and 5", post(line+"Content-Length: 5\r\n", "hello "+smuggled))
	}
	for _, v := range []string{"5", "5 ", " 5", "5\t", "  5  ", "\t5"} {
		b.pass(quote(v)+" by the letter", post("Content-Length:"+v+"\r\n", "hello"+second), one("POST", "hello"), seenSecond)
	}
	for _, v := range []string{"05", "005", "0000000000000000000000000000005"} {
		b.either(quote(v), post("Content-Length: "+v+"\r\n", "hello"+second), one("POST", "hello"), seenSecond)
	}
	for _, n := range []string{"content-length", "CONTENT-LENGTH", "cOnTeNt-LeNgTh"} {
		b.pass(n, post(n+": 5\r\n", "hello"+second), one("POST", "hello"), seenSecond)
		b.refuse("twice, "+n, post(n+": 5\r\nContent-Length: 6\r\n", "hello "+smuggled))
	}
	for _, n := range []string{"Content-Length ", "Content-Length\t", "Content-Length\x0b", "Content-Length\x0c", "Content-Length\x00", "Content-Length\xa0", "Content-Length\r", "Content-Length\n",
		" Content-Length", "\tContent-Length", "\x00Content-Length", "Content Length", "Content-\x00Length", "Content-Length\r\n "} {
		b.refuse("named "+quote(n), post(n+": 5\r\n", "hello "+smuggled))
		b.refuse("0, and named "+quote(n), post("Content-Length: 0\r\n"+n+": 5\r\n", "hello "+smuggled))
	}
	for _, n := range []string{"Content_Length", "Content.Length", "ContentLength", "Content-Lengths", "XContent-Length"} {
		b.either("named "+quote(n), post("Content-Length: 5\r\n"+n+": 0\r\n", "hello"+second), one("POST", "hello"), seenSecond)
		b.either("named "+quote(n)+" alone", post(n+": 5\r\nConnection: close\r\n", "hello "+smuggled), one("POST", ""))
	}
	for _, v := range []string{"0, and 5", "5, and 0", "5, and 5", "5, and 05", "5, and 6"} {
		first, other, _ := strings.Cut(v, ", and ")
		b.refuse(v, post("Content-Length: "+first+"\r\nContent-Length: "+other+"\r\n", "hello "+smuggled))
		b.refuse(v+" apart", post("Content-Length: "+first+"\r\nX: x\r\nContent-Length: "+other+"\r\n", "hello "+smuggled))
	}
	// Lengths that never come, of which nothing may be taken for the whole.
	for _, v := range []string{"6", "1000", "1073741824", "1073741825", "4294967301", "9223372036854775807"} {
		b.add("more than comes, "+v, post("Content-Length: "+v+"\r\n", "hello"), Refuse).Starves = true
	}
	b.either("named by Connection", post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"+second), one("POST", "hello"), seenSecond)
	b.either("named by Connection with close", post("Connection: close, content-length\r\nContent-Length: 5\r\n", "hello"), one("POST", "hello"))
}
