package xdp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TCP and UDP ports of the checks, above the range that Linux gives out by default.
// What comes from a VIP to one of them never reaches the kernel. The first half is
// for gateways: endpoints that hang, however many, leave that to them.
const (
	firstCheckPort = 61000
	lastCheckPort  = 61999
	checkPorts     = lastCheckPort - firstCheckPort + 1 // CHECK_PORTS of bpf/consts.h
	gatewayPorts   = checkPorts / 2
)

const (
	wireNIC = 1
	wireMTU = 1280 // whatever the tunnel, such a packet passes
)

// order says which endpoint a connection of the checker is to reach.
type order struct{ endpoint, generation uint16 }

// wire carries TCP connections and datagrams to VIPs by the balancer's own way: a TCP/IP
// stack of our own whose packets pass the program `check`, which treats them
// as it would a client's but for the choice of the endpoint, and whose replies
// the program at the device hands over. No socket of the kernel could do that:
// the kernel would route the VIP to whom it likes.
type wire struct {
	kernel *kernel
	device int // ifindex
	socket int // AF_PACKET, for sending
	stack  *stack.Stack
	link   *channel.Endpoint
	reader *ringbuf.Reader
	orders [4 * checkPorts]atomic.Uint32 // of the connections, by checkPort: endpoint<<16 | generation
	next   [2]atomic.Uint32              // port to try, of endpoints' checks and of gateways'
}

// checkPort gives the place of a port of the checks in the tables: by family and
// protocol, as is_asked in bpf/check.h; false: it is none of theirs.
func checkPort(v6, udp bool, port uint16) (uint32, bool) {
	i := uint32(port) - firstCheckPort
	if v6 {
		i += 2 * checkPorts
	}
	if udp {
		i += checkPorts
	}
	return i, firstCheckPort <= port && port <= lastCheckPort
}

// newWire opens a wire in the caller's network namespace.
func newWire(k *kernel, device int, own ...netip.Addr) (*wire, error) {
	w := &wire{kernel: k, device: device, socket: -1}
	var err error
	if w.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if w.reader, err = ringbuf.NewReader(k.Replies); err != nil {
		unix.Close(w.socket)
		return nil, fmt.Errorf("replies: %w", err)
	}
	w.link = channel.New(256, wireMTU, "")
	// Whoever sends over a virtual link may leave the checksum to the device,
	// which there is none of; and the path has checked it otherwise.
	w.link.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	w.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := w.addresses(own); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *wire) addresses(own []netip.Addr) error {
	if err := w.stack.CreateNIC(wireNIC, w.link); err != nil {
		return fmt.Errorf("check stack: %s", err)
	}
	for _, a := range valid(own...) {
		p := tcpip.ProtocolAddress{
			Protocol:          protocolOf(a),
			AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
		}
		if err := w.stack.AddProtocolAddress(wireNIC, p, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("check stack: address %s: %s", a, err)
		}
	}
	w.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: wireNIC},
		{Destination: header.IPv6EmptySubnet, NIC: wireNIC},
	})
	return nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// run moves packets until ctx ends.
func (w *wire) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	received := make(chan error, 1)
	go func() {
		received <- w.receive()
		cancel()
	}()
	stop := context.AfterFunc(ctx, func() { w.reader.Close() })
	defer stop()
	w.send(ctx)
	return <-received
}

// close gives everything back; run has returned, or was never called.
func (w *wire) close() {
	w.reader.Close()
	w.stack.Destroy()
	unix.Close(w.socket)
}

// send puts the stack's packets through the program and out by the device.
func (w *wire) send(ctx context.Context) {
	frame, out := make([]byte, 14+wireMTU), make([]byte, 2048)
	for {
		pkt := w.link.ReadContext(ctx)
		if pkt == nil {
			return // ctx has ended
		}
		n := 14
		for _, s := range pkt.AsSlices() {
			n += copy(frame[n:], s)
		}
		pkt.DecRef()
		w.forward(frame[:n], out)
	}
}

// forward sends one frame whose IP packet begins at its 15th octet. What
// cannot be sent is lost, as on any wire; the check then fails or repeats.
func (w *wire) forward(frame, out []byte) {
	if !w.address(frame) {
		return
	}
	opts := ebpf.RunOptions{Data: frame, DataOut: out}
	verdict, err := w.kernel.Check.Run(&opts)
	const tx, redirect = 3, 4 // XDP_TX, XDP_REDIRECT
	device := w.device
	if err == nil && verdict == redirect {
		var e edgeEndpoint
		err = w.kernel.Endpoints.Lookup(uint32(binary.NativeEndian.Uint16(frame)), &e)
		verdict, device = tx, int(e.Device)
	}
	if err != nil || verdict != tx {
		return
	}
	_ = unix.Sendto(w.socket, opts.DataOut, 0, &unix.SockaddrLinklayer{Ifindex: device})
}

// address fills in the frame's link header: the order in place of the
// destination MAC address, and the type. false: no connection of ours.
func (w *wire) address(frame []byte) bool {
	ip := frame[14:]
	ethertype, offset := uint16(0x0800), 20
	if ip[0]>>4 == 6 {
		ethertype, offset = 0x86dd, 40
	}
	proto := ip[9]
	if ethertype == 0x86dd {
		proto = ip[6]
	}
	if proto != protoTCP && proto != protoUDP || len(ip) < offset+8 {
		return false
	}
	i, ok := checkPort(ethertype == 0x86dd, proto == protoUDP, binary.BigEndian.Uint16(ip[offset:]))
	if !ok {
		return false
	}
	o := w.orders[i].Load()
	clear(frame[:14])
	binary.NativeEndian.PutUint16(frame[0:], uint16(o>>16))
	binary.NativeEndian.PutUint16(frame[2:], uint16(o))
	binary.BigEndian.PutUint16(frame[12:], ethertype)
	return true
}

// receive hands replies to the stack until the reader is closed.
func (w *wire) receive() error {
	var rec ringbuf.Record
	for {
		switch err := w.reader.ReadInto(&rec); {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("replies: %w", err)
		}
		packet := slices.Clone(rec.RawSample)
		protocol := ipv4.ProtocolNumber
		if packet[0]>>4 == 6 {
			protocol = ipv6.ProtocolNumber
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
		w.link.InjectInbound(protocol, pkt)
		pkt.DecRef()
	}
}

// question is what a check is to reach: a VIP, from own, at the endpoint of the
// order.
type question struct {
	own     netip.Addr
	vip     netip.AddrPort
	order   order
	gateway bool // else an endpoint
}

// dial connects. errNoPort: there is no port left to do that from.
func (w *wire) dial(ctx context.Context, q question) (net.Conn, error) {
	var wq waiter.Queue
	ep, terr := w.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(q.own), &wq)
	if terr != nil {
		return nil, fmt.Errorf("check endpoint: %s", terr)
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	port, err := w.bind(ep, false, q)
	if err != nil {
		ep.Close()
		return nil, err
	}
	terr = ep.Connect(tcpip.FullAddress{NIC: wireNIC, Addr: tcpip.AddrFromSlice(q.vip.Addr().AsSlice()), Port: q.vip.Port()})
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			w.letGo(port)
			ep.Abort()
			ep.Close()
			return nil, fmt.Errorf("connect to %s: %w", q.vip, ctx.Err())
		case <-ready:
		}
		terr = ep.LastError()
	}
	if terr != nil {
		w.letGo(port)
		ep.Close()
		return nil, fmt.Errorf("connect to %s: %w", q.vip, connectError(terr))
	}
	c := &wireConn{Conn: gonet.NewTCPConn(&wq, ep), ep: ep, letGo: func() { w.letGo(port) }}
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	return c, nil
}

// dialUDP gives a socket. errNoPort: as of dial.
func (w *wire) dialUDP(ctx context.Context, q question) (net.Conn, error) {
	var wq waiter.Queue
	ep, terr := w.stack.NewEndpoint(udp.ProtocolNumber, protocolOf(q.own), &wq)
	if terr != nil {
		return nil, fmt.Errorf("check endpoint: %s", terr)
	}
	port, err := w.bind(ep, true, q)
	if err != nil {
		ep.Close()
		return nil, err
	}
	if terr := ep.Connect(tcpip.FullAddress{NIC: wireNIC, Addr: tcpip.AddrFromSlice(q.vip.Addr().AsSlice()), Port: q.vip.Port()}); terr != nil {
		w.letGo(port)
		ep.Close()
		return nil, fmt.Errorf("connect to %s: %w", q.vip, connectError(terr))
	}
	c := &wireConn{Conn: gonet.NewUDPConn(&wq, ep), ep: ep, letGo: func() { w.letGo(port) }}
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	return c, nil
}

// errNoPort says that all ports of a kind of checks are in use: which says nothing
// of what was to be checked.
var errNoPort = errors.New("all ports of the checks are in use")

// bind takes the next port that is free, has the program take replies to it, and
// gives its place in the tables.
func (w *wire) bind(ep tcpip.Endpoint, udp bool, q question) (uint32, error) {
	next, first, count := &w.next[0], uint32(firstCheckPort+gatewayPorts), uint32(checkPorts-gatewayPorts)
	if q.gateway {
		next, first, count = &w.next[1], firstCheckPort, gatewayPorts
	}
	for range count {
		port := uint16(first + next.Add(1)%count)
		if ep.Bind(tcpip.FullAddress{NIC: wireNIC, Addr: tcpip.AddrFromSlice(q.own.AsSlice()), Port: port}) != nil {
			continue
		}
		i, _ := checkPort(q.own.Is6(), udp, port)
		w.orders[i].Store(uint32(q.order.endpoint)<<16 | uint32(q.order.generation))
		return i, w.kernel.setAsked(i, edgeAsked{Vip: toAddress(q.vip.Addr()), Port: swap16(q.vip.Port()), Waits: 1})
	}
	return 0, errNoPort
}

// letGo has the program take no more replies to a port; it is not free yet.
func (w *wire) letGo(port uint32) {
	// An array's place can always be written; were it not, a stranger might
	// still send something there.
	_ = w.kernel.setAsked(port, edgeAsked{})
}

// setAsked says whom a port of the checks waits for.
func (k *kernel) setAsked(port uint32, a edgeAsked) error {
	if err := k.Questions.Put(port, &a); err != nil {
		return fmt.Errorf("ports of the checks: %w", err)
	}
	return nil
}

// connectError gives the system's error for the stack's, where causeOf asks
// for it.
func connectError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused:
		return unix.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return unix.ECONNRESET
	case *tcpip.ErrTimeout:
		return os.ErrDeadlineExceeded
	}
	return errors.New(err.String())
}

// wireConn is a connection that ends at once when closed, with a reset: the
// server keeps nothing of it, and its port is soon free.
type wireConn struct {
	net.Conn
	ep    tcpip.Endpoint
	letGo func()
	once  sync.Once
}

// Close resets the connection. It may be called more than once.
func (c *wireConn) Close() error {
	c.once.Do(func() {
		c.letGo()
		c.ep.Abort()
	})
	return c.Conn.Close()
}
