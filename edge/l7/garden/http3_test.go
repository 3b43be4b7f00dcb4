package garden_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/edge/l7"
	"meridian/edge/l7/garden"
	"meridian/edge/l7/h3"
)

// What a client says in HTTP/3 becomes nothing else in the HTTP/1.1 that origins
// are asked in.
func TestHostileStreamsOverHTTP3AreReadByAllAlikeOrRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests; the race detector has seen their like")
	}
	list := origins(t)
	gw := startGateway(t, list, http3(t))
	requests := slices.DeleteFunc(garden.HTTP3Streams(), func(s garden.Stream) bool { return !strings.Contains(s.Name, *only) })
	walks := streamWalks(list, requests)
	clients := quicClients{gw: gw, idle: make(chan *quic.Conn, workers*len(list))}
	defer clients.close()
	send(t, gw, list, walks, func(i int, w *walk) {
		r := requests[i%len(requests)]
		got, err := clients.ask(r, hostOf(w.origin), w.id, i/len(requests)%2 == 0)
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		w.got = got
	})
	for _, w := range walks {
		w.read()
	}
	judge(t, list, walks)
	t.Logf("by %d connections", clients.dialed.Load())
}

// http3 lets a gateway serve HTTP/3.
func http3(t *testing.T) func(*l7.Config) {
	c, err := h3.New(h3.Config{Node: "n1", Key: [16]byte{1}, ResetKey: [32]byte{2}, TokenKey: [32]byte{3}, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *l7.Config) { cfg.HTTP3 = c }
}

// quicClients are connections of HTTP/3, which serve again as long as no stream
// has broken them.
type quicClients struct {
	gw     *gateway
	idle   chan *quic.Conn
	dialed atomic.Int64
}

func (k *quicClients) take() (*quic.Conn, error) {
	for {
		select {
		case c := <-k.idle:
			if c.Context().Err() == nil {
				return c, nil
			}
			continue
		default:
		}
		k.dialed.Add(1)
		c, err := quic.DialAddr(context.Background(), k.gw.packets, &tls.Config{RootCAs: k.gw.authority.Pool, ServerName: "any.garden.test", NextProtos: []string{h3.Protocol}}, nil)
		if err != nil {
			return nil, err
		}
		s, err := c.OpenUniStream()
		if err == nil {
			_, err = s.Write([]byte{0, 4, 0}) // a control stream with no settings
		}
		return c, err
	}
}

func (k *quicClients) close() {
	for {
		select {
		case c := <-k.idle:
			_ = c.CloseWithError(0x100, "")
		default:
			return
		}
	}
}

// ask sends a request on a stream and another on the next, and gives the answers
// in the form of HTTP/1.1. plain: without Huffman and the static table.
func (k *quicClients) ask(r garden.Stream, host, id string, plain bool) (string, error) {
	c, err := k.take()
	if err != nil {
		return "", err
	}
	defer func() { k.idle <- c }()
	var octets []byte
	for _, f := range r.ForHTTP3() {
		octets = appendFrame(octets, f, host, id, plain)
	}
	one := start3(c, octets, !r.Reset)
	two := start3(c, appendFrame(nil, garden.Frame{Kind: 1, Fields: []garden.Field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "{host}"}, {Name: ":path", Value: "/two-{id}"}}}, host, id, plain), true)
	second := answer3(two)
	if r.Reset && one != nil {
		one.CancelWrite(0x10c)
	}
	return answer3(one) + "\r\n" + second + "\r\n", nil
}

// start3 sends octets on a new stream; nil: the connection is no more.
func start3(c *quic.Conn, octets []byte, end bool) *quic.Stream {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		return nil
	}
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = s.Write(octets) // it may be refused while it is sent
	if end {
		_ = s.Close()
	}
	return s
}

// answer3 gives the final head of a stream's answer, "" where none comes.
func answer3(s *quic.Stream) string {
	if s == nil {
		return ""
	}
	b, _ := io.ReadAll(s) // what came before a reset counts
	for r := bytes.NewReader(b); ; {
		kind, err := quicvarint.Read(r)
		if err != nil {
			return ""
		}
		length, err := quicvarint.Read(r)
		if err != nil || length > uint64(r.Len()) {
			return ""
		}
		payload := make([]byte, length)
		_, _ = io.ReadFull(r, payload)
		if kind != 1 {
			continue
		}
		var head strings.Builder
		next := qpack.NewDecoder().Decode(payload)
		for f, err := next(); err == nil; f, err = next() {
			if f.Name == ":status" {
				head.WriteString("HTTP/1.1 " + f.Value)
				continue
			}
			head.WriteString("\r\n" + f.Name + ": " + f.Value)
		}
		if !strings.HasPrefix(head.String(), "HTTP/1.1 1") {
			return head.String()
		}
	}
}

func appendFrame(b []byte, f garden.Frame, host, id string, plain bool) []byte {
	payload := []byte(garden.Octets(f.Payload).For(host, id))
	if f.Fields != nil {
		payload = section(f.Fields, host, id, plain)
	}
	length := uint64(len(payload) + f.Missing)
	if f.Wide {
		b = quicvarint.AppendWithLen(quicvarint.AppendWithLen(b, f.Kind, 8), length, 8)
	} else {
		b = quicvarint.Append(quicvarint.Append(b, f.Kind), length)
	}
	return append(b, payload...)
}

// section encodes fields just as they are.
func section(list []garden.Field, host, id string, plain bool) []byte {
	var b bytes.Buffer
	enc := qpack.NewEncoder(&b)
	if plain {
		b.Write([]byte{0, 0})
	}
	for _, f := range list {
		f = f.For(host, id)
		if plain {
			b.Write(appendText(appendText(nil, 0x20, 3, f.Name), 0, 7, f.Value))
		} else {
			_ = enc.WriteField(qpack.HeaderField{Name: f.Name, Value: f.Value}) // to a buffer
		}
	}
	return b.Bytes()
}

// appendText appends a string whose length has so many bits in the first octet
// (RFC 9204 section 4.1).
func appendText(b []byte, pattern byte, bits int, s string) []byte {
	n, most := len(s), 1<<bits-1
	if n < most {
		return append(append(b, pattern|byte(n)), s...)
	}
	b = append(b, pattern|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n)), s...)
}
