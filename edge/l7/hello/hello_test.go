package hello

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// client gives the octets that crypto/tls sends first.
func client(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go tls.Client(near, c).HandshakeContext(ctx)
	head := make([]byte, 5)
	if _, err := io.ReadFull(far, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(far, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// split puts the message of one record into records of n octets each.
func split(octets []byte, n int) []byte {
	var out []byte
	for b := octets[5:]; len(b) > 0; b = b[min(n, len(b)):] {
		out = append(out, octets[0], octets[1], octets[2], byte(min(n, len(b))>>8), byte(min(n, len(b))))
		out = append(out, b[:min(n, len(b))]...)
	}
	return out
}

// A hello of crypto/tls, with a post-quantum key share as is usual, is read however
// it is cut into records and pieces.
func TestReadHoweverItIsCut(t *testing.T) {
	octets := client(t, &tls.Config{ServerName: "www.demo.test"})
	if len(octets) < 1300 {
		t.Fatalf("%d octets: no post-quantum key share is in it", len(octets))
	}
	for _, n := range []int{1 << 14, 1000, 100, 7, 1} {
		cut := split(octets, n)
		var r Reader
		for i := range cut {
			h, err := r.Read(cut[:i+1])
			if i < len(cut)-1 {
				if err != ErrMore {
					t.Fatalf("records of %d, %d octets: %+v, %v", n, i+1, h, err)
				}
			} else if err != nil || h != (Hello{ServerName: "www.demo.test"}) {
				t.Errorf("records of %d: %+v, %v", n, h, err)
			}
		}
	}
}

// RFC 8446 section 5.1: no other record may be between those of one message. Who has
// begun a hello speaks TLS, though badly.
func TestReadAnotherRecordAmidstTheHello(t *testing.T) {
	first := split(client(t, &tls.Config{ServerName: "a.test"}), 100)[:105]
	for _, next := range []string{"\x15", "\x16\x04", "GET / HTTP/1.1\r\n"} {
		if h, err := new(Reader).Read(append(first, next...)); err != ErrMalformed {
			t.Errorf("%q: %+v, %v", next, h, err)
		}
	}
}

// What follows the hello is not looked at.
func TestReadStopsAtTheHello(t *testing.T) {
	octets := append(client(t, &tls.Config{ServerName: "a.test"}), "what follows"...)
	if h, err := new(Reader).Read(octets); err != nil || h.ServerName != "a.test" {
		t.Errorf("%+v, %v", h, err)
	}
}

// RFC 9849: what can be read of an encrypted ClientHello is the public name.
func TestReadTheOuterNameOfECH(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := "public.test"
	var config []byte
	config = append(config, 7, 0, 0x20) // id, X25519
	config = append(binary.BigEndian.AppendUint16(config, 32), key.PublicKey().Bytes()...)
	config = append(config, 0, 4, 0, 1, 0, 1, 64, byte(len(public))) // HKDF-SHA256, AES-128-GCM; longest name
	config = append(append(config, public...), 0, 0)
	list := binary.BigEndian.AppendUint16(nil, uint16(len(config)+4))
	list = binary.BigEndian.AppendUint16(append(list, 0xfe, 0x0d), uint16(len(config)))
	octets := client(t, &tls.Config{ServerName: "secret.test", EncryptedClientHelloConfigList: append(list, config...), MinVersion: tls.VersionTLS13})
	h, err := new(Reader).Read(octets)
	if err != nil || h != (Hello{ServerName: public, Encrypted: true}) {
		t.Errorf("%+v, %v", h, err)
	}
}

// RFC 6066 section 3: a client that asks by address names no host.
func TestReadNoName(t *testing.T) {
	octets := client(t, &tls.Config{ServerName: "192.0.2.1", InsecureSkipVerify: true})
	if h, err := new(Reader).Read(octets); err != nil || h != (Hello{}) {
		t.Errorf("%+v, %v", h, err)
	}
}

// message makes a record with a ClientHello of the extensions.
func message(extensions ...string) []byte {
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + "\x00\x02\x13\x01" + "\x01\x00"
	if extensions != nil {
		all := strings.Join(extensions, "")
		body += string(binary.BigEndian.AppendUint16(nil, uint16(len(all)))) + all
	}
	return record("\x01\x00" + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body)
}

func record(s string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{22, 3, 1}, uint16(len(s))), s...)
}

func extension(kind uint16, data string) string {
	b := binary.BigEndian.AppendUint16(nil, kind)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...))
}

const name = "\x00\x07\x00\x00\x04a.de"

func TestReadByHand(t *testing.T) {
	big := record("\x01\x00\x40\x01" + strings.Repeat("x", 100))
	for what, tc := range map[string]struct {
		octets []byte
		name   string
		err    error
	}{
		"nothing":                {nil, "", ErrMore},
		"a name":                 {message(extension(0, name)), "a.de", nil},
		"no extensions":          {message(), "", nil},
		"an empty list of them":  {message(""), "", nil},
		"SSH":                    {[]byte("SSH-2.0-x\r\n"), "", ErrNotTLS},
		"HTTP":                   {[]byte("GET / HTTP/1.1\r\n"), "", ErrNotTLS},
		"an alert":               {[]byte{21, 3, 1, 0, 2, 1, 0}, "", ErrNotTLS},
		"SSL 2":                  {[]byte{0x80, 0x2e, 1, 3, 1}, "", ErrNotTLS},
		"another version":        {[]byte{22, 4}, "", ErrNotTLS},
		"an empty record":        {record(""), "", ErrMalformed},
		"a record too long":      {[]byte{22, 3, 1, 0x40, 1}, "", ErrMalformed},
		"a ServerHello":          {record("\x02\x00\x00\x01x"), "", ErrMalformed},
		"a message too long":     {big, "", ErrTooLarge},
		"an empty message":       {record("\x01\x00\x00\x00"), "", ErrMalformed},
		"the name twice":         {message(extension(0, name), extension(0, name)), "", ErrMalformed},
		"two names":              {message(extension(0, "\x00\x0e\x00\x00\x04a.de\x00\x00\x04b.de")), "", ErrMalformed},
		"an empty name":          {message(extension(0, "\x00\x03\x00\x00\x00")), "", ErrMalformed},
		"another kind of name":   {message(extension(0, "\x00\x07\x01\x00\x04a.de")), "", ErrMalformed},
		"a name with NUL":        {message(extension(0, "\x00\x07\x00\x00\x04a\x00de")), "", ErrMalformed},
		"more than the list":     {message(extension(0, name+"x")), "", ErrMalformed},
		"ECH that is inner":      {message(extension(0xfe0d, "\x01")), "", ErrMalformed},
		"a cut extension":        {message("\x00\x00\x00"), "", ErrMalformed},
		"an extension too short": {message("\x00\x00\x00\x09xx"), "", ErrMalformed},
	} {
		h, err := new(Reader).Read(tc.octets)
		if h.ServerName != tc.name || !errors.Is(err, tc.err) {
			t.Errorf("%s: %+v, %v", what, h, err)
		}
	}
}

// A client cannot have a Reader keep, or look at, more than MaxOctets: records of
// one octet each are at the limit before a large message is complete.
func TestReadIsBounded(t *testing.T) {
	octets := split(record("\x01\x00\x3f\xff"+strings.Repeat("x", 0x3000)), 1)
	var r Reader
	for n := 1; ; n++ {
		_, err := r.Read(octets[:n])
		if err == ErrTooLarge {
			if n != MaxOctets {
				t.Errorf("refused after %d octets", n)
			}
			return
		}
		if err != ErrMore {
			t.Fatalf("%d octets: %v", n, err)
		}
	}
}

// Whatever comes: no panic, the same in pieces as at once, and nothing said of what
// is refused.
func FuzzRead(f *testing.F) {
	f.Add(client(f, &tls.Config{ServerName: "www.demo.test"}), 7)
	f.Add(message(extension(0, name)), 1)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, octets []byte, step int) {
		if step < 1 || len(octets) > MaxOctets {
			return
		}
		whole, err := new(Reader).Read(octets)
		if err != nil && whole != (Hello{}) || strings.Contains(whole.ServerName, "\x00") {
			t.Errorf("%+v, %v", whole, err)
		}
		var r Reader
		for n := min(step, len(octets)); ; n = min(n+step, len(octets)) {
			h, e := r.Read(octets[:n])
			if e == ErrMore && n < len(octets) {
				continue
			}
			if h != whole || e != err {
				t.Errorf("in steps of %d: %+v, %v; at once: %+v, %v", step, h, e, whole, err)
			}
			return
		}
	})
}
