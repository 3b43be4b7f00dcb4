package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

var orders = map[string]binary.AppendByteOrder{"little endian": binary.LittleEndian, "big endian": binary.BigEndian}

// words puts 32-bit numbers and octets one behind the other.
func words(o binary.AppendByteOrder, parts ...any) []byte {
	var out []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			out = o.AppendUint32(out, uint32(p))
		case uint16:
			out = o.AppendUint16(out, p)
		case string:
			out = append(out, p...)
		case []byte:
			out = append(out, p...)
		}
	}
	return out
}

// block is one of pcapng, with its length before and behind.
func block(o binary.AppendByteOrder, kind int, body []byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	return words(o, kind, 12+len(body), body, 12+len(body))
}

func section(o binary.AppendByteOrder) []byte {
	return block(o, magicSection, words(o, 0x1a2b3c4d, uint16(1), uint16(0), -1, -1))
}

func all(t *testing.T, b []byte) ([]Packet, error) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var out []Packet
	for {
		p, err := r.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, p)
	}
}

var at = time.Date(2026, 11, 22, 10, 0, 0, 123_456_000, time.UTC)

func TestPcapIsReadInEveryForm(t *testing.T) {
	seconds := int(at.Unix())
	for name, o := range orders {
		for _, c := range []struct {
			magic, fraction int
		}{{magicMicro, 123_456}, {magicNano, 123_456_000}} {
			b := words(o, c.magic, uint16(2), uint16(4), 0, 0, 65535, 1,
				seconds, c.fraction, 3, 60, "abc", seconds, c.fraction, 0, 0)
			got, err := all(t, b)
			want := []Packet{{Time: at, Data: []byte("abc"), Length: 60}, {Time: at, Data: []byte{}}}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, magic %#x: %v, %v", name, c.magic, got, err)
			}
		}
	}
}

func TestPcapngIsRead(t *testing.T) {
	for name, o := range orders {
		micro := uint64(at.UnixMicro())
		b := bytes.Join([][]byte{
			section(o),
			block(o, 1, words(o, uint16(1), uint16(0), 2)),
			block(o, 0x0bad, []byte("of no interest")),
			block(o, 6, words(o, 0, int(micro>>32), int(uint32(micro)), 5, 9, "abcde\x00\x00\x00",
				uint16(1), uint16(6), "a name\x00\x00", uint16(0), uint16(0))),
			block(o, 3, words(o, 4, "abcd")),
			section(orders["little endian"]), // another section, perhaps in another order
			block(binary.LittleEndian, 1, words(binary.LittleEndian, uint16(1), uint16(0), 0,
				uint16(9), uint16(1), "\x09\x00\x00\x00", uint16(14), uint16(8), "\x01\x00\x00\x00\x00\x00\x00\x00")),
			block(binary.LittleEndian, 6, words(binary.LittleEndian, 0, 0, 7, 1, 1, "x\x00\x00\x00")),
		}, nil)
		got, err := all(t, b)
		want := []Packet{
			{Time: at, Data: []byte("abcde"), Length: 9, Comment: "a name"},
			{Data: []byte("ab"), Length: 4},
			{Time: time.Unix(1, 7).UTC(), Data: []byte("x"), Length: 1},
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v, expected %v", name, got, err, want)
		}
	}
}

func TestWhatIsNoCaptureIsRefused(t *testing.T) {
	o := binary.LittleEndian
	classic := words(o, magicMicro, uint16(2), uint16(4), 0, 0, 65535, 1)
	ng := append(section(o), block(o, 1, words(o, uint16(1), uint16(0), 0))...)
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"nothing", nil, "capture: neither pcap nor pcapng"},
		{"text", []byte("hello, world"), "capture: neither pcap nor pcapng"},
		{"a header cut short", classic[:20], "capture: header: unexpected EOF"},
		{"another link type", words(o, magicMicro, uint16(2), uint16(4), 0, 0, 65535, 113), "capture: link type 113: expected Ethernet (1)"},
		{"a record cut short", append(bytes.Clone(classic), 1, 2), "capture: after packet 0: unexpected EOF"},
		{"data cut short", words(o, classic, 0, 0, 1, 1, "a", 0, 0, 9, 9, "abc"), "capture: after packet 1: unexpected EOF"},
		{"a frame too long", words(o, classic, 0, 0, MaxFrame+1, 1), "capture: after packet 0: 262145 octets: expected at most 262144"},
		{"a section in no order", block(o, magicSection, words(o, 1, 0, 0, 0)), "capture: after packet 0: section in neither byte order"},
		{"a block too short", words(o, section(o), 6, 8, 8), "capture: after packet 0: block of 8 octets: expected a multiple of 4, and 12 or more"},
		{"a block that ends otherwise", words(o, section(o), 5, 12, 16), "capture: after packet 0: block of 12 octets says 16 at its end"},
		{"a block too long", words(o, section(o), 6, 1<<20, 0), "capture: after packet 0: block of 1048576 octets: expected at most 393216"},
		{"a block cut short", words(o, section(o), 5, 1<<20, 0), "capture: after packet 0: unexpected EOF"},
		{"a packet of no interface", words(o, section(o), block(o, 6, words(o, 0, 0, 0, 0, 0))), "capture: after packet 0: interface 0 is not described"},
		{"an interface of another kind", words(o, section(o), block(o, 1, words(o, uint16(113), uint16(0), 0)), block(o, 3, words(o, 0))),
			"capture: after packet 0: interface 0: link type 113: expected Ethernet (1)"},
		{"a packet beyond its block", words(o, ng, block(o, 6, words(o, 0, 0, 0, 9, 9, "abcd"))), "capture: after packet 0: packet of 9 octets: beyond its block"},
		{"an option beyond its block", words(o, ng, block(o, 6, words(o, 0, 0, 0, 0, 0, uint16(1), uint16(9)))), "capture: after packet 0: option beyond its block"},
		{"a resolution too fine", words(o, section(o), block(o, 1, words(o, uint16(1), uint16(0), 0, uint16(9), uint16(1), "\x7f"))),
			"capture: after packet 0: time resolution 0x7f is finer than can be told"},
	} {
		if _, err := all(t, c.in); err == nil || err.Error() != c.want {
			t.Errorf("%s: error %v, expected %s", c.name, err, c.want)
		}
	}
	if _, err := NewReader(strings.NewReader("no")); !errors.Is(err, ErrFormat) {
		t.Errorf("%v is not ErrFormat", err)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	want := []Packet{{Time: at, Data: []byte("abc"), Length: 3}, {Time: at.Add(1), Data: make([]byte, MaxFrame), Length: MaxFrame + 1}}
	for _, p := range want {
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []Packet{{Time: at, Data: make([]byte, MaxFrame+1)}, {Time: time.Unix(-1, 0)}, {Time: time.Unix(1<<32, 0)}} {
		if w.Write(p) == nil {
			t.Errorf("%d octets at %s were written", len(p.Data), p.Time)
		}
	}
	if got, err := all(t, b.Bytes()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read back: %d packets, %v", len(got), err)
	}
}

// Whatever the file: packets or an error, within bounds; and packets that come
// out can be written and read again.
func FuzzRead(f *testing.F) {
	for _, o := range orders {
		f.Add(words(o, magicMicro, uint16(2), uint16(4), 0, 0, 65535, 1, 1, 2, 3, 60, "abc"))
		f.Add(words(o, magicNano, uint16(2), uint16(4), 0, 0, 65535, 1, 1, 2, 3, 60, "abc"))
		f.Add(bytes.Join([][]byte{section(o), block(o, 1, words(o, uint16(1), uint16(0), 0, uint16(9), uint16(1), "\x89\x00\x00\x00")),
			block(o, 6, words(o, 0, 1, 2, 5, 9, "abcde\x00\x00\x00", uint16(1), uint16(1), "n\x00\x00\x00")), block(o, 3, words(o, 4, "abcd"))}, nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		packets, _ := all(t, in)
		var b bytes.Buffer
		w, err := NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		written := packets[:0]
		for _, p := range packets {
			if p.Length < len(p.Data) || len(p.Data) > len(in) {
				t.Fatalf("%d octets of %d in a file of %d", len(p.Data), p.Length, len(in))
			}
			if p.Comment = ""; w.Write(p) == nil {
				if p.Time.IsZero() {
					p.Time = time.Unix(0, 0).UTC()
				}
				written = append(written, p)
			}
		}
		again, err := all(t, b.Bytes())
		if err != nil || len(again) != len(written) {
			t.Fatalf("%d packets, read again %d, %v", len(written), len(again), err)
		}
		for i, p := range written {
			if !p.Time.Equal(again[i].Time) || !bytes.Equal(p.Data, again[i].Data) || p.Length != again[i].Length {
				t.Fatalf("packet %d: %v, read again %v", i, p, again[i])
			}
		}
	})
}
