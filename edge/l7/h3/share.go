package h3

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// socket is a UDP socket that this process shares with those of its node before
// and after it. One reads it: the newest. It sends what is for connections of
// the others on to them, by the generation in connection ids; all write to it.
// One that no other process has costs no more than the socket itself.
type socket struct {
	*net.UDPConn
	batch *ipv4.PacketConn
	c     *Carrier
	plain [16]byte // room for what is in a connection id

	former atomic.Pointer[[]*way] // to processes that have connections; nil: there are none
	heir   atomic.Pointer[heir]   // not nil: another process reads the socket

	mu       sync.Mutex // guards what follows
	deadline time.Time  // for reads, as quic-go has set it
	next     *heir      // where HandOver has been called
	closed   bool
	watching sync.WaitGroup
}

// heir is how packets come to a process whose socket another one reads.
type heir struct {
	in     *net.UnixConn
	out    *net.UnixConn // the other end, until the other process has it
	buffer [4096]byte
}

// share makes the socket, with the ways to former processes.
func (c *Carrier) share(udp *net.UDPConn) *socket {
	s := &socket{UDPConn: udp, batch: ipv4.NewPacketConn(udp), c: c}
	at := udp.LocalAddr().String()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets[s] = true
	if ways := c.former[at]; len(ways) > 0 {
		delete(c.former, at)
		s.former.Store(&ways)
		for _, w := range ways {
			s.watching.Go(func() { s.watch(w) })
		}
	}
	return s
}

// watch lets go of a way when the process at its other end has.
func (s *socket) watch(w *way) {
	var b [1]byte
	_, _ = w.conn.Read(b[:]) // nothing comes: it ends
	s.drop(w)
}

func (s *socket) drop(w *way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ways := s.former.Load()
	if ways == nil || !slices.Contains(*ways, w) {
		return
	}
	left := slices.DeleteFunc(slices.Clone(*ways), func(v *way) bool { return v == w })
	if len(left) == 0 {
		s.former.Store(nil)
	} else {
		s.former.Store(&left)
	}
	w.conn.Close()
}

// ReadBatch reads packets of this process's connections, and of new ones. quic-go
// calls it in place of reading the socket itself.
func (s *socket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		h := s.heir.Load()
		var n int
		var err error
		if h != nil {
			n, err = h.read(ms)
		} else {
			n, err = s.batch.ReadBatch(ms, flags)
		}
		if err != nil && (s.heir.Load() != h || s.back(h, err)) {
			continue // it was interrupted to read elsewhere
		}
		if ways := s.former.Load(); ways != nil && err == nil {
			n = s.sort(*ways, ms[:n])
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// read reads one packet that another process has sent on; none where the message
// is not one.
func (h *heir) read(ms []ipv4.Message) (int, error) {
	n, err := h.in.Read(h.buffer[:])
	if err != nil {
		return 0, err
	}
	if !receive(h.buffer[:n], &ms[0]) {
		return 0, nil
	}
	return 1, nil
}

// sort sends on what is of former processes, and leaves the rest, whose number it
// gives, at the front. Each message keeps its buffer, which quic-go knows by its place.
func (s *socket) sort(ways []*way, ms []ipv4.Message) int {
	n := 0
	for i := range ms {
		if w := s.wayFor(ways, ms[i].Buffers[0][:ms[i].N]); w != nil {
			s.sendOn(w, &ms[i])
			continue
		}
		if i != n {
			to, from := &ms[n], &ms[i]
			to.N, to.NN = copy(to.Buffers[0], from.Buffers[0][:from.N]), copy(to.OOB, from.OOB[:from.NN])
			to.Addr, to.Flags = from.Addr, from.Flags
		}
		n++
	}
	return n
}

// sendOn sends a packet on and counts it.
func (s *socket) sendOn(w *way, m *ipv4.Message) {
	sent, err := w.forward(m)
	if sent {
		s.c.forwarded.Inc()
	} else {
		s.c.lost.Inc()
	}
	if err != nil {
		s.drop(w)
	}
}

func (s *socket) wayFor(ways []*way, packet []byte) *way {
	generation, ok := s.c.ids.generationOf(packet, s.plain[:])
	if !ok || generation == s.c.ids.generation {
		return nil
	}
	for _, w := range ways {
		if w.generation == generation {
			return w
		}
	}
	return nil
}

// back has this process read the socket again where the one that did is gone, or
// does not want it. false: err is of something else.
func (s *socket) back(h *heir, err error) bool {
	if h == nil || !errors.Is(err, io.EOF) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.heir.Load() != h {
		return false
	}
	s.heir.Store(nil)
	_ = s.settle() // it fails on a closed socket only
	h.in.Close()
	return true
}

// SetReadDeadline bounds reads, wherever they are from.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return s.settle()
}

// settle has reads wait where they are to, and nowhere else; mu is held.
func (s *socket) settle() error {
	h := s.heir.Load()
	if h == nil {
		return s.UDPConn.SetReadDeadline(s.deadline)
	}
	return errors.Join(h.in.SetReadDeadline(s.deadline), s.UDPConn.SetReadDeadline(time.Unix(1, 0)))
}

// Close closes the socket for this process, and its ways.
func (s *socket) Close() error {
	s.c.mu.Lock()
	delete(s.c.sockets, s)
	s.c.mu.Unlock()
	s.mu.Lock()
	err := s.UDPConn.Close()
	if h := s.heir.Load(); h != nil {
		h.in.Close()
	}
	if !s.closed {
		s.closed = true
		s.abandon()
	}
	var ways []*way
	if p := s.former.Swap(nil); p != nil {
		ways = *p
	}
	s.mu.Unlock()
	for _, w := range ways {
		w.conn.Close()
	}
	s.watching.Wait()
	return err
}

// abandon closes what HandOver made, unless it is in use; mu is held.
func (s *socket) abandon() {
	if h := s.next; h != nil {
		h.out.Close()
		if s.heir.Load() != h {
			h.in.Close()
		}
		s.next = nil
	}
}

// HandOver gives what another process of this node needs to send packets of this
// one's connections, and of those of the processes before it, to where these are:
// by names, for the other's Config.Former. Yield follows.
func (c *Carrier) HandOver() (map[string]syscall.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]syscall.Conn{}
	for s := range c.sockets {
		s.mu.Lock()
		err := s.handOver(out)
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *socket) handOver(out map[string]syscall.Conn) error {
	if s.closed {
		return nil
	}
	s.abandon()
	in, other, err := pair()
	if err != nil {
		return err
	}
	s.next = &heir{in: in, out: other}
	at := s.LocalAddr().String()
	out[name(s.c.ids.generation, at)] = other
	if ways := s.former.Load(); ways != nil {
		for _, w := range *ways {
			out[name(w.generation, at)] = w.conn
		}
	}
	return nil
}

// Yield leaves the sockets to the process that has what HandOver gave, to true, or
// takes them back where that process has come to nothing.
func (c *Carrier) Yield(to bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sockets {
		s.mu.Lock()
		s.yield(to)
		s.mu.Unlock()
	}
}

func (s *socket) yield(to bool) {
	switch h := s.heir.Load(); {
	case to && s.next != nil:
		s.heir.Store(s.next)
		_ = s.settle() // it fails on a closed socket only, which nobody reads
	case !to && h != nil:
		s.heir.Store(nil)
		_ = s.settle()
		h.in.Close()
	}
	s.abandon()
}

// Unwanted closes the ways that Config.Former gave for sockets that are not open:
// what is left of them the former processes read themselves.
func (c *Carrier) Unwanted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ways := range c.former {
		for _, w := range ways {
			w.conn.Close()
		}
	}
	clear(c.former)
}
