package quic

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// proxyingConn puts a PROXY header of version 2 before each datagram, as a
// proxy does.
type proxyingConn struct {
	net.PacketConn
	header []byte
}

func newProxyingConn(client netip.AddrPort) (*proxyingConn, error) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x12, 0, 12)
	from, to := client.Addr().As4(), [4]byte{192, 0, 2, 53}
	h = append(append(h, from[:]...), to[:]...)
	h = binary.BigEndian.AppendUint16(h, client.Port())
	return &proxyingConn{c, binary.BigEndian.AppendUint16(h, 853)}, nil
}

func (c *proxyingConn) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(append(c.header[:len(c.header):len(c.header)], b...), to)
	return max(0, n-len(c.header)), err
}

func udpAddr(a netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(a) }
