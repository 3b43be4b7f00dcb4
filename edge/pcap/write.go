package pcap

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Writer writes a pcap file with nanoseconds. It is not safe for concurrent
// use.
type Writer struct {
	out io.Writer
	n   int
}

// NewWriter writes the file's header. Errors are out's.
func NewWriter(out io.Writer) (*Writer, error) {
	var h []byte
	for _, v := range []uint32{magicNano, 4<<16 | 2, 0, 0, MaxFrame, linkEthernet} { // version 2.4
		h = binary.LittleEndian.AppendUint32(h, v)
	}
	if _, err := out.Write(h); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	return &Writer{out: out}, nil
}

// Write adds a packet; its comment is lost. Errors: a frame beyond MaxFrame, a
// time before 1970 or after 2106; out's.
func (w *Writer) Write(p Packet) error {
	var seconds, fraction int64
	if !p.Time.IsZero() {
		seconds, fraction = p.Time.Unix(), int64(p.Time.Nanosecond())
	}
	if len(p.Data) > MaxFrame || seconds < 0 || seconds >= 1<<32 {
		return fmt.Errorf("capture: packet %d: %d octets at %s: expected at most %d, from 1970 to 2106", w.n+1, len(p.Data), p.Time, MaxFrame)
	}
	rec := make([]byte, 0, 16+len(p.Data))
	for _, v := range []int64{seconds, fraction, int64(len(p.Data)), int64(max(p.Length, len(p.Data)))} {
		rec = binary.LittleEndian.AppendUint32(rec, uint32(v))
	}
	if _, err := w.out.Write(append(rec, p.Data...)); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	w.n++
	return nil
}
