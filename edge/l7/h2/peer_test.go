package h2

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer is a client that speaks frames, well or badly, by x/net's Framer.
type peer struct {
	*http2.Framer
	t   testing.TB
	c   net.Conn
	enc *hpack.Encoder
	buf bytes.Buffer
}

// dial connects, and exchanges prefaces.
func dial(t testing.TB, address string, settings ...http2.Setting) *peer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return greeted(t, c, settings...)
}

func greeted(t testing.TB, c net.Conn, settings ...http2.Setting) *peer {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	p := &peer{Framer: http2.NewFramer(c, c), t: t, c: c}
	p.enc = hpack.NewEncoder(&p.buf)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.MaxHeaderListSize = 1 << 20
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write([]byte(http2.ClientPreface))
	p.WriteSettings(settings...)
	return p
}

// block encodes fields, given as name and value.
func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.buf.Bytes())
}

// ask sends the head of a request, with more fields.
func (p *peer) ask(id uint32, end bool, more ...string) {
	fields := append([]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.demo.test"}, more...)
	p.head(id, end, fields...)
}

func (p *peer) head(id uint32, end bool, fields ...string) {
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true})
}

// until reads frames until one satisfies want, and takes those of settings.
func (p *peer) until(want func(http2.Frame) bool) http2.Frame {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.t.Fatalf("reading: %v", err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			p.WriteSettingsAck()
		}
		if want(f) {
			return f
		}
	}
}

// answer reads the head of the answer on a stream.
func (p *peer) answer(id uint32) *http2.MetaHeadersFrame {
	p.t.Helper()
	return p.until(func(f http2.Frame) bool {
		_, ok := f.(*http2.MetaHeadersFrame)
		return ok && f.Header().StreamID == id
	}).(*http2.MetaHeadersFrame)
}

// ended reads until the stream has ended, and gives its body.
func (p *peer) ended(id uint32) string {
	p.t.Helper()
	var body []byte
	p.until(func(f http2.Frame) bool {
		if f.Header().StreamID != id {
			return false
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			return f.StreamEnded()
		case *http2.MetaHeadersFrame:
			return f.StreamEnded()
		case *http2.RSTStreamFrame:
			p.t.Fatalf("stream %d was reset: %v", id, f.ErrCode)
		}
		return false
	})
	return string(body)
}

// reset reads until the stream is reset.
func (p *peer) reset(id uint32) http2.ErrCode {
	p.t.Helper()
	return p.until(func(f http2.Frame) bool {
		_, ok := f.(*http2.RSTStreamFrame)
		return ok && f.Header().StreamID == id
	}).(*http2.RSTStreamFrame).ErrCode
}

// away reads until GOAWAY.
func (p *peer) away() *http2.GoAwayFrame {
	p.t.Helper()
	return p.until(func(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok }).(*http2.GoAwayFrame)
}

func newEncoder(b *bytes.Buffer) *hpack.Encoder { return hpack.NewEncoder(b) }
func newHPACK() *hpack.Decoder                  { return hpack.NewDecoder(4096, nil) }

// acceptKey is RFC 6455's answer to a key.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
