package wire

import (
	"bytes"
	"net"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
)

func TestProxyAsOthersWriteIt(t *testing.T) {
	for _, version := range []byte{1, 2} {
		for _, addr := range [][2]string{{"192.0.2.1:1234", "198.51.100.2:443"}, {"[2001:db8::1]:1", "[2001:db8::2]:65535"}} {
			src, _ := net.ResolveTCPAddr("tcp", addr[0])
			dst, _ := net.ResolveTCPAddr("tcp", addr[1])
			h := proxyproto.HeaderProxyFromAddrs(version, src, dst)
			if version == 2 {
				if err := h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("www.demo.test")}}); err != nil {
					t.Fatal(err)
				}
			}
			var b bytes.Buffer
			if _, err := h.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			in := b.String() + "GET /"
			for cut := range in[:b.Len()] {
				if _, n, f := ParseProxy([]byte(in[:cut])); n != 0 || f != NoFault {
					t.Fatalf("v%d, %d octets: %d, %q", version, cut, n, f)
				}
			}
			p, n, f := ParseProxy([]byte(in))
			if n != b.Len() || f != NoFault || p.Client.String() != addr[0] || p.Server.String() != addr[1] {
				t.Errorf("v%d: %v, %d, %q", version, p, n, f)
			}
		}
	}
}

func TestProxyThatIsRefused(t *testing.T) {
	v2 := string(proxyV2)
	for in, want := range map[string]struct {
		n int
		f Fault
	}{
		"GET / HTTP/1.1\r\n":                              {-1, NoFault},
		"\x16\x03\x01":                                    {-1, NoFault},
		"PROXY UNKNOWN\r\n":                               {15, NoFault},
		"PROXY UNKNOWN ffff:f 1 2 3\r\n":                  {28, NoFault},
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n":            {0, BareLF},
		"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n":            {0, BadLine},
		"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n":      {0, BadLine},
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n":      {0, BadLine},
		"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n":         {0, BadLine},
		"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n":         {0, BadLine},
		"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n":          {0, BadLine},
		"PROXY " + strings.Repeat("x", 200):               {0, TooLarge},
		v2 + "\x31\x11\x00\x00":                           {0, BadVersion},
		v2 + "\x22\x11\x00\x00":                           {0, BadVersion},
		v2 + "\x21\x11\xff\xff":                           {0, TooLarge},
		v2 + "\x21\x11\x00\x04abcd":                       {0, BadLength},
		v2 + "\x20\x00\x00\x00":                           {16, NoFault}, // LOCAL
		v2 + "\x21\x12\x00\x0c" + strings.Repeat("x", 12): {28, NoFault}, // UDP: nobody's address
	} {
		p, n, f := ParseProxy([]byte(in))
		if n != want.n || f != want.f || p.Client.IsValid() {
			t.Errorf("%q: %v, %d, %q", in, p, n, f)
		}
	}
}
