package xdp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
// Replies from a VIP to one of them never reach the kernel.
const (
	firstCheckPort = 61000
	lastCheckPort  = 61999
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
	port   atomic.Uint32
	tcp    ports
	udp    ports
}

// ports are the orders of the connections at the checks' ports of a protocol:
// endpoint<<16 | generation.
type ports [lastCheckPort - firstCheckPort + 1]atomic.Uint32

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
	orders := &w.tcp
	if proto == protoUDP {
		orders = &w.udp
	} else if proto != protoTCP {
		return false
	}
	if len(ip) < offset+8 {
		return false
	}
	port := binary.BigEndian.Uint16(ip[offset:])
	if port < firstCheckPort || port > lastCheckPort {
		return false
	}
	o := orders[port-firstCheckPort].Load()
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
		n := binary.NativeEndian.Uint32(rec.RawSample)
		packet := append([]byte(nil), rec.RawSample[8:8+n]...)
		protocol := ipv4.ProtocolNumber
		if packet[0]>>4 == 6 {
			protocol = ipv6.ProtocolNumber
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
		w.link.InjectInbound(protocol, pkt)
		pkt.DecRef()
	}
}

// dial connects from own to a VIP, at the endpoint of the order.
func (w *wire) dial(ctx context.Context, own netip.Addr, vip netip.AddrPort, o order) (net.Conn, error) {
	var wq waiter.Queue
	ep, terr := w.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(own), &wq)
	if terr != nil {
		return nil, fmt.Errorf("check endpoint: %s", terr)
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if err := w.bind(ep, &w.tcp, own, o); err != nil {
		ep.Close()
		return nil, err
	}
	terr = ep.Connect(tcpip.FullAddress{NIC: wireNIC, Addr: tcpip.AddrFromSlice(vip.Addr().AsSlice()), Port: vip.Port()})
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			ep.Abort()
			ep.Close()
			return nil, fmt.Errorf("connect to %s: %w", vip, ctx.Err())
		case <-ready:
		}
		terr = ep.LastError()
	}
	if terr != nil {
		ep.Close()
		return nil, fmt.Errorf("connect to %s: %w", vip, connectError(terr))
	}
	c := &wireConn{TCPConn: gonet.NewTCPConn(&wq, ep), ep: ep}
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	return c, nil
}

// dialUDP gives a socket from own to a VIP, at the endpoint of the order.
func (w *wire) dialUDP(ctx context.Context, own netip.Addr, vip netip.AddrPort, o order) (net.Conn, error) {
	var wq waiter.Queue
	ep, terr := w.stack.NewEndpoint(udp.ProtocolNumber, protocolOf(own), &wq)
	if terr != nil {
		return nil, fmt.Errorf("check endpoint: %s", terr)
	}
	if err := w.bind(ep, &w.udp, own, o); err != nil {
		ep.Close()
		return nil, err
	}
	if terr := ep.Connect(tcpip.FullAddress{NIC: wireNIC, Addr: tcpip.AddrFromSlice(vip.Addr().AsSlice()), Port: vip.Port()}); terr != nil {
		ep.Close()
		return nil, fmt.Errorf("connect to %s: %w", vip, connectError(terr))
	}
	c := gonet.NewUDPConn(&wq, ep)
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	return c, nil
}

// bind takes the next port that is free.
func (w *wire) bind(ep tcpip.Endpoint, orders *ports, own netip.Addr, o order) error {
	for range len(orders) {
		i := w.port.Add(1) % uint32(len(orders))
		err := ep.Bind(tcpip.FullAddress{NIC: wireNIC, Addr: tcpip.AddrFromSlice(own.AsSlice()), Port: uint16(firstCheckPort + i)})
		if err == nil {
			orders[i].Store(uint32(o.endpoint)<<16 | uint32(o.generation))
			return nil
		}
	}
	return errors.New("all ports of the checks are in use")
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
	*gonet.TCPConn
	ep tcpip.Endpoint
}

// Close resets the connection.
func (c *wireConn) Close() error {
	c.ep.Abort()
	return c.TCPConn.Close()
}
