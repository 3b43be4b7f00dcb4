package tap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/server"
	"meridian/fleet"
	"meridian/internal/testkit"
)

var (
	at     = time.Unix(1_800_000_000, 5000).UTC()
	client = netip.MustParseAddrPort("192.0.2.7:5353")
)

func message(t testing.TB) (query, response []byte) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("www.demo.test.", dns.TypeA)
	query, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m.Response = true
	rr, _ := dns.NewRR("www.demo.test. 300 IN A 192.0.2.1")
	m.Answer = append(m.Answer, rr)
	if response, err = m.Pack(); err != nil {
		t.Fatal(err)
	}
	return query, response
}

// start runs a Tap and gives what ends it.
func start(t testing.TB, to *fleet.Tap) (*Tap, func()) {
	t.Helper()
	tap := New(Config{Identity: "fra-1", Version: "test", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := tap.Apply(&fleet.World{Snapshot: &fleet.Snapshot{Spec: &fleet.Spec{DNS: fleet.DNS{Tap: to}}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tap.Run(ctx) }()
	return tap, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What dnstap's own reader sees.
func TestFileIsReadByDnstapLdns(t *testing.T) {
	reader := testkit.Program(t, "dnstap-ldns")
	path := filepath.Join(t.TempDir(), "queries.tap")
	tap, stop := start(t, &fleet.Tap{File: path, Sample: 1})
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C { // until it is open
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	query, response := message(t)
	tap.Take(query, response, client, server.TCP, at)
	tap.Take(query, nil, netip.MustParseAddrPort("[2001:db8::7]:99"), server.UDP, at)
	stop()
	out, err := exec.Command(reader, "-y", "-r", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"AUTH_RESPONSE", "AUTH_QUERY", "192.0.2.7", "2001:db8::7", "5353", "TCP", "www.demo.test", `"fra-1"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// A collector at a socket agrees on the content first and is told of the end.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tap.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tap, stop := start(t, &fleet.Tap{Socket: path, Sample: 1})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	expect := func(want uint32) {
		t.Helper()
		if kind, _, err := readControl(c); err != nil || kind != want {
			t.Fatalf("control frame %d %v, want %d", kind, err, want)
		}
	}
	answer := func(kind uint32) {
		body := binary.BigEndian.AppendUint32(nil, kind)
		if kind == controlAccept {
			body = binary.BigEndian.AppendUint32(body, 1)
			body = binary.BigEndian.AppendUint32(body, uint32(len(contentType)))
			body = append(body, contentType...)
		}
		c.Write(append(binary.BigEndian.AppendUint32(make([]byte, 4), uint32(len(body))), body...))
	}
	expect(controlReady)
	answer(controlAccept)
	expect(controlStart)
	query, response := message(t)
	tap.Take(query, response, client, server.UDP, at)
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil || !bytes.Contains(b, response) {
		t.Errorf("%v %x", err, b)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); stop() }()
	expect(controlStop)
	answer(controlFinish)
	<-ended
}

// A file that has been moved away is begun anew; one that was there is kept.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "queries.tap")
	if err := os.WriteFile(path, []byte("of before"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), &fleet.Tap{File: path})
	if err != nil {
		t.Fatal(err)
	}
	if kept, _ := filepath.Glob(path + ".*"); len(kept) != 1 {
		t.Errorf("the log of before: %v", kept)
	}
	if err := s.tick(); err != nil {
		t.Error(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := s.tick(); !errors.Is(err, errMoved) {
		t.Errorf("%v", err)
	}
	s.abandon()
}

// A collector that does not read holds up nobody: what does not fit is counted.
func TestTakeNeverWaits(t *testing.T) {
	tap := New(Config{Logger: slog.Default()})
	query, response := message(t)
	for range queue + 10 {
		tap.Take(query, response, client, server.UDP, at)
	}
	if len(tap.frames) != queue {
		t.Errorf("%d wait", len(tap.frames))
	}
}

func BenchmarkTake(b *testing.B) {
	tap := New(Config{Identity: "fra-1", Logger: slog.Default()})
	query, response := message(b)
	b.ReportAllocs()
	for b.Loop() {
		tap.Take(query, response, client, server.UDP, at)
		tap.spare.Put(<-tap.frames)
	}
}
