package h3

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"meridian/edge/l7"
	"meridian/edge/quiclb"
	"meridian/fleet"
)

// Protocol is HTTP/3's name in TLS (RFC 9114 section 3.1).
const Protocol = "h3"

// Config is what a Carrier needs; all of it but Generation.
type Config struct {
	Node       string    // this node's name, which its server id follows from
	Key        [16]byte  // of connection ids: the fleet's
	ResetKey   [32]byte  // of stateless resets (RFC 9000 section 10.3): this node's, the same in all its processes
	TokenKey   [32]byte  // of the tokens by which clients prove an address (RFC 9000 section 8.1): the fleet's
	Generation uint32    // in connection ids; another for each process that serves the node's addresses at a time
	Random     io.Reader // cannot be guessed

	// Former are the ways to the processes of this node before this one that have
	// connections still, as their HandOver named them. The Carrier closes them.
	Former  map[string]*os.File
	Streams int           // requests that a client may have under way; default 128
	Idle    time.Duration // without a packet from the client, until it is taken for gone; default 60s
}

const (
	usualStreams = 128
	usualIdle    = time.Minute

	// What clients may send before it is read, octets. The windows grow from the
	// first to the second as a body is read fast.
	streamWindow, streamWindowMost = 256 << 10, 4 << 20
	connWindow, connWindowMost     = 512 << 10, 8 << 20

	// uniStreams is how many streams of its own a client may open in all: three
	// are needed, others mean nothing (RFC 9114 section 6.2).
	uniStreams = 16

	// crowd is how many handshakes under way make clients prove their address
	// first, which takes a round trip more (RFC 9000 section 8.1.2).
	crowd = 512

	handshakeTimeout = 10 * time.Second
)

// Carrier implements l7.PacketCarrier. It is safe for concurrent use.
type Carrier struct {
	cfg Config
	ids *ids

	packets         *prometheus.CounterVec // for connections of former processes
	forwarded, lost prometheus.Counter     // of packets

	mu      sync.Mutex        // guards what follows
	former  map[string][]*way // by the socket's address; until a socket takes them
	sockets map[*socket]bool  // open
}

// New checks cfg. It opens nothing.
func New(cfg Config) (*Carrier, error) {
	if cfg.Node == "" || cfg.Random == nil {
		return nil, errors.New("http/3: node and a source of random octets are needed")
	}
	if cfg.Streams == 0 {
		cfg.Streams = usualStreams
	}
	if cfg.Idle == 0 {
		cfg.Idle = usualIdle
	}
	g, err := newIDs(cfg.Key, cfg.Generation, cfg.Random)
	if err != nil {
		return nil, fmt.Errorf("http/3: %w", err)
	}
	c := &Carrier{cfg: cfg, ids: g, former: map[string][]*way{}, sockets: map[*socket]bool{}}
	c.packets = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_l7_quic_former_packets_total",
		Help: "Packets of QUIC for connections of a former process of this node, by what became of them: forwarded to it, or lost (it has ended, or does not keep up)."}, []string{"result"})
	c.forwarded, c.lost = c.packets.WithLabelValues("forwarded"), c.packets.WithLabelValues("lost")
	for name, f := range cfg.Former {
		at, w, err := wayOf(name, f)
		if err != nil {
			return nil, fmt.Errorf("http/3: connections of a former process: %w", err)
		}
		c.former[at] = append(c.former[at], w)
	}
	return c, nil
}

// Register adds its metrics.
func (c *Carrier) Register(r prometheus.Registerer) { r.MustRegister(c.packets) }

// Apply takes the node's server id from w; of a node that is not there, or has
// none, its name decides. It comes before Listen.
func (c *Carrier) Apply(w *fleet.World) error {
	n := w.Snapshot.Node(c.cfg.Node)
	if n == nil {
		n = &fleet.Node{Name: c.cfg.Node}
	}
	if err := c.ids.use(quiclb.ServerID(n)); err != nil {
		return fmt.Errorf("http/3: %w", err)
	}
	return nil
}

// Listen implements l7.PacketCarrier.
func (c *Carrier) Listen(socket net.PacketConn, config *tls.Config, admit l7.Admit) (l7.PacketServer, error) {
	if c.ids.of.Load() == nil {
		return nil, errNoServer
	}
	if udp, ok := socket.(*net.UDPConn); ok {
		socket = c.share(udp)
	}
	s := &server{socket: socket, admit: admit, leaving: make(chan struct{}), conns: map[*conn]struct{}{}, vip: addrPort(socket.LocalAddr())}
	s.transport = &quic.Transport{
		Conn:                  socket,
		ConnectionIDGenerator: c.ids,
		StatelessResetKey:     (*quic.StatelessResetKey)(&c.cfg.ResetKey),
		TokenGeneratorKey:     (*quic.TokenGeneratorKey)(&c.cfg.TokenKey),
		VerifySourceAddress:   func(net.Addr) bool { return s.handshakes.Load() > crowd },
		ConnContext:           s.begins,
	}
	s.tls, s.quic = config, c.limits()
	return s, nil
}

// limits are those of a connection.
func (c *Carrier) limits() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout: handshakeTimeout,
		MaxIdleTimeout:       c.cfg.Idle,
		// A request may take longer than that with nothing to send. What has no
		// request is ended by conn.tick.
		KeepAlivePeriod:                c.cfg.Idle / 3,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         streamWindowMost,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     connWindowMost,
		MaxIncomingStreams:             int64(c.cfg.Streams),
		MaxIncomingUniStreams:          uniStreams,
		// A stream that a client has reset counts until its exchange has ended.
		RequireStreamCreditRelease: true,
	}
}
