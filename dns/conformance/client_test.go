package conformance

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// askAll asks a server everything, some questions at a time.
func askAll(p peer, queries []query) []normal {
	out := make([]normal, len(queries))
	var wg sync.WaitGroup
	const lanes = 4
	for lane := range lanes {
		wg.Go(func() {
			c := client{addr: p.addr}
			defer c.close()
			for i := lane; i < len(queries); i += lanes {
				out[i] = normalise(c.ask(queries[i].wire(uint16(i)), queries[i].mode.tcp), queries[i].qt)
			}
		})
	}
	wg.Wait()
	return out
}

// reply is a response, or why there is none.
type reply struct {
	wire []byte
	err  error
}

// client keeps one UDP socket and one TCP connection to a server.
type client struct {
	addr     string
	patience time.Duration // how long to wait for a reply; 0: 2s, and once more
	udp, tcp net.Conn
	buf      [65535]byte
}

func (c *client) close() {
	for _, conn := range []net.Conn{c.udp, c.tcp} {
		if conn != nil {
			conn.Close()
		}
	}
}

// silence is how long no reply has to last to count as none.
const silence = 3 * time.Second

var errNone = errors.New("no reply")

// ask sends a query and gives the reply with the same id; what gets lost is
// sent again once.
func (c *client) ask(q []byte, tcp bool) reply {
	tries := 2
	if c.patience > 0 {
		tries = 1
	}
	for range tries {
		var r []byte
		var err error
		if tcp {
			r, err = c.askTCP(q)
		} else {
			r, err = c.askUDP(q)
		}
		if err == nil {
			return reply{r, nil}
		}
	}
	return reply{nil, errNone}
}

func (c *client) askUDP(q []byte) ([]byte, error) {
	if c.udp == nil {
		conn, err := net.Dial("udp", c.addr)
		if err != nil {
			return nil, err
		}
		c.udp = conn
	}
	if _, err := c.udp.Write(q); err != nil {
		return nil, err
	}
	if err := c.udp.SetReadDeadline(time.Now().Add(cmp.Or(c.patience, 2*time.Second))); err != nil {
		return nil, err
	}
	for {
		n, err := c.udp.Read(c.buf[:])
		if err != nil {
			return nil, err
		}
		if n >= 2 && c.buf[0] == q[0] && c.buf[1] == q[1] {
			return slices.Clone(c.buf[:n]), nil
		}
	}
}

func (c *client) askTCP(q []byte) (_ []byte, err error) {
	if c.tcp == nil {
		if c.tcp, err = net.Dial("tcp", c.addr); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			c.tcp.Close()
			c.tcp = nil
		}
	}()
	if err = c.tcp.SetDeadline(time.Now().Add(cmp.Or(c.patience, 2*time.Second))); err != nil {
		return nil, err
	}
	if _, err = c.tcp.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return nil, err
	}
	if _, err = io.ReadFull(c.tcp, c.buf[:2]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(c.buf[:2]))
	if _, err = io.ReadFull(c.tcp, c.buf[:n]); err != nil {
		return nil, err
	}
	return slices.Clone(c.buf[:n]), nil
}
