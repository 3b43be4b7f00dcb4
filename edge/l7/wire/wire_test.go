package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

var usual = Limit{Octets: 64 << 10, Line: 8 << 10, Fields: MaxFields}

// host stands for a good Host field in the tables below.
const host = "Host: a.test\r\n"

func TestRequestsThatAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want Fault
	}{
		"bare LF":                      {"GET / HTTP/1.1\n" + host + "\r\n", BareLF},
		"bare LF at a field's end":     {"GET / HTTP/1.1\r\nHost: a.test\n\r\n", BareLF},
		"bare LF at the end":           {"GET / HTTP/1.1\r\n" + host + "\n", BareLF},
		"CR in the line":               {"GET / HTTP/1.1\rX: y\r\n" + host + "\r\n", BadLine},
		"CR in the target":             {"GET /\ra HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"CR in a value":                {"GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", BadValue},
		"NUL in a value":               {"GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", BadValue},
		"DEL in a long value":          {"GET / HTTP/1.1\r\n" + host + "X: aaaaaaaaaaaa\x7fb\r\n\r\n", BadValue},
		"NUL in a name":                {"GET / HTTP/1.1\r\n" + host + "X\x00: a\r\n\r\n", BadName},
		"empty line first":             {"\r\nGET / HTTP/1.1\r\n" + host + "\r\n", BadLine},
		"obs-fold":                     {"GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", BadFold},
		"fold before the first field":  {"GET / HTTP/1.1\r\n " + host + "\r\n", BadFold},
		"space before the colon":       {"GET / HTTP/1.1\r\n" + host + "X : a\r\n\r\n", BadName},
		"no colon":                     {"GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", BadName},
		"empty name":                   {"GET / HTTP/1.1\r\n" + host + ": a\r\n\r\n", BadName},
		"name beyond ASCII":            {"GET / HTTP/1.1\r\n" + host + "X\xe9: a\r\n\r\n", BadName},
		"two spaces":                   {"GET  / HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"tab in the line":              {"GET\t/ HTTP/1.1\r\n" + host + "\r\n", BadLine},
		"no version":                   {"GET /\r\n" + host + "\r\n", BadLine},
		"version 2.0":                  {"GET / HTTP/2.0\r\n" + host + "\r\n", BadVersion},
		"version 1.2":                  {"GET / HTTP/1.2\r\n" + host + "\r\n", BadVersion},
		"lower-case version":           {"GET / http/1.1\r\n" + host + "\r\n", BadLine},
		"version of three parts":       {"GET / HTTP/1.1.1\r\n" + host + "\r\n", BadLine},
		"method that is no token":      {"G(T / HTTP/1.1\r\n" + host + "\r\n", BadLine},
		"relative target":              {"GET a HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"fragment":                     {"GET /a#b HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"control in the target":        {"GET /a\x01 HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"target beyond ASCII":          {"GET /\xe9 HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"broken escape":                {"GET /%zz HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"asterisk to GET":              {"GET * HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"CONNECT to a path":            {"CONNECT / HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"CONNECT without a port":       {"CONNECT a.test HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"userinfo":                     {"GET http://u:p@a.test/ HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"another scheme":               {"GET ftp://a.test/ HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"no authority":                 {"GET http:/// HTTP/1.1\r\n" + host + "\r\n", BadTarget},
		"authority other than host":    {"GET http://b.test/ HTTP/1.1\r\n" + host + "\r\n", BadHost},
		"no host":                      {"GET / HTTP/1.1\r\n\r\n", BadHost},
		"two hosts":                    {"GET / HTTP/1.1\r\n" + host + host + "\r\n", BadHost},
		"host with a path":             {"GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n", BadHost},
		"host with userinfo":           {"GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", BadHost},
		"list of hosts":                {"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", BadHost},
		"host with a bad port":         {"GET / HTTP/1.1\r\nHost: a.test:8x\r\n\r\n", BadHost},
		"open bracket":                 {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BadHost},
		"two lengths":                  {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", BadLength},
		"list of lengths":              {"POST / HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n\r\n", BadLength},
		"signed length":                {"POST / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\n", BadLength},
		"two numbers":                  {"POST / HTTP/1.1\r\n" + host + "Content-Length: 5 5\r\n\r\n", BadLength},
		"hexadecimal length":           {"POST / HTTP/1.1\r\n" + host + "Content-Length: 0x5\r\n\r\n", BadLength},
		"huge length":                  {"POST / HTTP/1.1\r\n" + host + "Content-Length: 9999999999999999999\r\n\r\n", BadLength},
		"empty length":                 {"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", BadLength},
		"length and coding":            {"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAndCoding},
		"coding that nobody knows":     {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", BadCoding},
		"two codings":                  {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", BadCoding},
		"chunked twice":                {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", BadCoding},
		"chunked and a comma":          {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked,\r\n\r\n", BadCoding},
		"identity":                     {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", BadCoding},
		"vertical tab before chunked":  {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \vchunked\r\n\r\n", BadValue},
		"chunked in 1.0":               {"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", BadCoding},
		"TRACE with a body":            {"TRACE / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\n", BadLength},
		"Connection that names Host":   {"GET / HTTP/1.1\r\n" + host + "Connection: host\r\n\r\n", BadConnection},
		"Connection that names length": {"GET / HTTP/1.1\r\n" + host + "Connection: close, Content-Length\r\n\r\n", BadConnection},
		"Connection with rubbish":      {"GET / HTTP/1.1\r\n" + host + "Connection: a b\r\n\r\n", BadConnection},
		"another expectation":          {"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nExpect: gold\r\n\r\n", BadExpect},
		"long target":                  {"GET /" + strings.Repeat("a", 9000) + " HTTP/1.1\r\n" + host + "\r\n", TargetTooLong},
		"large head":                   {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 70000) + "\r\n\r\n", TooLarge},
		"many fields":                  {"GET / HTTP/1.1\r\n" + host + strings.Repeat("X: a\r\n", 128) + "\r\n", TooLarge},
		"unfinished and too large":     {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 70000), TooLarge},
		"unfinished line, too long":    {"GET /" + strings.Repeat("a", 9000), TargetTooLong},
	} {
		var h Head
		if n, f := ParseRequest([]byte(tc.in), &h, usual); n != 0 || f != tc.want && tc.want != NoFault || f == NoFault {
			t.Errorf("%s: %d octets, fault %q, want %q", name, n, f, tc.want)
		}
	}
}

func TestRequestsThatAreRead(t *testing.T) {
	for in, want := range map[string]string{
		"GET / HTTP/1.1\r\n" + host + "\r\n":                                                               "GET / a.test 0",
		"GET /a?b=%zz HTTP/1.1\r\nhOST:\ta.test:80 \t\r\n\r\n":                                             "GET /a?b=%zz a.test:80 0",
		"GET http://a.test HTTP/1.1\r\n" + host + "\r\n":                                                   "GET / a.test 0",
		"GET HTTP://A.test:80?x HTTP/1.1\r\n" + host + "\r\n":                                              "GET /?x A.test:80 0",
		"OPTIONS http://a.test HTTP/1.1\r\n" + host + "\r\n":                                               "OPTIONS * a.test 0",
		"OPTIONS * HTTP/1.1\r\n" + host + "\r\n":                                                           "OPTIONS * a.test 0",
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n":                                          "CONNECT  a.test:443 0",
		"GET / HTTP/1.0\r\n\r\n":                                                                           "GET /  0 close",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n":                                                 "GET /  0 keep",
		"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n":                                          "GET /  0 close",
		"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\nConnection: close\r\n\r\n":                          "GET / [2001:db8::1]:8080 0 close",
		"PUT / HTTP/1.1\r\n" + host + "Content-Length: 007\r\nExpect: 100-Continue\r\n\r\n":                "PUT / a.test 7 expect",
		"GET / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\n\r\n":                                       "GET / a.test 0",
		"PUT / HTTP/1.1\r\n" + host + "transfer-encoding: Chunked\r\nTE: gzip, Trailers\r\n\r\n":           "PUT / a.test -1 chunked trailers",
		"GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n":      "GET / a.test 0 upgrade websocket",
		"GET / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\n\r\n":                                         "GET / a.test 0",
		"GET / HTTP/1.1\r\n" + host + "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n":        "GET / a.test 0",
		"GET / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n":             "GET / a.test 0",
		"GET / HTTP/1.0\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n":                  "GET / a.test 0 close",
		"PUT / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n":     "PUT / a.test 1",
		"GET / HTTP/1.1\r\n" + host + "X: \xe9\ta\r\n\r\n":                                                 "GET / a.test 0",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n":                                                                  "GET /  0",
		"GET / HTTP/1.1\r\n" + host + "X:" + strings.Repeat(" ", 9) + "aaaaaaa\tbbbbbbbbbbbb" + "\r\n\r\n": "GET / a.test 0",
	} {
		for _, step := range []int{len(in), 1, 7} {
			h, n := parseInSteps(t, in, step)
			if got := summary(h); n != len(in) || got != want {
				t.Errorf("%q in steps of %d: %d octets, %q, want %q", in, step, n, got, want)
			}
		}
	}
}

// parseInSteps gives the octets piece by piece, each time at another place.
func parseInSteps(t *testing.T, in string, step int) (*Head, int) {
	t.Helper()
	h := new(Head)
	for at := step; ; at += step {
		n, f := ParseRequest([]byte(in[:min(at, len(in))]), h, usual)
		if f != NoFault {
			t.Fatalf("%q: %s", in, f)
		}
		if n > 0 || at >= len(in) {
			return h, n
		}
	}
}

func summary(h *Head) string {
	s := fmt.Sprintf("%s %s %s %d", h.Method, h.Target, h.Authority, h.Length)
	for word, has := range map[string]bool{" close": h.Close, " keep": h.KeepAlive, " expect": h.Expect} {
		if has {
			s += word
		}
	}
	if h.Chunked {
		s += " chunked"
	}
	if h.Trailers {
		s += " trailers"
	}
	if h.Upgrade != nil {
		s += " upgrade " + string(h.Upgrade)
	}
	return s
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		method, in string
		length     int64
		close      bool
		want       Fault
	}{
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 5, false, NoFault},
		{"GET", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", 5, false, NoFault},
		{"GET", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", -1, false, NoFault},
		{"GET", "HTTP/1.1 200 OK\r\n\r\n", -1, true, NoFault},
		{"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 5, true, NoFault},
		{"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", 5, false, NoFault},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0, false, NoFault},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false, NoFault},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0, false, NoFault},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n", 0, false, NoFault},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 0, false, NoFault},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 0, false, BadLength},
		{"CONNECT", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", -1, true, NoFault},
		{"CONNECT", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", -1, true, NoFault},
		{"CONNECT", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", -1, true, NoFault},
		{"CONNECT", "HTTP/1.1 407 X\r\nContent-Length: 5\r\n\r\n", 5, false, NoFault},
		{"GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0, false, NoFault},
		{"GET", "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false, BadLength},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 0, false, BadLength},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", 0, false, BadLength},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false, LengthAndCoding},
		{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 0, false, BadCoding},
		{"GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false, BadCoding},
		{"GET", "HTTP/1.1 099 X\r\n\r\n", 0, false, BadStatus},
		{"GET", "HTTP/1.1 600 X\r\n\r\n", 0, false, BadStatus},
		{"GET", "HTTP/1.1 20 OK\r\n\r\n", 0, false, BadLine},
		{"GET", "HTTP/1.1 2000 OK\r\n\r\n", 0, false, BadLine},
		{"GET", "HTTP/2.0 200 OK\r\n\r\n", 0, false, BadVersion},
		{"GET", "HTTP/1.1 200 O\x00K\r\n\r\n", 0, false, BadLine},
		{"GET", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", 0, false, BadFold},
		{"GET", "SSH-2.0-OpenSSH\r\n\r\n", 0, false, BadLine},
	} {
		var h Head
		n, f := ParseAnswer([]byte(tc.in), &h, []byte(tc.method), usual)
		if f != tc.want || f == NoFault && (n != len(tc.in) || h.Length != tc.length || h.Close != tc.close) {
			t.Errorf("%s %q: %d, %q, length %d, close %t", tc.method, tc.in, n, f, h.Length, h.Close)
		}
	}
}

func h2(method, scheme, authority, path string, fields ...string) *Head {
	h := &Head{Version: HTTP2, Method: []byte(method)}
	set := func(to *[]byte, s string) {
		if s != "-" {
			*to = []byte(s)
		}
	}
	set(&h.Scheme, scheme)
	set(&h.Authority, authority)
	set(&h.Target, path)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == ":protocol" {
			h.Protocol = []byte(fields[i+1])
			continue
		}
		h.Add(fields[i], fields[i+1])
	}
	return h
}

func TestRequestsOfHTTP2(t *testing.T) {
	for name, tc := range map[string]struct {
		h    *Head
		want Fault
	}{
		"plain":                      {h2("GET", "https", "a.test", "/"), NoFault},
		"host alone":                 {h2("GET", "https", "-", "/", "host", "a.test"), NoFault},
		"host and authority":         {h2("GET", "https", "a.test", "/", "host", "A.test:443"), NoFault},
		"other host":                 {h2("GET", "https", "a.test", "/", "host", "b.test"), BadHost},
		"neither":                    {h2("GET", "https", "-", "/"), BadHost},
		"te: trailers":               {h2("GET", "https", "a.test", "/", "te", "trailers"), NoFault},
		"te: gzip":                   {h2("GET", "https", "a.test", "/", "te", "gzip"), BadConnection},
		"connection":                 {h2("GET", "https", "a.test", "/", "connection", "close"), BadConnection},
		"transfer-encoding":          {h2("GET", "https", "a.test", "/", "transfer-encoding", "chunked"), BadConnection},
		"upgrade":                    {h2("GET", "https", "a.test", "/", "upgrade", "websocket"), BadConnection},
		"upper case":                 {h2("GET", "https", "a.test", "/", "X-A", "1"), BadName},
		"pseudo among fields":        {h2("GET", "https", "a.test", "/", ":path", "/b"), BadName},
		"CRLF in a value":            {h2("GET", "https", "a.test", "/", "x", "a\r\nb: c"), BadValue},
		"space around a value":       {h2("GET", "https", "a.test", "/", "x", " a"), BadValue},
		"CRLF in the path":           {h2("GET", "https", "a.test", "/ HTTP/1.1\r\nX: y"), BadTarget},
		"space in the path":          {h2("GET", "https", "a.test", "/a b"), BadTarget},
		"fragment":                   {h2("GET", "https", "a.test", "/a#b"), BadTarget},
		"empty path":                 {h2("GET", "https", "a.test", ""), BadTarget},
		"absolute path":              {h2("GET", "https", "a.test", "http://a.test/"), BadTarget},
		"asterisk":                   {h2("OPTIONS", "https", "a.test", "*"), NoFault},
		"asterisk to GET":            {h2("GET", "https", "a.test", "*"), BadTarget},
		"method with space":          {h2("GET /x", "https", "a.test", "/"), BadPseudo},
		"no method":                  {h2("", "https", "a.test", "/"), BadPseudo},
		"other scheme":               {h2("GET", "ftp", "a.test", "/"), BadPseudo},
		"no scheme":                  {h2("GET", "-", "a.test", "/"), BadPseudo},
		"userinfo":                   {h2("GET", "https", "u@a.test", "/"), BadHost},
		"CONNECT":                    {h2("CONNECT", "-", "a.test:443", "-"), NoFault},
		"CONNECT with a path":        {h2("CONNECT", "-", "a.test:443", "/"), BadPseudo},
		"extended CONNECT":           {h2("CONNECT", "https", "a.test", "/chat", ":protocol", "websocket"), NoFault},
		"extended CONNECT, no path":  {h2("CONNECT", "https", "a.test", "-", ":protocol", "websocket"), BadTarget},
		"protocol without CONNECT":   {h2("GET", "https", "a.test", "/", ":protocol", "websocket"), BadPseudo},
		"two lengths":                {h2("PUT", "https", "a.test", "/", "content-length", "1", "content-length", "1"), BadLength},
		"length":                     {h2("PUT", "https", "a.test", "/", "content-length", "1"), NoFault},
		"request smuggled in a name": {h2("GET", "https", "a.test", "/", "x: y\r\nz", "1"), BadName},
	} {
		if f := tc.h.Request(); f != tc.want {
			t.Errorf("%s: %q, want %q", name, f, tc.want)
		}
	}
}

func TestFieldsThatConnectionNames(t *testing.T) {
	var h Head
	in := "GET / HTTP/1.1\r\n" + host + "X-First: 0\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nX-End: 2\r\nConnection: x-first\r\nx-hop: 3\r\nKeep-Alive: 1\r\nTE: x\r\nProxy-Connection: a\r\n\r\n"
	if _, f := ParseRequest([]byte(in), &h, usual); f != NoFault {
		t.Fatal(f)
	}
	var kept []string
	h.DropListed()
	for _, f := range h.Fields {
		if !f.ID.HopByHop() {
			kept = append(kept, string(f.Name))
		}
	}
	if fmt.Sprint(kept) != "[Host X-End]" {
		t.Errorf("kept %q", kept)
	}
}

func TestLookup(t *testing.T) {
	for id := Other + 1; id < idCount; id++ {
		for _, s := range [][]byte{names[id], bytes.ToLower(names[id]), bytes.ToUpper(names[id])} {
			if Lookup(s) != id {
				t.Errorf("%s is not found", s)
			}
		}
	}
	if Lookup([]byte("Hosts")) != Other || Lookup(nil) != Other {
		t.Error("a name is found that is none")
	}
}

const browser = "GET /assets/app.js?v=1 HTTP/1.1\r\nHost: www.demo.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n" +
	"Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"Connection: keep-alive\r\nX-Requested-With: x\r\n\r\n"

func TestNothingIsAllocated(t *testing.T) {
	var h Head
	var c Chunks
	req, answer := []byte(browser), []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Other: 1\r\n\r\n")
	body, get := []byte("5\r\nhello\r\n0\r\nX: 1\r\n\r\n"), []byte("GET")
	out := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		h.Reset()
		if _, f := ParseRequest(req, &h, usual); f != NoFault {
			t.Fatal(f)
		}
		out = AppendFields(AppendRequestLine(out[:0], h.Method, h.Target), &h)
		h.Reset()
		if _, f := ParseAnswer(answer, &h, get, usual); f != NoFault {
			t.Fatal(f)
		}
		out = AppendFields(AppendStatusLine(out[:0], h.Status, h.Reason), &h)
		c.Reset()
		for at := 0; !c.Ended(); {
			_, n, f := c.Next(body[at:])
			if at += n; f != NoFault || n == 0 {
				t.Fatal(f)
			}
		}
		Lookup(get)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	var h Head
	in := []byte(browser)
	b.ReportAllocs()
	for b.Loop() {
		h.Reset()
		ParseRequest(in, &h, usual)
	}
}
