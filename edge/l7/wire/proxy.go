package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Proxied is what the PROXY protocol (HAProxy's specification, 2.9, sections
// 2.1 and 2.2) says of a connection.
type Proxied struct {
	Client, Server netip.AddrPort // not valid where the proxy speaks for itself, or of no TCP
}

var (
	proxyV1 = []byte("PROXY ")
	proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// Bounds of both versions, in octets.
const (
	maxProxyV1 = 107
	maxProxyV2 = 16 + 2048
)

// ParseProxy reads the header that may stand before all else on a connection.
// It gives the octets that it takes: 0 and NoFault where more are needed, -1
// where b begins with something else.
func ParseProxy(b []byte) (p Proxied, n int, f Fault) {
	switch {
	case bytes.HasPrefix(b, proxyV2):
		return parseProxyV2(b)
	case bytes.HasPrefix(b, proxyV1):
		return parseProxyV1(b)
	case bytes.HasPrefix(proxyV2, b) || bytes.HasPrefix(proxyV1, b):
		return p, 0, NoFault
	}
	return p, -1, NoFault
}

func parseProxyV1(b []byte) (p Proxied, n int, f Fault) {
	lf := bytes.IndexByte(b, '\n')
	switch {
	case lf < 0 && len(b) >= maxProxyV1 || lf >= maxProxyV1:
		return p, 0, TooLarge
	case lf < 0:
		return p, 0, NoFault
	case b[lf-1] != '\r':
		return p, 0, BareLF
	}
	part := bytes.Split(b[len(proxyV1):lf-1], []byte{' '})
	if string(part[0]) == "UNKNOWN" {
		return p, lf + 1, NoFault
	}
	if len(part) != 5 || string(part[0]) != "TCP4" && string(part[0]) != "TCP6" {
		return p, 0, BadLine
	}
	four := string(part[0]) == "TCP4"
	var ok1, ok2 bool
	p.Client, ok1 = proxyAddr(part[1], part[3], four)
	p.Server, ok2 = proxyAddr(part[2], part[4], four)
	if !ok1 || !ok2 {
		return Proxied{}, 0, BadLine
	}
	return p, lf + 1, NoFault
}

func proxyAddr(addr, port []byte, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(addr))
	n, ok := number(port)
	if err != nil || a.Is4() != four || a.Zone() != "" || !ok || n > 65535 || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

func parseProxyV2(b []byte) (p Proxied, n int, f Fault) {
	if len(b) < 16 {
		return p, 0, NoFault
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case b[12]>>4 != 2 || b[12]&15 > 1:
		return p, 0, BadVersion
	case 16+length > maxProxyV2:
		return p, 0, TooLarge
	case len(b) < 16+length:
		return p, 0, NoFault
	}
	body := b[16 : 16+length]
	if b[12]&15 == 1 { // PROXY, else LOCAL
		switch b[13] {
		case 0x11:
			if length < 12 {
				return p, 0, BadLength
			}
			p.Client = v2Addr(body[:4], body[8:])
			p.Server = v2Addr(body[4:8], body[10:])
		case 0x21:
			if length < 36 {
				return p, 0, BadLength
			}
			p.Client = v2Addr(body[:16], body[32:])
			p.Server = v2Addr(body[16:32], body[34:])
		}
	}
	return p, 16 + length, NoFault
}

func v2Addr(addr, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}
