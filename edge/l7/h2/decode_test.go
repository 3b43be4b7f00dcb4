package h2

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2/hpack"

	"meridian/edge/l7/wire"
)

// decodeAll decodes blocks with one table.
func decodeAll(d *decoder, block []byte) (out []hpack.HeaderField, err error) {
	for begin := true; len(block) > 0; {
		var f field
		if f, block, err = d.next(block, begin); err != nil {
			return out, err
		}
		if !f.resized {
			begin = false
			out = append(out, hpack.HeaderField{Name: string(f.name), Value: string(f.value)})
		}
	}
	return out, nil
}

// Whatever blocks come, the decoder gives the same fields as x/net's, or both
// refuse.
func FuzzDecoder(f *testing.F) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	for range 3 {
		for _, h := range []string{":method", "user-agent", "x-own", "cookie"} {
			enc.WriteField(hpack.HeaderField{Name: h, Value: "value of " + h, Sensitive: h == "cookie"})
		}
		f.Add(bytes.Clone(buf.Bytes()), 7)
	}
	f.Add([]byte{0x20, 0x3f, 0xe1, 0x1f, 0x40, 0, 0, 0xbe}, 2)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		ours := newDecoder()
		var theirs []hpack.HeaderField
		ref := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { theirs = append(theirs, hpack.HeaderField{Name: f.Name, Value: f.Value}) })
		for len(data) > 0 {
			n := min(max(cut, 1), len(data))
			theirs = theirs[:0]
			_, err := ref.Write(data[:n])
			if err == nil {
				err = ref.Close()
			}
			got, ourErr := decodeAll(&ours, data[:n])
			if ourErr == nil && err != nil || ourErr != nil && err == nil && !stricter(data[:n]) {
				t.Fatalf("%x: ours %v, x/net's %v", data[:n], ourErr, err)
			}
			if ourErr != nil {
				return
			}
			if len(got) != len(theirs) {
				t.Fatalf("%x: %q, %q", data[:n], got, theirs)
			}
			for i := range got {
				if got[i] != theirs[i] {
					t.Fatalf("%x: %q, %q", data[:n], got[i], theirs[i])
				}
			}
			data = data[n:]
		}
	})
}

// stricter says whether a block may hold what x/net takes and this decoder does
// not: integers of more octets than any real one has, and size updates after a
// field while the table is empty.
func stricter(block []byte) bool {
	for i := 0; i+4 < len(block); i++ {
		if block[i+1]&block[i+2]&block[i+3]&block[i+4]&0x80 != 0 {
			return true
		}
	}
	return bytes.ContainsFunc(block[1:], func(r rune) bool { return r < 0x80 && r&0xe0 == 0x20 || r == 0xfffd })
}

// The table follows an encoder that adds and evicts for long.
func TestDecoderFollowsItsEncoder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	d := newDecoder()
	for range 20000 {
		buf.Reset()
		if r.IntN(200) == 0 {
			enc.SetMaxDynamicTableSize(uint32(r.IntN(tableSize + 1)))
		}
		var want []hpack.HeaderField
		for range 1 + r.IntN(6) {
			f := hpack.HeaderField{Name: string(rune('a' + r.IntN(20))), Value: string(bytes.Repeat([]byte{byte('a' + r.IntN(3))}, r.IntN(100)))}
			if r.IntN(50) == 0 {
				f.Value = string(make([]byte, r.IntN(6000)))
			}
			want = append(want, f)
			enc.WriteField(f)
		}
		got, err := decodeAll(&d, buf.Bytes())
		if err != nil || len(got) != len(want) {
			t.Fatal(err, len(got), len(want))
		}
		for i := range got {
			if got[i].Name != want[i].Name || got[i].Value != want[i].Value {
				t.Fatalf("%v, %v", got[i], want[i])
			}
		}
		if len(d.entries) > 4*tableSize/entryCost || len(d.text) > 8*tableSize {
			t.Fatalf("the table has grown to %d entries, %d octets", len(d.entries), len(d.text))
		}
	}
}

// What the encoder writes is what x/net reads.
func TestEncoderIsUnderstood(t *testing.T) {
	h := &wire.Head{Status: 207}
	long := string(bytes.Repeat([]byte("v"), 20000))
	for _, f := range [][2]string{{"Content-Type", "a/b"}, {"X-Other-Name", "1"}, {"Set-Cookie", "a=b"}, {"X-Request-ID", "id"}, {"X-Long", long}} {
		h.Add(f[0], f[1])
	}
	got, err := hpack.NewDecoder(tableSize, nil).DecodeFull(appendAnswer([]byte{noTable}, h))
	if err != nil {
		t.Fatal(err)
	}
	want := [][2]string{{":status", "207"}, {"content-type", "a/b"}, {"x-other-name", "1"}, {"set-cookie", "a=b"}, {"x-request-id", "id"}, {"x-long", long}}
	if len(got) != len(want) {
		t.Fatalf("%d fields", len(got))
	}
	for i := range want {
		if got[i].Name != want[i][0] || got[i].Value != want[i][1] {
			t.Errorf("%v, %v", got[i], want[i])
		}
	}
}
