package h3

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/quic-go/qpack"

	"meridian/edge/l7/wire"
)

// collect takes pseudo-fields as they come.
func collect(h *wire.Head, name, value []byte) wire.Fault {
	h.Fields = append(h.Fields, wire.Field{Name: name, Value: value})
	return wire.NoFault
}

// elsewhere reads a section with an independent decoder.
func elsewhere(b []byte) (out [][2]string, err error) {
	next := qpack.NewDecoder().Decode(b)
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, [2]string{f.Name, f.Value})
	}
}

func ours(b []byte, limit int) (out [][2]string, fault wire.Fault, err error) {
	var d decoder
	var h wire.Head
	fault, err = d.section(b, &h, limit, collect)
	for _, f := range h.Fields {
		out = append(out, [2]string{string(f.Name), string(f.Value)})
	}
	return out, fault, err
}

var samples = [][2]string{
	{":method", "GET"}, {":path", "/"}, {":path", "/index.html?x=1"}, {":authority", "demo.test"}, {"accept", "*/*"},
	{"user-agent", "a client of some length, with spaces"}, {"x-own", ""}, {"x-long-name-that-no-table-has-and-is-longer-than-all-of-them", "v"},
	{"content-length", "12"}, {"cookie", string(bytes.Repeat([]byte("c"), 300))}, {"x-frame-options", "deny"}, {"content-type", "text/html; charset=utf-8"},
}

// Sections of an independent encoder, Huffman-coded, are read as they were meant.
func TestSectionsOfAnotherEncoderAreRead(t *testing.T) {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for _, s := range samples {
		if err := e.WriteField(qpack.HeaderField{Name: s[0], Value: s[1]}); err != nil {
			t.Fatal(err)
		}
	}
	got, fault, err := ours(b.Bytes(), 1<<20)
	if err != nil || fault != wire.NoFault || len(got) != len(samples) {
		t.Fatalf("%v, %v, %v", got, fault, err)
	}
	for i := range samples {
		if got[i] != samples[i] {
			t.Errorf("%q, expected %q", got[i], samples[i])
		}
	}
}

// Our sections are read by an independent decoder, names in lower case,
// connection fields left out.
func TestSectionsAreReadByAnotherDecoder(t *testing.T) {
	for _, status := range []int{0, 100, 103, 200, 204, 299, 302, 404, 503, 599} {
		var h wire.Head
		h.Add("Transfer-Encoding", "chunked")
		h.Add("Keep-Alive", "3")
		var want [][2]string
		if status > 0 {
			want = append(want, [2]string{":status", string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})})
		}
		for _, s := range samples[4:] {
			h.Add(s[0], s[1])
			want = append(want, s)
		}
		h.Add("X-MiXed", "Value")
		want = append(want, [2]string{"x-mixed", "Value"})
		got, err := elsewhere(appendSection(nil, status, h.Fields))
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d: %v, %v", status, got, err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%d: %q, expected %q", status, got[i], want[i])
			}
		}
	}
}

// RFC 9204: what no encoder may write without a dynamic table.
func TestSectionsThatCannotBeRead(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":                         {},
		"no base":                         {0},
		"required insert count":           {1, 0},
		"negative base":                   {0, 0x80},
		"dynamic index":                   {0, 0, 0x80},
		"static index out of table":       {0, 0, 0xff, 0x24},
		"index cut short":                 {0, 0, 0xff},
		"integer without end":             append([]byte{0, 0, 0xff}, bytes.Repeat([]byte{0xff}, 20)...),
		"dynamic name":                    {0, 0, 0x40, 0},
		"post-base index":                 {0, 0, 0x10},
		"post-base name":                  {0, 0, 0x00, 0},
		"value missing":                   {0, 0, 0x51},
		"value cut short":                 {0, 0, 0x51, 5, 'a'},
		"name cut short":                  {0, 0, 0x25, 'a'},
		"name without value":              {0, 0, 0x21, 'a'},
		"Huffman code of EOS":             {0, 0, 0x51, 0x84, 0xff, 0xff, 0xff, 0xff},
		"Huffman padding of a full octet": {0, 0, 0x51, 0x82, 0x1f, 0xff},
	} {
		if got, _, err := ours(b, 1<<20); !errors.Is(err, errQPACK) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// RFC 9114 section 4.2.2: a field counts 32 octets besides its own.
func TestSectionsOverTheLimit(t *testing.T) {
	var h wire.Head
	h.Add("ab", "cd")
	h.Add("ef", "gh")
	b := appendSection(nil, 0, h.Fields)
	if _, fault, err := ours(b, 2*36); fault != wire.NoFault || err != nil {
		t.Errorf("at the limit: %v, %v", fault, err)
	}
	if _, fault, err := ours(b, 2*36-1); fault != wire.TooLarge || err != nil {
		t.Errorf("over it: %v, %v", fault, err)
	}
	h.Reset()
	for range wire.MaxFields {
		h.Add("a", "")
	}
	for range wire.MaxFields { // which become one field
		h.Add("cookie", "a=b")
	}
	if _, fault, err := ours(appendSection(nil, 0, h.Fields), 1<<20); fault != wire.NoFault || err != nil {
		t.Errorf("as many fields as may be, and cookies: %v, %v", fault, err)
	}
	h.Add("a", "")
	if _, fault, err := ours(appendSection(nil, 0, h.Fields), 1<<20); fault != wire.TooLarge || err != nil {
		t.Errorf("too many fields: %v, %v", fault, err)
	}
}

// Reading and writing a head does not allocate.
func TestSectionsDoNotAllocate(t *testing.T) {
	if raced {
		t.Skip("under the race detector pools forget at random")
	}
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for _, s := range samples {
		if err := e.WriteField(qpack.HeaderField{Name: s[0], Value: s[1]}); err != nil {
			t.Fatal(err)
		}
	}
	var d decoder
	var h wire.Head
	out := make([]byte, 0, 4096)
	run := func() {
		h.Reset()
		if _, err := d.section(b.Bytes(), &h, 1<<20, collect); err != nil {
			t.Fatal(err)
		}
		out = appendSection(out[:0], 200, h.Fields)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever octets come, an independent decoder reads what we read, or both
// refuse.
func FuzzSection(f *testing.F) {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for _, s := range samples {
		_ = e.WriteField(qpack.HeaderField{Name: s[0], Value: s[1]})
	}
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0xff, 0x24})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, fault, err := ours(b, 1<<20)
		want, wrong := elsewhere(b)
		if (err == nil) != (wrong == nil) {
			// Theirs takes a negative Base of zero and integers of more octets, and
			// refuses a Base that is not zero, which RFC 9204 section 4.5.1.2 allows.
			if err != nil && (len(b) > 1 && b[1]&0x80 != 0 || len(b) > 9) || err == nil && b[1] != 0 {
				return
			}
			t.Fatalf("%x: %v, elsewhere %v", b, err, wrong)
		}
		if err != nil || fault != wire.NoFault {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%x: %q, elsewhere %q", b, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%x: %q, elsewhere %q", b, got[i], want[i])
			}
		}
	})
}
