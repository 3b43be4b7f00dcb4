package tap

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"meridian/fleet"
)

// Control frames of Frame Streams.
const (
	controlAccept = 1
	controlStart  = 2
	controlStop   = 3
	controlReady  = 4
	controlFinish = 5

	contentType = "protobuf:dnstap.Dnstap"

	waitFor = 5 * time.Second // for the collector to answer or to accept
)

// stream is an open frame stream.
type stream struct {
	w    *bufio.Writer
	file *os.File // one of both
	conn net.Conn
	path string
}

// open opens what the Spec names, and starts the stream.
func open(ctx context.Context, to *fleet.Tap) (*stream, error) {
	if to.File != "" {
		if err := aside(to.File); err != nil {
			return nil, fmt.Errorf("dns.tap.file: %w", err)
		}
		f, err := os.OpenFile(to.File, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
		if err != nil {
			return nil, fmt.Errorf("dns.tap.file: %w", err)
		}
		s := &stream{w: bufio.NewWriterSize(f, 64<<10), file: f, path: to.File}
		if err := s.control(controlStart); err != nil {
			return nil, fmt.Errorf("dns.tap.file: %w", err)
		}
		return s, nil
	}
	network := "unix"
	if _, err := fleet.ParseListen(to.Socket); err == nil && !strings.HasPrefix(to.Socket, "/") {
		network = "tcp"
	}
	d := net.Dialer{Timeout: waitFor}
	c, err := d.DialContext(ctx, network, to.Socket)
	if err != nil {
		return nil, fmt.Errorf("dns.tap.socket: %w", err)
	}
	s := &stream{conn: c, w: bufio.NewWriterSize(limited{c}, 64<<10)}
	if err := s.greet(); err != nil {
		c.Close()
		return nil, fmt.Errorf("dns.tap.socket: %w", err)
	}
	return s, nil
}

// aside moves a log of before to a name with its time: a file holds one stream.
func aside(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && (info.Size() == 0 || !info.Mode().IsRegular()) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Rename(path, path+"."+info.ModTime().UTC().Format("20060102T150405.000"))
}

// limited gives each write its time.
type limited struct{ net.Conn }

func (w limited) Write(b []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(waitFor)); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

// greet agrees with the collector on the content: READY, ACCEPT, START.
func (s *stream) greet() error {
	if err := errors.Join(s.control(controlReady), s.w.Flush()); err != nil {
		return err
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(waitFor)); err != nil {
		return err
	}
	kind, body, err := readControl(s.conn)
	switch {
	case err != nil:
		return err
	case kind != controlAccept || !strings.Contains(string(body), contentType):
		return errors.New("the collector does not accept dnstap")
	}
	return errors.Join(s.control(controlStart), s.w.Flush())
}

// control writes a control frame: an escape of four zero octets, its length, its
// type, and for those that have one the content type.
func (s *stream) control(kind uint32) error {
	body := binary.BigEndian.AppendUint32(nil, kind)
	if kind == controlReady || kind == controlStart {
		body = binary.BigEndian.AppendUint32(body, 1) // field: content type
		body = binary.BigEndian.AppendUint32(body, uint32(len(contentType)))
		body = append(body, contentType...)
	}
	head := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(len(body)))
	_, err := s.w.Write(append(head, body...))
	return err
}

// readControl reads a control frame.
func readControl(r io.Reader) (kind uint32, body []byte, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[4:])
	if binary.BigEndian.Uint32(head[:]) != 0 || size < 4 || size > 512 {
		return 0, nil, errors.New("not a control frame")
	}
	body = make([]byte, size-4)
	_, err = io.ReadFull(r, body)
	return binary.BigEndian.Uint32(head[8:]), body, err
}

// frame writes one message.
func (s *stream) frame(b []byte) error {
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(b)))
	if _, err := s.w.Write(size[:]); err != nil {
		return err
	}
	_, err := s.w.Write(b)
	return err
}

// errMoved says that the file has been moved away: a new one is to be begun.
var errMoved = errors.New("dns.tap.file: the file has been moved")

// tick sends what is buffered, and tells where a file has been moved away, as
// for rotation.
func (s *stream) tick() error {
	if err := s.w.Flush(); err != nil || s.file == nil {
		return err
	}
	have, err := s.file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(s.path); err != nil || !os.SameFile(have, there) {
		return errors.Join(errMoved, s.control(controlStop), s.w.Flush())
	}
	return nil
}

// close ends the stream as its format has it.
func (s *stream) close() error {
	err := errors.Join(s.control(controlStop), s.w.Flush())
	if s.conn != nil && err == nil {
		_ = s.conn.SetReadDeadline(time.Now().Add(waitFor))
		if kind, _, e := readControl(s.conn); e == nil && kind != controlFinish {
			err = errors.New("dns.tap.socket: the collector did not finish")
		}
	}
	s.abandon()
	return err
}

// abandon closes without a word.
func (s *stream) abandon() {
	if s.file != nil {
		s.file.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
}
