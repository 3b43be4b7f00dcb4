package h2

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// client is net/http's, speaking HTTP/2 with prior knowledge.
func client(t testing.TB) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func TestBodiesPassBothWays(t *testing.T) {
	echo := func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		f.Answer(&wire.Head{Status: 200}, false)
		buf := make([]byte, 10000)
		for {
			n, err := f.Body(buf)
			if err == io.EOF {
				break
			}
			if err != nil || f.Write(buf[:n]) != nil {
				f.Break()
				return
			}
		}
		f.End(nil)
	}
	url := "http://" + listen(t, newSession(echo), nil)
	c := client(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			want := strings.Repeat(fmt.Sprint(i, " is sent "), 1+i*5000)
			res, err := c.Post(url, "text/plain", strings.NewReader(want))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || string(got) != want {
				t.Errorf("%d: %d octets of %d, %v", i, len(got), len(want), err)
			}
		})
	}
	all.Wait()
}

func TestTrailersAndInterimAnswers(t *testing.T) {
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		early := &wire.Head{Status: 103}
		early.Add("link", "</a.css>")
		f.Interim(early)
		io.Copy(io.Discard, bodyOf{f})
		head := &wire.Head{Status: 200}
		head.Add("Trailer", "Checked")
		f.Answer(head, false)
		f.Write([]byte("body"))
		end := new(wire.Head)
		if in := f.BodyTrailers(); in != nil {
			end.Add("Checked", string(in.Fields[0].Name)+"="+string(in.Fields[0].Value))
		}
		f.End(end)
	})
	p := dial(t, listen(t, s, nil))
	p.ask(1, false)
	p.WriteData(1, false, []byte("in"))
	p.head(1, true, "sum", "17")
	if h := p.answer(1); h.PseudoValue("status") != "103" || h.RegularFields()[0].Value != "</a.css>" {
		t.Errorf("interim: %v", h)
	}
	if h := p.answer(1); h.PseudoValue("status") != "200" {
		t.Errorf("answer: %v", h)
	}
	if h := p.answer(1); !h.StreamEnded() || h.Fields[0].Name != "checked" || h.Fields[0].Value != "sum=17" {
		t.Errorf("trailers: %v", h)
	}
}

// bodyOf makes a Front's body a Reader.
type bodyOf struct{ l7.Front }

func (b bodyOf) Read(p []byte) (int, error) { return b.Body(p) }

// A head of HTTP/1.1 has the same meaning in HTTP/2.
func TestAnswersHeadIsOfHTTP2(t *testing.T) {
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		head := &wire.Head{Status: 418}
		for _, n := range []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "X-Own", "Set-Cookie", "ETag"} {
			head.Add(n, "v")
		}
		f.Answer(head, true)
	})
	p := dial(t, listen(t, s, nil))
	p.ask(1, true)
	h := p.answer(1)
	var names []string
	for _, f := range h.RegularFields() {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "x-own set-cookie etag" || h.PseudoValue("status") != "418" || !h.StreamEnded() {
		t.Errorf("%s %q", h.PseudoValue("status"), got)
	}
}

// What a request says reaches the exchange as it was, an extended CONNECT with
// its protocol (RFC 8441).
func TestRequestHeads(t *testing.T) {
	var got wire.Head
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		got.Reset()
		got.Method, got.Protocol, got.Authority, got.Target = got.Keep(h.Method), got.Keep(h.Protocol), got.Keep(h.Authority), got.Keep(h.Target)
		got.Length = h.Length
		for _, f := range h.Fields {
			got.Add(string(f.Name), string(f.Value))
		}
		f.Answer(&wire.Head{Status: 200}, true)
	})
	p := dial(t, listen(t, s, nil))
	p.ask(1, true, "cookie", "a=1", "x-own", "v", "cookie", "b=2", "user-agent", "peer")
	p.answer(1)
	if got.Count(wire.Cookie) != 2 || len(got.Fields) != 4 || string(got.Authority) != "www.demo.test" || got.Length != 0 {
		t.Errorf("%s %q", got.Authority, got.Fields)
	}
	p.head(3, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/chat", ":authority", "www.demo.test")
	p.answer(3)
	if string(got.Protocol) != "websocket" || string(got.Target) != "/chat" || !got.Is("CONNECT") {
		t.Errorf("%s %s %s", got.Method, got.Protocol, got.Target)
	}
}

// A tunnel carries octets both ways, and each way ends alone.
func TestExtendedConnectIsATunnel(t *testing.T) {
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		f.Answer(&wire.Head{Status: 200}, false)
		f.Flush()
		buf := make([]byte, 100)
		for {
			n, err := f.Body(buf)
			if err != nil {
				break
			}
			f.Write(append([]byte("<"), buf[:n]...))
			f.Flush()
		}
		f.Write([]byte("bye"))
		f.End(nil)
	})
	p := dial(t, listen(t, s, nil))
	if v, ok := p.until(func(f http2.Frame) bool { _, ok := f.(*http2.SettingsFrame); return ok }).(*http2.SettingsFrame).Value(http2.SettingEnableConnectProtocol); !ok || v != 1 {
		t.Error("extended CONNECT is not offered")
	}
	p.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "www.demo.test")
	p.answer(1)
	for _, word := range []string{"one", "two"} {
		p.WriteData(1, false, []byte(word))
		d := p.until(func(f http2.Frame) bool { _, ok := f.(*http2.DataFrame); return ok }).(*http2.DataFrame)
		if string(d.Data()) != "<"+word || d.StreamEnded() {
			t.Errorf("%q", d.Data())
		}
	}
	p.WriteData(1, true, nil)
	if got := p.ended(1); got != "bye" {
		t.Errorf("%q", got)
	}
}

func TestMalformedRequestsAreReset(t *testing.T) {
	base := []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.demo.test"}
	for _, tc := range []struct {
		name   string
		fields []string
	}{
		{"capital letter", append(base[:8:8], "X-Own", "v")},
		{"connection", append(base[:8:8], "connection", "close")},
		{"transfer-encoding", append(base[:8:8], "transfer-encoding", "chunked")},
		{"te", append(base[:8:8], "te", "gzip")},
		{"pseudo-field after a field", append([]string{"x-own", "v"}, base...)},
		{"pseudo-field twice", append(base[:8:8], ":path", "/b")},
		{"status", append(base[:8:8], ":status", "200")},
		{"unknown pseudo-field", append(base[:8:8], ":version", "2")},
		{"no method", base[2:]},
		{"line feed in a value", append(base[:8:8], "x-own", "a\nb: c")},
		{"space in a name", append(base[:8:8], "x own", "a")},
		{"other host", append(base[:8:8], "host", "other.test")},
		{"two lengths", append(base[:8:8], "content-length", "0", "content-length", "0")},
		{"length without a body", append(base[:8:8], "content-length", "3")},
		{"path with a line feed", []string{":method", "GET", ":scheme", "http", ":path", "/ HTTP/1.1\r\n", ":authority", "a.test"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) { t.Error("served"); f.Break() })
			p := dial(t, listen(t, s, nil))
			p.head(1, true, tc.fields...)
			if code := p.reset(1); code != http2.ErrCodeProtocol {
				t.Error(code)
			}
			if len(s.faults) != 1 {
				t.Errorf("told of %v", s.faults)
			}
		})
	}
}

// A body that is not as long as was said never ends well for the exchange.
func TestBodyOfAnotherLength(t *testing.T) {
	for _, sent := range []string{"four", "sixsix"} {
		ended := make(chan error, 1)
		s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
			_, err := io.Copy(io.Discard, bodyOf{f})
			ended <- err
			f.Break()
		})
		p := dial(t, listen(t, s, nil))
		p.ask(1, false, "content-length", "5")
		p.WriteData(1, true, []byte(sent))
		if code := p.reset(1); code != http2.ErrCodeProtocol {
			t.Error(code)
		}
		if err := <-ended; err == nil {
			t.Errorf("%q was read to its end", sent)
		}
	}
}

func TestTooLargeHeadIsToldSo(t *testing.T) {
	s := newSession(nil)
	p := dial(t, listen(t, s, nil))
	p.ask(1, true, "x-long", strings.Repeat("a", 5000), "x-more", strings.Repeat("b", 9000), "x-end", strings.Repeat("c", 9000))
	if h := p.answer(1); h.PseudoValue("status") != "431" {
		t.Error(h)
	}
	p.ask(3, true, "x-short", "a") // the tables are still in step
	if h := p.answer(3); h.PseudoValue("status") != "200" {
		t.Error(h)
	}
}

// A client that takes its request back is known to the exchange at once.
func TestResetFiresAbort(t *testing.T) {
	begun := make(chan *l7.Abort, 1)
	body := make(chan error, 1)
	s := newSession(func(f l7.Front, h *wire.Head, a *l7.Abort) {
		begun <- a
		_, err := f.Body(make([]byte, 1))
		body <- err
	})
	p := dial(t, listen(t, s, nil))
	p.ask(1, false)
	a := <-begun
	p.WriteRSTStream(1, http2.ErrCodeCancel)
	if err := <-body; err == nil || err == io.EOF {
		t.Errorf("body: %v", err)
	}
	if !eventually(a.Gone) {
		t.Error("Abort has not fired")
	}
	p.ask(3, false)
	a = <-begun
	p.c.Close()
	if err := <-body; err == nil {
		t.Error("the body goes on without a connection")
	}
	if !eventually(a.Gone) {
		t.Error("Abort has not fired")
	}
}

func eventually(ok func() bool) bool {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// An answer that comes before the body's end is whole, and the client is asked
// to send no more.
func TestEarlyAnswerEndsTheUpload(t *testing.T) {
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) { say(f, 403, "no") })
	p := dial(t, listen(t, s, nil))
	p.ask(1, false)
	if got := p.ended(1); got != "no" {
		t.Errorf("%q", got)
	}
	if code := p.reset(1); code != http2.ErrCodeNo {
		t.Error(code)
	}
	p.WriteData(1, false, make([]byte, 1000)) // was under way: no fault
	p.ask(3, true)
	if h := p.answer(3); h.PseudoValue("status") != "403" {
		t.Error(h)
	}
}

// An answer that breaks off is seen broken.
func TestBrokenAnswerIsReset(t *testing.T) {
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		f.Answer(&wire.Head{Status: 200}, false)
		f.Write([]byte("half"))
		f.Break()
	})
	p := dial(t, listen(t, s, nil))
	p.ask(1, true)
	if code := p.reset(1); code != http2.ErrCodeInternal {
		t.Error(code)
	}
}

// Many small answers at a time cost few writes.
func TestSmallAnswersShareWrites(t *testing.T) {
	const streams = 20
	var arrived sync.WaitGroup
	arrived.Add(streams)
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
		arrived.Done()
		arrived.Wait()
		say(f, 200, "hello")
	})
	var writes atomic.Int64
	p := dial(t, listen(t, s, func(c net.Conn) net.Conn { return &counted{Conn: c, writes: &writes} }))
	for i := range streams {
		p.ask(uint32(2*i+1), true)
	}
	for n := 0; n < streams; {
		p.until(func(f http2.Frame) bool {
			d, ok := f.(*http2.DataFrame)
			if ok && d.StreamEnded() {
				n++
			}
			return n == streams
		})
	}
	if n := writes.Load(); n > streams {
		t.Errorf("%d writes for %d answers, settings among them", n, streams)
	}
}

type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}
