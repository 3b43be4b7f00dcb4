package zone

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"
)

// records of every form that the parser knows, and some that it leaves to
// miekg/dns.
const manyTypes = `
www A 192.0.2.1
www 60 IN AAAA 2001:db8::1
*.x TXT "y" "z\"\\\200"
old DNAME new.
c NS ns.c
ns.c A 192.0.2.2
c DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
@ DNSKEY 257 3 13 bWVyaWRpYW4=
@ RRSIG SOA 13 2 300 20300101000000 20260101000000 12345 @ c2ln
@ CAA 0 issue "ca.example; a=b"
@ MX 10 ns1
_s._tcp SRV 0 5 443 ns1
n NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .
h HINFO "a" "b"
r RP a.b c.d
_443._tcp TLSA 3 1 1 00ff
s SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
@ ZONEMD 7 1 1 00112233445566778899aabb
@ NSEC a.example.test. A NS SOA TYPE1234
x HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1
y SVCB 0 ns1
l LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
u URI 10 1 "https://example.test/"
a TYPE65280 \# 3 abcdef
b APL 1:192.0.2.0/24
e EUI48 00-00-5e-00-53-2a
$GENERATE 1-3 h$ A 192.0.2.$
$GENERATE 0-20/10 ${0,3,d} PTR ${1,0,x}.${0,7,n}.example.
`

func FuzzLoad(f *testing.F) {
	for _, s := range []string{"", top, top + manyTypes, "$ORIGIN .\n$TTL 1\n", top + "x TXT ( a ; b\n \"c d\" )\r\n y 1h30m IN A 192.0.2.1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 || bytes.Count(bytes.ToUpper(data), []byte("GENERATE")) > 1 {
			t.Skip()
		}
		fsys := fstest.MapFS{"f": {Data: data}, "more": {Data: []byte("more TXT x\n$INCLUDE f\n")}}
		_, _ = LoadFS("example.test.", fsys, "f", "")
		z, err := Load("example.test.", data, "f")
		if err != nil {
			if n := strings.Count(err.Error(), "\n"); n > maxErrors {
				t.Fatalf("%d errors", n)
			}
			return
		}
		if z.Apex().Get(TypeSOA) == nil {
			t.Fatal("a zone without SOA was accepted")
		}
		for n := range z.Nodes() {
			r := z.Lookup([]byte(n.Name))
			if r.Node == nil || r.Kind == Missing {
				t.Fatalf("the zone's own name %q is missing", n.Name)
			}
			if len(n.Name) < 253 {
				z.Lookup(append([]byte("\x01x"), n.Name...))
			}
		}
		roundTrips(t, z)
	})
}

// roundTrips asks that a zone survives both its forms.
func roundTrips(t *testing.T, z *Zone) {
	t.Helper()
	want := z.Encode()
	back, err := Decode(z.Name, want)
	if err != nil || !bytes.Equal(back.Encode(), want) {
		t.Fatalf("decoded: %v", err)
	}
	if _, err := z.Exported(); z.Exports && err == nil {
		if _, err := back.Exported(); err != nil {
			t.Fatal(err)
		}
	}
	if back.Records() != z.Records() || !bytes.Equal(back.Online, z.Online) || back.Exports != z.Exports || back.Signed != z.Signed || back.Denial != z.Denial || back.Serial != z.Serial {
		t.Fatal("the decoded zone differs")
	}
	var text bytes.Buffer
	if err := z.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	again, err := Load(z.Name, text.Bytes(), "written")
	if err != nil {
		t.Fatalf("%v\n%s", err, text.Bytes())
	}
	whole := len(z.variants) == 0 && !z.Exports && len(z.Online) == 0 // text has none of these
	if whole && !bytes.Equal(again.Encode(), want) {
		t.Fatalf("reading what was written gives another zone:\n%s", text.Bytes())
	}
}

func FuzzDecode(f *testing.F) {
	variant := built(f, func(b *Builder) {
		b.Exports = true
		v := Variant{Set: RRset{Type: TypeA, TTL: 30, Count: 1, Data: []byte{0, 4, 192, 0, 2, 1}}, Lacks: []uint16{1}, Export: true}
		if err := b.AddVariant(Wire("x.example.test."), v); err != nil {
			f.Fatal(err)
		}
	})
	f.Add(variant.Encode()[len(magic):])
	for _, s := range []string{top, top + manyTypes, top + nsec3Records} {
		z, err := Load("example.test.", []byte(s), "f")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(z.Encode()[len(magic):])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		z, err := Decode("example.test.", append([]byte(magic), data...))
		if err == nil {
			roundTrips(t, z)
		}
	})
}
