package h3

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

const (
	maxControlFrame = 4 << 10 // octets
	// Control frames that a client may send: so many, and so many more with each
	// request (those of RFC 9218 come with requests).
	controlFrames, controlFramesEach = 64, 16
	// The same for what it tells of its decoder.
	cancellations, cancellationsEach = 1024, 64
)

// acceptControl reads the client's own streams, each in a goroutine.
func (c *conn) acceptControl() {
	for {
		s, err := c.q.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		c.tasks.Go(func() {
			err := c.readControl(s)
			if e, ok := errors.AsType[*broken](err); ok {
				c.fail(e)
			}
		})
	}
}

// readControl reads one such stream to its end.
func (c *conn) readControl(s *quic.ReceiveStream) error {
	r := bufio.NewReaderSize(s, 64)
	kind, err := quicvarint.Read(r)
	switch {
	case err != nil: // reset, or ended, before it said what it is (RFC 9114 section 6.2)
		s.CancelRead(streamCreation.stream())
		return nil
	case kind == streamPush: // section 4.6: only servers push
		return errStream
	case kind > streamDecoder:
		s.CancelRead(streamCreation.stream())
		return nil // its credit is not given back: a client has few to waste
	case !c.first(kind):
		return errStream
	case kind == streamControl:
		err = c.readFrames(r)
	case kind == streamEncoder:
		err = readEncoder(r)
	default:
		err = c.readDecoder(r)
	}
	if _, ok := errors.AsType[*broken](err); ok {
		return err
	}
	if c.q.Context().Err() != nil {
		return nil
	}
	return errCritical // section 6.2.1: it ended or was reset
}

// first says whether it is the first stream of its kind.
func (c *conn) first(kind uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.uni[kind]
	c.uni[kind] = true
	return !was
}

// requests says how many there have been.
func (c *conn) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served
}

// readFrames reads the control stream (RFC 9114 section 7.2).
func (c *conn) readFrames(r *bufio.Reader) error {
	var pushes, goaway uint64 = 0, quicvarint.Max
	for n := 0; ; n++ {
		if n > controlFrames && n > controlFrames+controlFramesEach*c.requests() {
			return errFlood
		}
		kind, payload, err := readFrame(r)
		if err != nil {
			return err
		}
		switch {
		case n == 0 && kind != frameSettings:
			return errNoSettings
		case n == 0:
			err = checkSettings(payload)
		case kind == frameGoaway:
			if goaway, err = number(payload, 0, goaway); err != nil {
				return err
			}
		case kind == frameMaxPushID:
			if pushes, err = number(payload, pushes, quicvarint.Max); err != nil {
				return err
			}
		case kind == frameCancelPush:
			if _, err := number(payload, 0, quicvarint.Max); err != nil {
				return err
			}
			return errID // we never push
		case kind == framePriorityUpdate:
			err = c.update(payload)
		case kind == framePushPriority:
			return errPriority // we never push
		case knownFrame(kind):
			return errUnexpected
		}
		if err != nil {
			return err
		}
	}
}

// number reads the payload of a frame that has one number, which must lie
// between two others.
func number(payload []byte, least, most uint64) (uint64, error) {
	v, n, err := quicvarint.Parse(payload)
	switch {
	case err != nil || n != len(payload):
		return 0, errFrame
	case v < least || v > most:
		return 0, errID
	}
	return v, nil
}

// readFrame reads a frame of the control stream.
func readFrame(r *bufio.Reader) (kind uint64, payload []byte, err error) {
	if kind, err = quicvarint.Read(r); err != nil {
		return 0, nil, err
	}
	length, err := quicvarint.Read(r)
	if err != nil {
		return 0, nil, err
	}
	if kind == frameData || kind == frameHeaders || kind == framePushPromise {
		return kind, nil, nil // which ends the connection, whatever they hold
	}
	if length > maxControlFrame {
		return 0, nil, errFlood
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(r, payload)
	return kind, payload, err
}

// checkSettings reads the client's settings. None of them matters here: we push
// nothing, and write sections without a dynamic table. RFC 9114 section 7.2.4
// says what they must not hold.
func checkSettings(b []byte) error {
	seen := map[uint64]bool{}
	for len(b) > 0 {
		id, n, err := quicvarint.Parse(b)
		if err != nil {
			return errFrame
		}
		value, m, err := quicvarint.Parse(b[n:])
		if err != nil {
			return errFrame
		}
		b = b[n+m:]
		switch {
		case seen[id]:
			return errSettings
		case id == 0x0 || id >= 0x2 && id <= 0x5: // of HTTP/2
			return errSettings
		case (id == settingConnect || id == settingDatagram) && value > 1:
			return errSettings
		}
		seen[id] = true
	}
	return nil
}

// readEncoder reads what would fill our dynamic table, which has no room: its
// capacity may be set to nothing, over and over (RFC 9204 section 4.3).
func readEncoder(r *bufio.Reader) error {
	for n := 0; ; n++ {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return err
		case b != 0x20:
			return errEncoder
		case n > controlFrames:
			return errFlood
		}
	}
}

// readDecoder reads what a client says of our sections: as none is of a dynamic
// table, only that it gave up on a stream (RFC 9204 section 4.4).
func (c *conn) readDecoder(r *bufio.Reader) error {
	for n := 0; ; n++ {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return err
		case b&0xc0 != 0x40:
			return errDecoder
		case n > cancellations && n > cancellations+cancellationsEach*c.requests():
			return errFlood
		}
		if b&0x3f != 0x3f {
			continue
		}
		for i := 0; b&0x80 != 0 || i == 0; i++ {
			if b, err = r.ReadByte(); err != nil {
				return err
			}
			if i > 8 {
				return errDecoder
			}
		}
	}
}
