package h3

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// frame writes a frame.
func frame(kind uint64, payload ...byte) []byte {
	return append(appendFrameHead(nil, kind, uint64(len(payload))), payload...)
}

// headers writes a HEADERS frame of names and values.
func headers(pairs ...string) []byte {
	var fields []wire.Field
	for i := 0; i < len(pairs); i += 2 {
		fields = append(fields, wire.Field{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return frame(frameHeaders, literal(fields)...)
}

// literal writes fields just as they are, in any case.
func literal(fields []wire.Field) []byte {
	b := []byte{0, 0}
	for _, f := range fields {
		b = append(wire.AppendInteger(b, 0x20, 3, len(f.Name)), f.Name...)
		b = append(wire.AppendInteger(b, 0, 7, len(f.Value)), f.Value...)
	}
	return b
}

// request is a good one, with more fields.
func request(method string, more ...string) []byte {
	return headers(append([]string{":method", method, ":scheme", "https", ":authority", "demo.test", ":path", "/"}, more...)...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// waitFor gives the code with which the gateway ends a connection.
func waitFor(t testing.TB, c *quic.Conn) code {
	t.Helper()
	_, err := c.AcceptStream(t.Context())
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && e.Remote {
		return code(e.ErrorCode)
	}
	t.Fatalf("the connection ended with %v", err)
	return 0
}

// What breaks a connection on a request's stream (RFC 9114 sections 4.1, 7 and 8).
func TestRequestsThatEndTheConnection(t *testing.T) {
	settings := frame(frameSettings)
	for name, c := range map[string]struct {
		b    []byte
		code code
	}{
		"DATA before HEADERS":          {frame(frameData, 1), frameUnexpected},
		"SETTINGS":                     {settings, frameUnexpected},
		"SETTINGS after HEADERS":       {join(request("POST"), settings), frameUnexpected},
		"GOAWAY":                       {frame(frameGoaway, 0), frameUnexpected},
		"MAX_PUSH_ID":                  {frame(frameMaxPushID, 0), frameUnexpected},
		"CANCEL_PUSH":                  {frame(frameCancelPush, 0), frameUnexpected},
		"PUSH_PROMISE":                 {join(request("POST"), frame(framePushPromise, 0, 0, 0)), frameUnexpected},
		"PRIORITY of HTTP/2":           {frame(0x2), frameUnexpected},
		"PING of HTTP/2":               {join(request("POST"), frame(0x6)), frameUnexpected},
		"WINDOW_UPDATE of HTTP/2":      {frame(0x8), frameUnexpected},
		"CONTINUATION of HTTP/2":       {frame(0x9), frameUnexpected},
		"PRIORITY_UPDATE":              {frame(framePriorityUpdate, 0, 'i'), frameUnexpected},
		"PRIORITY_UPDATE of a push":    {join(request("POST"), frame(framePushPriority, 0, 'i')), frameUnexpected},
		"DATA after trailers":          {join(request("POST"), headers("a", "b"), frame(frameData, 1)), frameUnexpected},
		"HEADERS after trailers":       {join(request("POST"), headers("a", "b"), headers("a", "b")), frameUnexpected},
		"trailers of a tunnel":         {join(request("CONNECT", ":protocol", "websocket"), headers("a", "b")), frameUnexpected},
		"HEADERS cut short":            {request("GET")[:10], frameError},
		"DATA cut short":               {join(request("POST"), frame(frameData, 1, 2, 3)[:4]), frameError},
		"a frame's length cut short":   {[]byte{frameHeaders}, frameError},
		"an unknown frame cut short":   {frame(0x21, 1, 2, 3)[:3], frameError},
		"trailers cut short":           {join(request("POST"), headers("a", "b")[:4]), frameError},
		"a section with dynamic table": {frame(frameHeaders, 1, 0), qpackFailed},
		"trailers with dynamic table":  {join(request("POST"), frame(frameHeaders, 0, 0, 0x80)), qpackFailed},
		"many unknown frames":          {bytes.Repeat(frame(0x21), 40), excessiveLoad},
		"many empty DATA":              {join(request("POST"), bytes.Repeat(frame(frameData), 40)), excessiveLoad},
		"a large unknown frame":        {appendFrameHead(nil, 0x21, 1<<20), excessiveLoad},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil)
			q := r.dial(true)
			s := r.stream(q, c.b)
			s.Close()
			if got := waitFor(t, q); got != c.code {
				t.Errorf("code 0x%x, expected 0x%x", got, c.code)
			}
			if len(r.abused()) != 1 {
				t.Errorf("abuse: %v", r.abused())
			}
		})
	}
}

// What breaks a connection on the client's own streams (RFC 9114 sections 6.2
// and 7.2, RFC 9204 section 4.2).
func TestControlStreamsThatEndTheConnection(t *testing.T) {
	with := func(frames ...[]byte) []byte {
		return join(append([][]byte{{streamControl}, frame(frameSettings)}, frames...)...)
	}
	setting := func(numbers ...uint64) []byte {
		var b []byte
		for _, v := range numbers {
			b = quicvarint.Append(b, v)
		}
		return join([]byte{streamControl}, frame(frameSettings, b...))
	}
	for name, c := range map[string]struct {
		streams [][]byte
		code    code
	}{
		"no SETTINGS":                {[][]byte{join([]byte{streamControl}, frame(frameGoaway, 0))}, missingSettings},
		"reserved frame first":       {[][]byte{join([]byte{streamControl}, frame(0x21))}, missingSettings},
		"SETTINGS twice":             {[][]byte{with(frame(frameSettings))}, frameUnexpected},
		"DATA":                       {[][]byte{with(frame(frameData, 1))}, frameUnexpected},
		"HEADERS":                    {[][]byte{with(frame(frameHeaders, 0, 0))}, frameUnexpected},
		"PUSH_PROMISE":               {[][]byte{with(frame(framePushPromise, 0))}, frameUnexpected},
		"PING of HTTP/2":             {[][]byte{with(frame(0x6))}, frameUnexpected},
		"CANCEL_PUSH of nothing":     {[][]byte{with(frame(frameCancelPush, 0))}, idError},
		"CANCEL_PUSH too long":       {[][]byte{with(frame(frameCancelPush, 0, 0))}, frameError},
		"MAX_PUSH_ID goes back":      {[][]byte{with(frame(frameMaxPushID, 9), frame(frameMaxPushID, 8))}, idError},
		"MAX_PUSH_ID empty":          {[][]byte{with(frame(frameMaxPushID))}, frameError},
		"GOAWAY goes up":             {[][]byte{with(frame(frameGoaway, 8), frame(frameGoaway, 12))}, idError},
		"PRIORITY_UPDATE too short":  {[][]byte{with(frame(framePriorityUpdate))}, frameError},
		"PRIORITY_UPDATE of none":    {[][]byte{with(frame(framePriorityUpdate, 2, 'i'))}, idError},
		"PRIORITY_UPDATE of a push":  {[][]byte{with(frame(framePushPriority, 0, 'i'))}, idError},
		"PRIORITY_UPDATE first":      {[][]byte{join([]byte{streamControl}, frame(framePriorityUpdate, 0, 'i'))}, missingSettings},
		"a flood of PRIORITY_UPDATE": {[][]byte{with(bytes.Repeat(frame(framePriorityUpdate, 0, 'i'), 100))}, excessiveLoad},
		"a setting twice":            {[][]byte{setting(0x21, 1, 0x21, 1)}, settingsError},
		"a setting of HTTP/2":        {[][]byte{setting(0x2, 1)}, settingsError},
		"a setting cut short":        {[][]byte{setting(0x6)}, frameError},
		"extended CONNECT 2":         {[][]byte{setting(settingConnect, 2)}, settingsError},
		"datagrams 2":                {[][]byte{setting(settingDatagram, 2)}, settingsError},
		"large SETTINGS":             {[][]byte{join([]byte{streamControl}, appendFrameHead(nil, frameSettings, 1<<20))}, excessiveLoad},
		"two control streams":        {[][]byte{with(), with()}, streamCreation},
		"two encoder streams":        {[][]byte{{streamEncoder}, {streamEncoder}}, streamCreation},
		"a push":                     {[][]byte{{streamPush, 0}}, streamCreation},
		"an insertion":               {[][]byte{{streamEncoder, 0xc0, 1, 'a'}}, qpackEncoder},
		"a table's capacity":         {[][]byte{{streamEncoder, 0x3f, 0x10}}, qpackEncoder},
		"an acknowledged section":    {[][]byte{{streamDecoder, 0x80}}, qpackDecoder},
		"an insert count":            {[][]byte{{streamDecoder, 0x01}}, qpackDecoder},
		"a cancellation without end": {[][]byte{append([]byte{streamDecoder, 0x7f}, bytes.Repeat([]byte{0xff}, 20)...)}, qpackDecoder},
		"a flood of control frames":  {[][]byte{with(bytes.Repeat(frame(0x21), 100))}, excessiveLoad},
		"a flood of capacities":      {[][]byte{append([]byte{streamEncoder}, bytes.Repeat([]byte{0x20}, 100)...)}, excessiveLoad},
		"a flood of cancellations":   {[][]byte{append([]byte{streamDecoder}, bytes.Repeat([]byte{0x40}, 2000)...)}, excessiveLoad},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil)
			q := r.dial(false)
			for _, b := range c.streams {
				r.uni(q, b)
			}
			if got := waitFor(t, q); got != c.code {
				t.Errorf("code 0x%x, expected 0x%x", got, c.code)
			}
			if len(r.abused()) != 1 {
				t.Errorf("abuse: %v", r.abused())
			}
		})
	}
}

// RFC 9114 section 6.2.1, RFC 9204 section 4.2: these streams never end.
func TestControlStreamsMustNotClose(t *testing.T) {
	for name, b := range map[string][]byte{"control": join([]byte{streamControl}, frame(frameSettings)), "encoder": {streamEncoder}, "decoder": {streamDecoder}} {
		for end, how := range map[string]func(*quic.SendStream){
			"closed": func(s *quic.SendStream) { s.Close() },
			"reset":  func(s *quic.SendStream) { s.CancelWrite(0x10c) },
		} {
			t.Run(name+" "+end, func(t *testing.T) {
				r := start(t, nil)
				q := r.dial(false)
				s := r.uni(q, b)
				if end == "reset" { // what was sent before may be lost with the reset
					eventually(t, "the type was read", func() bool { return r.opened(b[0]) })
				}
				how(s)
				if got := waitFor(t, q); got != closedCritical {
					t.Errorf("code 0x%x", got)
				}
			})
		}
	}
}

// opened says whether a connection has such a stream.
func (r *rig) opened(kind byte) bool {
	s := r.server.(*server)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.mu.Lock()
		yes := c.uni[kind]
		c.mu.Unlock()
		if yes {
			return true
		}
	}
	return false
}

// RFC 9114 sections 4.1.2, 4.2, 4.3 and 4.4: what is refused with an answer, or
// with a reset where it comes too late for one; the connection goes on.
func TestMalformedRequests(t *testing.T) {
	r := start(t, nil)
	q := r.dial(true)
	for name, c := range map[string]struct {
		b      []byte
		status string // "": the stream is reset
	}{
		"no method":             {headers(":scheme", "https", ":authority", "a", ":path", "/"), "400"},
		"no scheme":             {headers(":method", "GET", ":authority", "a", ":path", "/"), "400"},
		"no path":               {headers(":method", "GET", ":authority", "a", ":scheme", "https"), "400"},
		"empty path":            {headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", ""), "400"},
		"no authority":          {headers(":method", "GET", ":scheme", "https", ":path", "/"), "400"},
		"method twice":          {request("GET", ":method", "GET"), "400"},
		"unknown pseudo-field":  {request("GET", ":fragment", "x"), "400"},
		"a status":              {request("GET", ":status", "200"), "400"},
		"pseudo-field late":     {headers(":method", "GET", ":scheme", "https", "a", "b", ":authority", "x", ":path", "/"), "400"},
		"protocol without use":  {request("GET", ":protocol", "websocket"), "400"},
		"CONNECT with a path":   {headers(":method", "CONNECT", ":authority", "a:1", ":path", "/"), "400"},
		"upper case":            {request("GET", "X-A", "b"), "400"},
		"name of none":          {request("GET", "", "b"), "400"},
		"space in a name":       {request("GET", "a b", "c"), "400"},
		"line end in a value":   {request("GET", "a", "b\r\nc: d"), "400"},
		"NUL in a value":        {request("GET", "a", "b\x00"), "400"},
		"line end in the path":  {headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/\r\n"), "400"},
		"space in the path":     {headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/ HTTP/1.1"), "400"},
		"space in the method":   {request("GET / HTTP/1.1"), "400"},
		"connection":            {request("GET", "connection", "close"), "400"},
		"transfer-encoding":     {request("POST", "transfer-encoding", "chunked"), "400"},
		"te":                    {request("GET", "te", "gzip"), "400"},
		"another host":          {request("GET", "host", "other.test"), "400"},
		"content-length twice":  {request("POST", "content-length", "1", "content-length", "1"), "400"},
		"content-length bent":   {request("POST", "content-length", "+1"), "400"},
		"a body that is absent": {request("POST", "content-length", "1"), "400"},
		"too large":             {request("GET", "a", string(bytes.Repeat([]byte("b"), 17<<10))), "431"},
		"a body, said absent":   {join(request("POST", "content-length", "0"), frame(frameData, 'a')), "400"},
		"more body than said":   {join(request("POST", "content-length", "1"), frame(frameData, 'a', 'b')), ""},
		"less body than said":   {join(request("POST", "content-length", "3"), frame(frameData, 'a', 'b')), ""},
		"no head":               {frame(0x21), ""},
		"pseudo in trailers":    {join(request("POST"), frame(frameData, 'a'), headers(":path", "/")), ""},
		"framing in trailers":   {join(request("POST"), frame(frameData, 'a'), headers("content-length", "1")), ""},
		"line end in trailers":  {join(request("POST"), frame(frameData, 'a'), headers("a", "b\n")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := r.stream(q, c.b)
			s.Close()
			b, err := io.ReadAll(s)
			if c.status == "" {
				if _, ok := errors.AsType[*quic.StreamError](err); !ok {
					t.Errorf("%q, %v", b, err)
				}
				return
			}
			if got := statusOf(t, b); got != c.status {
				t.Errorf("status %q, %v", got, err)
			}
		})
	}
	s := r.stream(q, request("GET"))
	s.Close()
	if b, err := io.ReadAll(s); err != nil || statusOf(t, b) != "200" {
		t.Errorf("after all that: %q, %v", b, err)
	}
}

// RFC 9114 section 4.1.2: of a body that is longer than was said the exchange does
// not get so much that it could take it for the whole.
func TestBodyLongerThanSaidIsNeverWhole(t *testing.T) {
	got := make(chan int, 1)
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, _ *wire.Head, _ *l7.Abort) {
			p, all := make([]byte, 16), 0
			for {
				n, err := f.Body(p)
				all += n
				if err != nil {
					got <- all
					f.Break()
					return
				}
			}
		}
	})
	s := r.stream(r.dial(true), join(request("POST", "content-length", "5"), frame(frameData, []byte("hel")...), frame(frameData, []byte("lo")...)))
	if _, err := s.Write(frame(frameData, []byte("GET / HTTP/1.1")...)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n := <-got; n >= 5 {
		t.Errorf("the exchange read %d octets of 5", n)
	}
}

// statusOf reads the status of an answer.
func statusOf(t testing.TB, b []byte) string {
	t.Helper()
	if len(b) == 0 {
		return ""
	}
	_, n, _ := quicvarint.Parse(b)
	length, m, err := quicvarint.Parse(b[n:])
	if b[0] != frameHeaders || err != nil {
		t.Fatalf("no head: %x", b)
	}
	fields, err := elsewhere(b[n+m : n+m+int(length)])
	if err != nil || len(fields) == 0 || fields[0][0] != ":status" {
		t.Fatalf("%q, %v", fields, err)
	}
	return fields[0][1]
}

// Frames and streams of types that nobody knows are passed over (RFC 9114
// section 9), as are GOAWAY and settings of the client.
func TestUnknownIsSkipped(t *testing.T) {
	r := start(t, nil)
	q := r.dial(false)
	r.uni(q, join([]byte{streamControl}, frame(frameSettings, 0x21, 1, 0x1, 0, 0x6, 0x10), frame(0x21, 1, 2, 3), frame(frameMaxPushID, 3), frame(frameMaxPushID, 9), frame(frameGoaway, 4), frame(frameGoaway, 0)))
	r.uni(q, append(quicvarint.Append(nil, 0x21), "whatever"...))
	r.uni(q, []byte{streamEncoder, 0x20})
	r.uni(q, []byte{streamDecoder, 0x40, 0x7f, 0x80, 0x01})
	s := r.stream(q, join(frame(0x21, make([]byte, 5000)...), request("POST"), frame(0x21), frame(frameData, 'a'), frame(0x40, 1), frame(frameData, 'b'), frame(0x21), headers("x-end", "1"), frame(0x21)))
	s.Close()
	b, err := io.ReadAll(s)
	if err != nil || statusOf(t, b) != "200" || !bytes.Contains(b, frame(frameData, 'a')) || !bytes.Contains(b, frame(frameData, 'b')) {
		t.Errorf("%q, %v", b, err)
	}
}

// A request may come octet by octet.
func TestOctetByOctet(t *testing.T) {
	r := start(t, nil)
	q := r.dial(true)
	b := join(request("POST", "content-length", "5"), frame(frameData, 'a', 'b'), frame(frameData, 'c', 'd', 'e'), headers("x-end", "1"))
	s := r.stream(q, b[:1])
	for i := range b[1:] {
		if _, err := s.Write(b[i+1 : i+2]); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	answer, err := io.ReadAll(s)
	if err != nil || statusOf(t, answer) != "200" {
		t.Errorf("%q, %v", answer, err)
	}
}
