package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"meridian/dns/tsig"
	"meridian/dns/zone"
	"meridian/fleet"
)

// How NOTIFY is sent (RFC 1996 section 3.6): again after 2 s and then after
// twice the time each, six times in all; no more than so many a second.
const (
	notifyFirst  = 2 * time.Second
	notifyTries  = 6
	notifyRate   = 500
	notifyBurst  = 100
	notifySecure = 16 // over TLS at a time
)

// notifier tells secondaries of changes. One socket for each source address
// serves all zones.
type notifier struct {
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}
	secure  chan struct{} // a token for each exchange over TLS

	mu      sync.Mutex // guards what follows
	notices map[noticeKey]*notice
	byID    map[replyKey]*notice
	due     queue[*notice]
	sockets map[netip.Addr]*net.UDPConn
}

type noticeKey struct {
	zone fleet.Name
	peer netip.AddrPort
}

type replyKey struct {
	peer netip.AddrPort
	id   uint16
}

// notice is one zone's news for one secondary, until it is acknowledged.
type notice struct {
	key    noticeKey
	peer   peer
	soa    record
	id     uint16
	verify *tsig.Client
	tries  int
	timer  entry[*notice]
}

func newNotifier(log *slog.Logger, m *metrics) *notifier {
	return &notifier{log: log, metrics: m, wake: make(chan struct{}, 1), secure: make(chan struct{}, notifySecure),
		notices: map[noticeKey]*notice{}, byID: map[replyKey]*notice{}, sockets: map[netip.Addr]*net.UDPConn{}}
}

// changed has secondaries told of a zone's version. News that they have not
// acknowledged yet is dropped for it.
func (n *notifier) changed(z *zone.Zone, peers []peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range peers {
		key := noticeKey{z.Name, p.Address}
		x := n.notices[key]
		if x == nil {
			x = &notice{key: key, timer: entry[*notice]{index: -1}}
			x.timer.item = x
			n.notices[key] = x
		}
		delete(n.byID, replyKey{x.peer.Address, x.id}) // an answer to the news of before is none to these
		x.peer, x.soa, x.tries = p, soaOf(z), 0
		n.due.put(&x.timer, time.Now())
	}
	poke(n.wake)
}

// forget drops a zone's news.
func (n *notifier) forget(name fleet.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, x := range n.notices {
		if key.zone == name {
			n.end(x)
		}
	}
}

// end drops a notice. It is called with mu held.
func (n *notifier) end(x *notice) {
	n.due.remove(&x.timer)
	delete(n.notices, x.key)
	delete(n.byID, replyKey{x.peer.Address, x.id})
}

// run sends what is due until ctx ends.
func (n *notifier) run(ctx context.Context) error {
	var readers sync.WaitGroup
	defer readers.Wait()
	defer n.close()
	limit := rate.NewLimiter(notifyRate, notifyBurst)
	for {
		n.mu.Lock()
		e := n.due.due(time.Now())
		at, more := n.due.next()
		n.mu.Unlock()
		if e != nil {
			if limit.Wait(ctx) != nil {
				return nil
			}
			n.send(ctx, e.item, &readers)
			continue
		}
		wait := time.Hour
		if more {
			wait = max(time.Until(at), 0)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-n.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (n *notifier) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.sockets {
		_ = c.Close() // its reader ends by it
	}
	clear(n.sockets)
}

// send sends a notice once more, or gives it up.
func (n *notifier) send(ctx context.Context, x *notice, readers *sync.WaitGroup) {
	n.mu.Lock()
	if n.notices[x.key] != x {
		n.mu.Unlock()
		return
	}
	delete(n.byID, replyKey{x.peer.Address, x.id})
	if x.tries == notifyTries {
		n.end(x)
		n.mu.Unlock()
		n.metrics.notify("out", "timeout")
		n.log.Warn("a secondary does not answer NOTIFY", "zone", x.key.zone, "secondary", x.key.peer)
		return
	}
	n.due.put(&x.timer, time.Now().Add(notifyFirst<<x.tries))
	x.tries++
	msg := notifyMessage(x.soa)
	for n.byID[replyKey{x.peer.Address, binary.BigEndian.Uint16(msg)}] != nil {
		binary.BigEndian.PutUint16(msg, uint16(rand.Uint32()))
	}
	x.id, x.verify = binary.BigEndian.Uint16(msg), nil
	if x.peer.key != nil {
		msg, x.verify = x.peer.key.Request(msg, time.Now())
	}
	n.byID[replyKey{x.peer.Address, x.id}] = x
	p := x.peer
	n.mu.Unlock()
	if p.tls != nil {
		n.sendSecure(ctx, &p, msg, readers)
		return
	}
	conn, err := n.socket(&p, readers)
	if err == nil {
		_, err = conn.WriteToUDPAddrPort(msg, p.Address)
	}
	if err != nil {
		n.log.Debug("NOTIFY", "zone", x.key.zone, "secondary", p.Address, "err", err)
	}
}

// notifyMessage makes a NOTIFY with the SOA as a hint (RFC 1996 section 3.7).
func notifyMessage(soa record) []byte {
	msg := binary.BigEndian.AppendUint16(nil, uint16(rand.Uint32()))
	msg = append(msg, opNotify<<3|4, 0, 0, 1, 0, 1, 0, 0, 0, 0)
	msg = append(msg, soa.owner...)
	msg = append(msg, 0, zone.TypeSOA, 0, classIN)
	return appendRecord(msg, soa)
}

// socket gives the socket for a peer's source address, opened when it is first
// wanted.
func (n *notifier) socket(p *peer, readers *sync.WaitGroup) (*net.UDPConn, error) {
	source, network := p.Source, "udp4"
	if p.Address.Addr().Is6() {
		network = "udp6"
	}
	if !source.IsValid() {
		if source = netip.IPv4Unspecified(); network == "udp6" {
			source = netip.IPv6Unspecified()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.sockets[source]; c != nil {
		return c, nil
	}
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)))
	if err != nil {
		return nil, err
	}
	n.sockets[source] = c
	readers.Go(func() { n.read(c) })
	return c, nil
}

func (n *notifier) read(c *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		size, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			n.acknowledged(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:size])
		}
	}
}

// acknowledged takes an answer: whatever it says, the secondary has heard
// (RFC 1996 section 3.6).
func (n *notifier) acknowledged(from netip.AddrPort, wire []byte) {
	m, _, err := parse(wire)
	if err != nil || !m.answer() || m.opcode() != opNotify {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	x := n.byID[replyKey{from, m.id}]
	if x == nil {
		return
	}
	result := "ok"
	if x.verify != nil && m.rcode() == rcodeOK {
		if _, err := x.verify.Verify(wire, time.Now()); err != nil {
			return // not from the secondary, or not for this key: ask again
		}
	}
	if m.rcode() != rcodeOK {
		result = "refused"
		n.log.Warn("a secondary refuses NOTIFY", "zone", x.key.zone, "secondary", from, "err", rcodeError(m.rcode()))
	}
	n.end(x)
	n.metrics.notify("out", result)
}

// sendSecure sends a notice over TLS. There is a bound on how many are under
// way; one over it waits for its next turn.
func (n *notifier) sendSecure(ctx context.Context, p *peer, msg []byte, readers *sync.WaitGroup) {
	select {
	case n.secure <- struct{}{}:
	default:
		return
	}
	readers.Go(func() {
		defer func() { <-n.secure }()
		wire, err := exchange(ctx, p, msg)
		if err != nil {
			n.log.Debug("NOTIFY over TLS", "secondary", p.Address, "err", err)
			return
		}
		n.acknowledged(p.Address, wire)
	})
}

// exchange sends one message over a stream and gives the answer.
func exchange(ctx context.Context, p *peer, msg []byte) ([]byte, error) {
	conn, err := dial(ctx, p)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := writeMessage(conn, msg); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	return readMessage(conn, dialTimeout)
}
