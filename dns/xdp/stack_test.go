package xdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/internal/testkit/netns"
)

// raw is a client that sends and receives whole frames.
type raw struct {
	*site
	fd   int
	macs []byte // the server's and the client's
	buf  [4096]byte
}

func (s *site) raw() *raw {
	s.Helper()
	r := &raw{site: s}
	s.must(s.client.Do(func() (err error) {
		const all = 0x0300 // ETH_P_ALL in network order
		r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		return err
	}))
	s.Cleanup(func() { unix.Close(r.fd) })
	for _, ns := range []*netns.NS{s.ns, s.client} {
		l, err := ns.Netlink().LinkByName("eth0")
		s.must(err)
		r.macs = append(r.macs, l.Attrs().HardwareAddr...)
		if ns == s.client {
			s.must(unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Attrs().Index}))
		}
	}
	limit := unix.NsecToTimeval(int64(patience))
	s.must(unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	return r
}

// ask sends a frame, and gives what the nameserver answers to it; nil for
// nothing. That it answers nothing is known by the answer to a query of the same
// client's, and so to the same socket, that comes behind it and has another ID.
func (r *raw) ask(f []byte, client, server netip.AddrPort, last uint16) (answer []byte) {
	r.Helper()
	end := withOptions("demo.test", 255, false) // which the sockets answer
	binary.BigEndian.PutUint16(end, last)
	behind := frame(client, server, end)
	copy(behind, r.macs)
	for _, f := range [][]byte{f, behind} {
		if _, err := unix.Write(r.fd, f); err != nil {
			r.must(err)
		}
	}
	for {
		n, _, err := unix.Recvfrom(r.fd, r.buf[:], 0)
		if err == unix.EINTR { // a receive timeout keeps signals from restarting it (signal(7))
			continue
		}
		r.must(err)
		p, ok := find(r.buf[:n])
		switch {
		case !ok || !bytes.Equal(r.buf[6:12], r.macs[:6]) || p.server != client || len(p.msg) < headerLen:
		case binary.BigEndian.Uint16(p.msg) == last:
			return answer
		default:
			answer = bytes.Clone(p.msg)
		}
	}
}

// Spoilt frames get the same from a device with the program as from one
// without: what the program answers the stack would have brought to a socket,
// and what it passes on the stack and the socket treat as ever.
func TestSpoiltFramesByTheStack(t *testing.T) {
	const total = 3000
	var by [2][][]byte
	var frames [2][][]byte
	for way := range by {
		s := newSiteOf(t, newWorld(t, spec), newAtlas(), Config{Device: "eth0", Mode: Native}, way == 0)
		r := s.raw()
		a := newAsker(s.server.Plan(), 77)
		var w answer.Worker
		out := make([]byte, answer.MaxStream)
		for n := 0; n < total; n++ {
			client, server := netip.MustParseAddrPort(siteClient4+":5555"), netip.MustParseAddrPort(siteServer4+":53")
			if a.IntN(2) == 0 {
				client, server = netip.MustParseAddrPort("["+siteClient6+"]:5555"), netip.MustParseAddrPort("["+siteServer6+"]:53")
			}
			q := a.query()
			if _, o := s.server.Plan().Answer(&w, q, nobody, out); o.Special || hasCookie(q) {
				q = withOptions("mx1.demo.test", zone.TypeA, false)
			}
			p := newPacket(client, server, q)
			p.to, p.from = r.macs[:6], r.macs[6:]
			for recipe := a.recipe(); len(recipe) > 0; recipe = recipe[2:] {
				if kind := recipe[0] % 23; kind != 0 && kind != 7 && kind != 8 && (kind != 13 || recipe[1] > 0) { // that tell who asks, and which no device here has
					p.spoil(recipe[:2])
				}
			}
			f := p.frame()
			if len(f) < 14 || len(f) > 1500 || hasCookie(f) {
				continue
			}
			frames[way] = append(frames[way], f)
			by[way] = append(by[way], r.ask(f, client, server, ^binary.BigEndian.Uint16(q)))
		}
		if way == 1 {
			t.Logf("%d frames, %d answered in the kernel", len(by[1]), s.answered())
		}
	}
	answered := 0
	for i := range by[0] {
		if by[0][i] != nil {
			answered++
		}
		if !bytes.Equal(by[0][i], by[1][i]) {
			t.Fatalf("frame %x\nsockets: %x\nwith the program: %x", frames[1][i], by[0][i], by[1][i])
		}
	}
	if answered < total/10 || answered == len(by[0]) {
		t.Errorf("%d of %d were answered", answered, len(by[0]))
	}
}
