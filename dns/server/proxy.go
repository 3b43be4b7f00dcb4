package server

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
)

// The PROXY protocol, version 2, in its one binary form; version 1 is text and
// is not taken.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = len(proxySignature) + 4
	proxyMost      = 2048 // octets of addresses and extensions that are let pass

	proxyStream   = 1
	proxyDatagram = 2
)

var (
	errProxyMissing = errors.New("no PROXY header of version 2")
	errProxyWrong   = errors.New("malformed PROXY header")
)

// parseProxy reads the PROXY header that b begins with: its length, and the
// client that it tells; client is not valid for a header of the proxy's own
// (LOCAL, as for health checks). kind is that of the socket.
func parseProxy(b []byte, kind byte) (n int, client netip.AddrPort, err error) {
	if len(b) < proxyFixed || string(b[:len(proxySignature)]) != proxySignature {
		return 0, client, errProxyMissing
	}
	command, family := b[12], b[13]
	n = proxyFixed + int(binary.BigEndian.Uint16(b[14:]))
	if n > len(b) {
		return 0, client, errProxyWrong
	}
	addresses := b[proxyFixed:n]
	switch command {
	case 0x20: // LOCAL: the rest is to be ignored
		return n, client, nil
	case 0x21: // PROXY
	default:
		return 0, client, errProxyWrong
	}
	switch {
	case family == 0x10|kind && len(addresses) >= 12:
		client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(addresses)), binary.BigEndian.Uint16(addresses[8:]))
	case family == 0x20|kind && len(addresses) >= 36:
		client = netip.AddrPortFrom(netip.AddrFrom16([16]byte(addresses)).Unmap(), binary.BigEndian.Uint16(addresses[32:]))
	default:
		return 0, client, errProxyWrong
	}
	return n, client, nil
}

// readProxy reads the header that a stream begins with, and not one octet more.
func readProxy(r io.Reader) (netip.AddrPort, error) {
	b := make([]byte, proxyFixed, 256)
	if _, err := io.ReadFull(r, b); err != nil {
		return netip.AddrPort{}, err
	}
	if string(b[:len(proxySignature)]) != proxySignature {
		return netip.AddrPort{}, errProxyMissing
	}
	rest := int(binary.BigEndian.Uint16(b[14:]))
	if rest > proxyMost {
		return netip.AddrPort{}, errProxyWrong
	}
	b = append(b, make([]byte, rest)...)
	if _, err := io.ReadFull(r, b[proxyFixed:]); err != nil {
		return netip.AddrPort{}, err
	}
	_, client, err := parseProxy(b, proxyStream)
	return client, err
}

// startsProxy says whether b begins as a PROXY header does. As a DNS message
// that would be one of 3338 queries of opcode 1, which nobody sends.
func startsProxy(b []byte) bool {
	return len(b) >= len(proxySignature) && string(b[:len(proxySignature)]) == proxySignature
}
