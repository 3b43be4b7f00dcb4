package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

// rr reads a record as people write it.
func rr(t testing.TB, text string) record {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil || r == nil {
		t.Fatalf("%s: %v", text, err)
	}
	buf := make([]byte, 1<<16)
	n, err := dns.PackRR(r, buf, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	at := zone.WireLen(buf)
	return record{strings.ToLower(string(buf[:at])), r.Header().Rrtype, r.Header().Ttl, bytes.Clone(buf[at+10 : n])}
}

func rrs(t testing.TB, text string) []record {
	t.Helper()
	var out []record
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			if n, ok := strings.CutPrefix(line, "SOA "); ok {
				line = "example.test. 300 SOA ns1.example.test. admin.example.test. " + n + " 3600 600 86400 60"
			}
			out = append(out, rr(t, line))
		}
	}
	return out
}

// messages packs records, so many a message, as the answer to a request.
func messages(t testing.TB, list []record, each int) [][]byte {
	t.Helper()
	query := request("example.test.", typeAXFR, nil)
	query[0], query[1] = 0x12, 0x34
	var out [][]byte
	for part := range slices.Chunk(list, each) {
		p := newPacker(hardLimit, 0)
		p.begin(query, len(out) == 0)
		for _, r := range part {
			if !p.put(r) {
				t.Fatal("a record does not fit")
			}
		}
		out = append(out, bytes.Clone(p.message()))
	}
	return out
}

var testLimits = limits{octets: 1 << 20, records: 1000}

// receive gives messages to a transfer in.
func receive(t testing.TB, old *zone.Zone, ixfr bool, msgs [][]byte) (*zone.Zone, error) {
	t.Helper()
	in := newIncoming("example.test.", 0x1234, old, ixfr, testLimits)
	for i, m := range msgs {
		if in.done() {
			t.Fatalf("done before message %d", i)
		}
		if err := in.message(m); err != nil {
			return nil, err
		}
	}
	if !in.done() {
		return nil, errors.New("not done")
	}
	return in.newest()
}

func load(t testing.TB, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Load("example.test.", []byte(text), "f")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

const small1 = "$ORIGIN example.test.\n$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\nold A 192.0.2.1\nboth A 192.0.2.2\n"

// RFC 5936 §2.2: a transfer begins and ends with the SOA, over any number of messages; the question may be left out after the first.
// RFC 5936 §2.2: the SOA at the end must be the one at the beginning.
func TestRFC5936Form(t *testing.T) {
	body := "example.test. 300 NS ns1.example.test.\nns1.example.test. 300 A 192.0.2.53\n"
	for _, each := range []int{1, 2, 100} {
		z, err := receive(t, nil, false, messages(t, rrs(t, "SOA 7\n"+body+"SOA 7\n"), each))
		if err != nil || z.Serial != 7 || z.Records() != 3 {
			t.Errorf("%d records a message: %v", each, err)
		}
	}
	for what, text := range map[string]string{
		"first record is not the SOA": body + "SOA 7\n",
		"other serial at the end":     "SOA 7\n" + body + "SOA 8\n",
		"nothing at the end":          "SOA 7\n" + body,
		"records after the end":       "SOA 7\n" + body + "SOA 7\n" + body,
		"SOA below the apex":          "SOA 7\n" + body + "a.example.test. 1 SOA a. b. 1 2 3 4 5\nSOA 7\n",
		"CNAME and other data":        "SOA 7\n" + body + "ns1.example.test. 1 CNAME x.example.test.\nSOA 7\n",
	} {
		if _, err := receive(t, nil, false, messages(t, rrs(t, text), 100)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// RFC 5936 §3: records out of the zone, of class other than IN, or of types that are no data are not taken; nothing of the transfer is.
func TestRFC5936OutOfZone(t *testing.T) {
	for _, odd := range []string{"www.other.test. 300 A 192.0.2.1", "test. 300 A 192.0.2.1", "xexample.test. 300 A 192.0.2.1"} {
		_, err := receive(t, nil, false, messages(t, rrs(t, "SOA 7\nexample.test. 1 NS ns1.example.test.\n"+odd+"\nSOA 7\n"), 100))
		if err == nil || !strings.Contains(err.Error(), "out of the zone") {
			t.Errorf("%s: %v", odd, err)
		}
	}
	_, err := receive(t, nil, false, messages(t, append(rrs(t, "SOA 7\n"), record{"\x07example\x04test\x00", 250, 0, nil}), 100))
	if err == nil || !strings.Contains(err.Error(), "no data") {
		t.Errorf("type TSIG as data: %v", err)
	}
}

// RFC 1995 §4: an answer to IXFR is the SOA alone where we are current, differences in steps, or the whole zone.
// RFC 1995 §6: differences of several steps are applied in order, or condensed by the server.
func TestRFC1995Forms(t *testing.T) {
	old := load(t, small1)
	ns := "example.test. 300 NS ns1.example.test.\nns1.example.test. 300 A 192.0.2.53\n"
	for _, c := range []struct {
		what, text string
		serial     uint32 // 0: nothing new
		has, not   string
	}{
		{"current", "SOA 1\n", 0, "", ""},
		{"one step", "SOA 2\nSOA 1\nold.example.test. 300 A 192.0.2.1\nSOA 2\nnew.example.test. 300 A 192.0.2.9\nSOA 2\n", 2, "new", "old"},
		{"two steps", "SOA 3\nSOA 1\nold.example.test. 300 A 192.0.2.1\nSOA 2\nnew.example.test. 300 A 192.0.2.9\nmid.example.test. 300 A 192.0.2.8\nSOA 2\nmid.example.test. 300 A 192.0.2.8\nSOA 3\nSOA 3\n", 3, "new", "mid"},
		{"back and forth", "SOA 3\nSOA 1\nold.example.test. 300 A 192.0.2.1\nSOA 2\nSOA 2\nSOA 3\nold.example.test. 300 A 192.0.2.1\nSOA 3\n", 3, "old", "new"},
		{"nothing but the serial", "SOA 2\nSOA 1\nSOA 2\nSOA 2\n", 2, "old", "new"},
		{"the TTL", "SOA 2\nSOA 1\nold.example.test. 300 A 192.0.2.1\nSOA 2\nold.example.test. 60 A 192.0.2.1\nSOA 2\n", 2, "old", "new"},
		{"whole zone", "SOA 2\n" + ns + "new.example.test. 300 A 192.0.2.9\nSOA 2\n", 2, "new", "old"},
	} {
		for _, each := range []int{1, 3, 100} {
			if each == 1 && c.serial == 0 {
				continue
			}
			z, err := receive(t, old, true, messages(t, rrs(t, c.text), each))
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
				continue
			}
			if c.serial == 0 {
				if z != nil {
					t.Errorf("%s: a zone came", c.what)
				}
				continue
			}
			if z.Serial != c.serial || z.Node([]byte("\x03"+c.has+"\x07example\x04test\x00")) == nil || z.Node([]byte("\x03"+c.not+"\x07example\x04test\x00")) != nil {
				t.Errorf("%s: serial %d", c.what, z.Serial)
			}
		}
	}
}

// RFC 1995 §4: differences that do not begin at our version, or do not fit it, are not applied.
// RFC 1982 §3.2: a serial that is older than ours is no news.
func TestRFC1995Misfits(t *testing.T) {
	old := load(t, small1)
	for what, text := range map[string]string{
		"from another serial":     "SOA 9\nSOA 5\nold.example.test. 300 A 192.0.2.1\nSOA 9\nSOA 9\n",
		"steps that do not meet":  "SOA 9\nSOA 1\nSOA 2\nSOA 3\nSOA 9\nSOA 9\n",
		"deletes what is not":     "SOA 2\nSOA 1\nnone.example.test. 300 A 192.0.2.1\nSOA 2\nSOA 2\n",
		"adds what is there":      "SOA 2\nSOA 1\nSOA 2\nold.example.test. 300 A 192.0.2.1\nSOA 2\n",
		"leads to another serial": "SOA 3\nSOA 1\nSOA 2\nSOA 2\n",
	} {
		z, err := receive(t, old, true, messages(t, rrs(t, text), 100))
		if z != nil || err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := receive(t, load(t, strings.Replace(small1, "admin 1 ", "admin 10 ", 1)), true, messages(t, rrs(t, "SOA 9\n"), 1)); !errors.Is(err, errOlder) {
		t.Errorf("an older serial: %v", err)
	}
}

// RFC 1982 §3.2: serials are compared in a ring of 2^32.
func TestRFC1982Serials(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		want bool
	}{{1, 0, true}, {0, 1, false}, {5, 5, false}, {0, 1<<32 - 1, true}, {1<<31 - 1, 0, true}, {1 << 31, 0, false}, {0, 1 << 31, false}, {44, 1<<31 + 45, true}} {
		if newer(c.a, c.b) != c.want {
			t.Errorf("newer(%d, %d) is not %v", c.a, c.b, c.want)
		}
	}
}

// Bad input: a transfer larger than the limits, or one of another message, ends with an error.
func TestTransferLimits(t *testing.T) {
	var many strings.Builder
	many.WriteString("SOA 7\nexample.test. 300 NS ns1.example.test.\n")
	for i := range 1200 {
		fmt.Fprintf(&many, "h%d.example.test. 300 A 192.0.2.1\n", i)
	}
	if _, err := receive(t, nil, false, messages(t, rrs(t, many.String()), 100)); !errors.Is(err, errOversize) {
		t.Errorf("1200 records where 1000 are allowed: %v", err)
	}
	in := newIncoming("example.test.", 0x1234, nil, false, limits{octets: 100, records: 1000})
	if err := in.message(messages(t, rrs(t, "SOA 7\nns1.example.test. 1 TXT "+strings.Repeat("x", 200)+"\n"), 9)[0]); !errors.Is(err, errOversize) {
		t.Errorf("too many octets: %v", err)
	}
	m := messages(t, rrs(t, "SOA 7\n"), 1)[0]
	for what, change := range map[string]func([]byte){
		"another ID": func(b []byte) { b[0] ^= 1 }, "no answer": func(b []byte) { b[2] &^= 0x80 }, "truncated": func(b []byte) { b[2] |= 2 },
		"REFUSED": func(b []byte) { b[3] |= 5 }, "another question": func(b []byte) { b[14] = 'X' + 1 }, "cut": func(b []byte) { b[7]++ },
	} {
		b := bytes.Clone(m)
		change(b)
		if err := newIncoming("example.test.", 0x1234, nil, false, testLimits).message(b); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// What a hostile primary sends, split into messages by their length, never
// gives a zone that breaks the rules, and what is left is bounded.
func FuzzTransferIn(f *testing.F) {
	stream := func(msgs [][]byte) (out []byte) {
		for _, m := range msgs {
			out = append(out, byte(len(m)>>8), byte(len(m)))
			out = append(out, m...)
		}
		return out
	}
	ns := "example.test. 300 NS ns1.example.test.\nns1.example.test. 300 A 192.0.2.53\n"
	for _, text := range []string{
		"SOA 1\n", "SOA 7\n" + ns + "SOA 7\n", "SOA 2\nSOA 1\nold.example.test. 300 A 192.0.2.1\nSOA 2\nnew.example.test. 300 MX 1 a.example.test.\nSOA 2\n",
		"SOA 3\nSOA 1\nSOA 2\nmid.example.test. 300 SRV 1 2 3 a.\nSOA 2\nmid.example.test. 300 SRV 1 2 3 a.\nSOA 3\nSOA 3\n",
		"SOA 7\n" + ns + "a.example.test. 1 NAPTR 1 1 \"u\" \"x\" \"y\" b.example.test.\nb.example.test. 1 TYPE65280 \\# 2 abcd\nSOA 7\n",
	} {
		f.Add(stream(messages(f, rrs(f, text), 2)), true)
		f.Add(stream(messages(f, rrs(f, text), 100)), false)
	}
	old := load(f, small1)
	f.Fuzz(func(t *testing.T, data []byte, ixfr bool) {
		in := newIncoming("example.test.", 0x1234, old, ixfr, limits{octets: 1 << 16, records: 2000})
		for len(data) >= 2 && !in.done() {
			n := min(int(data[0])<<8|int(data[1]), len(data)-2)
			if in.message(data[2:2+n]) != nil {
				return
			}
			data = data[2+n:]
		}
		if !in.done() {
			return
		}
		z, err := in.newest()
		if err != nil || z == nil {
			return
		}
		if !newer(z.Serial, old.Serial) || z.Apex().Get(zone.TypeSOA) == nil {
			t.Fatalf("serial %d was taken after %d", z.Serial, old.Serial)
		}
		if again, err := zone.Decode(z.Name, z.Encode()); err != nil || again.Records() != z.Records() {
			t.Fatalf("the zone does not survive the disk: %v", err)
		}
		for r := range records(z) {
			if !zone.Below([]byte(r.owner), old.Apex().Name) || zone.CheckRDATA(r.rtype, r.data) != nil {
				t.Fatalf("%q type %d is part of the zone", r.owner, r.rtype)
			}
		}
	})
}

// A name of pointers to pointers costs no more than a name has labels.
func TestChainOfPointers(t *testing.T) {
	wire := make([]byte, headerLen+1, 1<<14)
	at := headerLen // the root
	for range mostPointers {
		wire = append(wire, 0xc0|byte(at>>8), byte(at))
		at = len(wire) - 2
	}
	if name, end := unpackName(nil, wire, at); end != len(wire) || len(name) != 1 {
		t.Errorf("%x ends at %d", name, end)
	}
	wire = append(wire, 0xc0|byte(at>>8), byte(at))
	if _, end := unpackName(nil, wire, at+2); end >= 0 {
		t.Error("one pointer more is followed")
	}
}
