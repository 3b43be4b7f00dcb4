package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// MaxFrame is the longest frame that is read or written, octets.
const MaxFrame = 262144

// Packet is one captured frame.
type Packet struct {
	Time    time.Time // zero where the capture has none
	Data    []byte    // as far as it was captured
	Length  int       // on the wire, octets; at least len(Data)
	Comment string    // pcapng alone; empty: none
}

// ErrFormat is what NewReader gives for a file that is no capture.
var ErrFormat = errors.New("neither pcap nor pcapng")

// linkEthernet is the link type of Ethernet in both formats.
const linkEthernet = 1

// Reader reads a capture packet by packet. It is not safe for concurrent use.
type Reader struct {
	in   *bufio.Reader
	next func() (Packet, error)
	n    int // packets read

	order binary.ByteOrder
	fine  bool // pcap: nanoseconds

	interfaces []netInterface // pcapng: of the section
}

// The first four octets of a file.
const (
	magicMicro   = 0xa1b2c3d4
	magicNano    = 0xa1b23c4d
	magicSection = 0x0a0d0d0a // the same in both byte orders
)

// NewReader reads the file's header. Errors: ErrFormat; a capture that ends in
// its header; a link type other than Ethernet; the reader's own.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<16)}
	magic, err := r.in.Peek(4)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("capture: %w", ErrFormat)
		}
		return nil, fmt.Errorf("capture: %w", err)
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		r.order = order
		switch order.Uint32(magic) {
		case magicMicro, magicNano:
			r.fine, r.next = order.Uint32(magic) == magicNano, r.classic
			return r, r.header()
		case magicSection:
			r.next = r.block
			return r, nil
		}
	}
	return nil, fmt.Errorf("capture: %w", ErrFormat)
}

// header reads the rest of a pcap file's header.
func (r *Reader) header() error {
	h, err := r.take(24)
	if err != nil {
		return fmt.Errorf("capture: header: %w", err)
	}
	// The upper bits tell of a frame check sequence.
	if link := r.order.Uint32(h[20:]) & 0x0fffffff; link != linkEthernet {
		return fmt.Errorf("capture: link type %d: expected Ethernet (%d)", link, linkEthernet)
	}
	return nil
}

// Next gives the next packet; io.EOF after the last. Its data is the caller's.
// After any other error nothing more can be read.
func (r *Reader) Next() (Packet, error) {
	p, err := r.next()
	if err == io.EOF {
		return p, err
	}
	if err != nil {
		return p, fmt.Errorf("capture: after packet %d: %w", r.n, err)
	}
	r.n++
	p.Length = max(p.Length, len(p.Data))
	return p, nil
}

// take reads so many octets; io.ErrUnexpectedEOF where the file ends before.
func (r *Reader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, unexpected(err)
	}
	return b, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ended says whether the file ends here, where it may.
func (r *Reader) ended() bool {
	_, err := r.in.Peek(1)
	return err == io.EOF
}

// classic reads a record of a pcap file.
func (r *Reader) classic() (Packet, error) {
	if r.ended() {
		return Packet{}, io.EOF
	}
	h, err := r.take(16)
	if err != nil {
		return Packet{}, err
	}
	captured, length := r.order.Uint32(h[8:]), r.order.Uint32(h[12:])
	if captured > MaxFrame {
		return Packet{}, fmt.Errorf("%d octets: expected at most %d", captured, MaxFrame)
	}
	fraction := time.Duration(r.order.Uint32(h[4:]))
	if !r.fine {
		fraction *= time.Microsecond
	}
	data, err := r.take(int(captured))
	return Packet{Time: time.Unix(int64(r.order.Uint32(h)), int64(fraction)).UTC(), Data: data, Length: int(length)}, err
}
