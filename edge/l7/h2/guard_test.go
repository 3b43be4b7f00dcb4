package h2

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// Each flood ends its connection with ENHANCE_YOUR_CALM, early: the exchanges
// begun, the goroutines and the memory stay within bounds.
func TestFloodsEndTheConnection(t *testing.T) {
	ask := func(p *peer, id uint32) { p.ask(id, false) }
	for _, tc := range []struct {
		name, reason string
		flood        func(p *peer, i uint32)
	}{
		{"rapid reset (CVE-2023-44487)", "reset_flood", func(p *peer, i uint32) {
			ask(p, 2*i+1)
			p.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}},
		{"MadeYouReset by a zero increment (CVE-2025-8671)", "reset_flood or window_update_flood", func(p *peer, i uint32) {
			ask(p, 2*i+1)
			p.WriteRawFrame(http2.FrameWindowUpdate, 0, 2*i+1, []byte{0, 0, 0, 0})
		}},
		{"MadeYouReset by DATA after the end", "reset_flood or empty_data_flood", func(p *peer, i uint32) {
			p.ask(2*i+1, true)
			p.WriteData(2*i+1, true, nil)
		}},
		{"MadeYouReset by an overflowing window", "reset_flood or window_update_flood", func(p *peer, i uint32) {
			ask(p, 2*i+1)
			p.WriteWindowUpdate(2*i+1, 1<<31-1)
		}},
		{"MadeYouReset by a self-dependency", "reset_flood or priority_flood", func(p *peer, i uint32) {
			ask(p, 2*i+1)
			p.WriteRawFrame(http2.FramePriority, 0, 2*i+1, []byte{byte((2*i + 1) >> 24), byte((2*i + 1) >> 16), byte((2*i + 1) >> 8), byte(2*i + 1), 0})
		}},
		{"more streams than allowed", "reset_flood", func(p *peer, i uint32) { ask(p, 2*i+1) }},
		{"SETTINGS", "settings_flood", func(p *peer, i uint32) {
			p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: i})
		}},
		{"PING", "ping_flood", func(p *peer, i uint32) { p.WritePing(false, [8]byte{}) }},
		{"PRIORITY", "priority_flood", func(p *peer, i uint32) {
			p.WritePriority(2*i+101, http2.PriorityParam{StreamDep: 1})
		}},
		{"WINDOW_UPDATE", "window_update_flood", func(p *peer, i uint32) { p.WriteWindowUpdate(0, 1) }},
		{"frames of no known kind", "unknown_frames", func(p *peer, i uint32) { p.WriteRawFrame(0xbe, 0, 0, nil) }},
		{"empty DATA", "empty_data_flood", func(p *peer, i uint32) {
			if i == 0 {
				ask(p, 1)
			}
			p.WriteData(1, false, nil)
		}},
		{"CONTINUATION", "continuation_flood", func(p *peer, i uint32) {
			if i == 0 {
				p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "GET")})
				return
			}
			p.WriteContinuation(1, false, nil)
		}},
		{"CONTINUATION with large frames", "continuation_flood", func(p *peer, i uint32) {
			if i == 0 {
				p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "GET")})
				return
			}
			p.WriteContinuation(1, false, make([]byte, 16000))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var begun, most atomic.Int64
			s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) {
				most.Store(max(most.Load(), begun.Add(1)))
				f.Body(make([]byte, 1))
				begun.Add(-1)
			})
			p := dial(t, listen(t, s, nil))
			go func() {
				w := &peer{Framer: http2.NewFramer(p.c, nil)} // reading and writing at a time
				w.AllowIllegalWrites = true
				w.enc = hpack.NewEncoder(&w.buf)
				for i := uint32(0); i < 40000; i++ {
					tc.flood(w, i)
				}
			}()
			if f := p.away(); f.ErrCode != http2.ErrCodeEnhanceYourCalm {
				t.Error(f)
			}
			if !eventually(func() bool { return s.abused(t) != "" }) || !strings.Contains(tc.reason, s.abused(t)) {
				t.Errorf("told of %q", s.abused(t))
			}
			if n := most.Load(); n > int64(s.limits.Streams) {
				t.Errorf("%d exchanges at a time", n)
			}
		})
	}
}

// A header bomb (a small block that names a large entry over and over) is
// decoded without being kept.
func TestHeaderBombIsBounded(t *testing.T) {
	s := newSession(nil)
	p := dial(t, listen(t, s, nil))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	block := append(p.block(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a.test", "x-bomb", strings.Repeat("b", 3900)),
		bytes.Repeat([]byte{0x80 | 62}, 12000)...)
	for id := uint32(1); id < 40; id += 2 {
		p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true})
		if h := p.answer(id); h.PseudoValue("status") != "431" {
			t.Fatal(h)
		}
		block = append(p.block(":method", "GET"), bytes.Repeat([]byte{0x80 | 62}, 12000)...)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d octets for 20 bombs of 46 MB each", grown)
	}
}

// Padding takes its part of both windows (RFC 9113 section 6.9.1), and gives it
// back at once.
func TestPaddingIsGivenBack(t *testing.T) {
	p := dial(t, listen(t, newSession(nil), nil))
	p.head(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "www.demo.test")
	pad := make([]byte, 255)
	const frames = 2 * connWindow / 256
	for i := range frames {
		if err := p.WriteDataPadded(1, i == frames-1, []byte("x"), pad); err != nil {
			t.Fatal(err)
		}
	}
	if h := p.answer(1); h.PseudoValue("status") != "200" {
		t.Error(h)
	}
	if got := p.ended(1); got != fmt.Sprintf("hello %d", frames) {
		t.Errorf("%q", got)
	}
}

// A head has as many fields as one of HTTP/1.1 may, of which cookies are one
// (RFC 9113 section 8.2.3), an answer twice as many.
func TestFieldsAreCounted(t *testing.T) {
	p := dial(t, listen(t, newSession(nil), nil))
	var fields []string
	for range wire.MaxFields {
		fields = append(fields, "a", "b", "cookie", "c=d")
	}
	p.ask(1, true, fields...)
	if h := p.answer(1); h.PseudoValue("status") != "200" {
		t.Errorf("as many as may be, and cookies: %v", h)
	}
	p.ask(3, true, append(fields, "a", "b")...)
	if h := p.answer(3); h.PseudoValue("status") != "431" {
		t.Errorf("one more: %v", h)
	}
	for n, good := range map[int]bool{2 * wire.MaxFields: true, 2*wire.MaxFields + 1: false} {
		at := fake(t, func(p *peer) {
			answer := []string{":status", "200"}
			for range n {
				answer = append(answer, "a", "b")
			}
			p.head(p.asked(), true, answer...)
			p.asked()
		})
		if status, _, err := fetch(to(t, at, nil), request("GET", "/"), ""); (err == nil) != good {
			t.Errorf("an answer of %d: %d, %v", n, status, err)
		}
	}
}

// A peer that sends what wants answers, and reads none, is cut off before they
// fill the memory.
func TestUnreadAnswersAreBounded(t *testing.T) {
	s := newSession(nil)
	p := dial(t, listen(t, s, nil))
	p.c.SetWriteDeadline(time.Now().Add(15 * time.Second))
	for {
		if p.WritePing(false, [8]byte{}) != nil {
			break
		}
	}
	if !eventually(func() bool { return s.abused(t) != "" }) {
		t.Error("the connection stays")
	}
}

// A busy client that cancels some requests is no flood.
func TestBusyClientIsNoFlood(t *testing.T) {
	s := newSession(func(f l7.Front, h *wire.Head, _ *l7.Abort) { say(f, 200, "x") })
	p := dial(t, listen(t, s, nil))
	id := uint32(1)
	for range 2000 {
		p.ask(id, true)
		p.WritePing(false, [8]byte{})
		p.WriteWindowUpdate(0, 1)
		p.ended(id)
		id += 2
	}
	if reason := s.abused(t); reason != "" {
		t.Error(reason)
	}
}
