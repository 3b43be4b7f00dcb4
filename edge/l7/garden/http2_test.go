package garden_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meridian/edge/l7"
	"meridian/edge/l7/garden"
	"meridian/edge/l7/h2"
)

// What a client says in HTTP/2 becomes nothing else in the HTTP/1.1 that origins
// are asked in.
func TestHostileStreamsAreReadByAllAlikeOrRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests; the race detector has seen their like")
	}
	list := origins(t)
	gw := startGateway(t, list, func(c *l7.Config) { c.HTTP2, c.Mux = h2.New(), h2.NewUpstream })
	requests := slices.DeleteFunc(garden.Streams(), func(s garden.Stream) bool { return !strings.Contains(s.Name, *only) })
	walks := streamWalks(list, requests)
	send(t, gw, list, walks, func(i int, w *walk) {
		r := requests[i%len(requests)]
		got, err := stream(gw, r, hostOf(w.origin), w.id)
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		w.got = got
	})
	for _, w := range walks {
		w.read()
	}
	judge(t, list, walks)
}

// streamWalks: a refused stream is the origin's not to see, but the one after it
// may come through.
func streamWalks(list []*origin, requests []garden.Stream) (walks []*walk) {
	two := garden.Seen{Mark: "two", Method: "GET"}
	for _, o := range list {
		for _, r := range requests {
			w := &walk{name: r.Name, want: r.Want, seen: append(slices.Clone(r.Seen), two), origin: o, streams: true, id: fmt.Sprintf("%06d", len(walks))}
			if w.want == garden.Refuse {
				w.want = garden.Either
			}
			walks = append(walks, w)
		}
	}
	return walks
}

// stream sends a request on stream 1 and another on stream 3, and gives the
// answers in the form of HTTP/1.1.
func stream(gw *gateway, r garden.Stream, host, id string) (string, error) {
	c, err := tls.Dial("tcp", gw.secure, &tls.Config{RootCAs: gw.authority.Pool, ServerName: host, NextProtos: []string{"h2"}})
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&out, c)
	fr.AllowIllegalWrites = true
	fr.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := func(n uint32, end bool, list []garden.Field) {
		block.Reset()
		for _, f := range list {
			f = f.For(host, id)
			enc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value})
		}
		rest := block.Bytes()
		first := rest[:min(len(rest), 16000)]
		rest = rest[len(first):]
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: n, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0})
		for len(rest) > 0 {
			part := rest[:min(len(rest), 16000)]
			rest = rest[len(part):]
			fr.WriteContinuation(n, len(rest) == 0, part)
		}
	}
	fields(1, len(r.Body) == 0 && r.Trailers == nil, r.Fields)
	for i, d := range r.Body {
		fr.WriteData(1, i == len(r.Body)-1 && r.Trailers == nil, []byte(garden.Octets(d).For(host, id)))
	}
	if r.Trailers != nil {
		fields(1, true, r.Trailers)
	}
	fields(3, true, []garden.Field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "{host}"}, {Name: ":path", Value: "/two-{id}"}})
	if _, err := c.Write(out.Bytes()); err != nil {
		return "", nil // refused while it was sent
	}
	return answersOf(c), nil
}

// answersOf reads until both streams have ended or the connection has; in the
// order of the streams.
func answersOf(c net.Conn) string {
	fr := http2.NewFramer(io.Discard, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	heads := map[uint32]string{}
	ended := map[uint32]bool{}
	for !ended[1] || !ended[3] {
		f, err := fr.ReadFrame()
		if err != nil {
			break
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if heads[f.StreamID] == "" && !strings.HasPrefix(f.PseudoValue("status"), "1") {
				heads[f.StreamID] = "HTTP/1.1 " + f.PseudoValue("status")
				for _, h := range f.RegularFields() {
					heads[f.StreamID] += "\r\n" + h.Name + ": " + h.Value
				}
			}
			ended[f.StreamID] = ended[f.StreamID] || f.StreamEnded()
		case *http2.DataFrame:
			ended[f.StreamID] = ended[f.StreamID] || f.StreamEnded()
		case *http2.RSTStreamFrame:
			ended[f.StreamID] = true
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				ended[1], ended[3] = true, true
			}
		}
	}
	return heads[1] + "\r\n" + heads[3] + "\r\n"
}
