package xdp

// What a tunnel adds to a packet, octets.
const (
	Overhead4   = 20 // outer header IPv4
	Overhead6   = 40 // outer header IPv6
	OverheadGUE = 8  // UDP behind it, with forwarding: gue
)

// MSS gives the TCP segment size that a gateway behind a tunnel may ask of its
// clients, so that their packets pass a path of that MTU with the tunnel's
// headers on. It reckons with the larger outer header, and with UDP behind it.
func MSS(mtu int, v6 bool) int {
	const tcpHeader, ip4, ip6 = 20, 20, 40
	if v6 {
		return mtu - Overhead6 - OverheadGUE - ip6 - tcpHeader
	}
	return mtu - Overhead6 - OverheadGUE - ip4 - tcpHeader
}
