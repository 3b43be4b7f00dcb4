package h3

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

// Whatever a client says on its own streams, reading it ends: with an error of
// the connection, or with the stream.
func FuzzControl(f *testing.F) {
	f.Add(byte(streamControl), join(frame(frameSettings, 0x6, 0x40, 0x64), frame(0x21), frame(frameMaxPushID, 3), frame(frameGoaway, 0)))
	f.Add(byte(streamEncoder), []byte{0x20, 0x20, 0x3f})
	f.Add(byte(streamDecoder), []byte{0x41, 0x7f, 0x81, 0x01, 0x80})
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		c := &conn{}
		r := bufio.NewReader(bytes.NewReader(b))
		var err error
		switch kind % 3 {
		case 0:
			err = c.readFrames(r)
		case 1:
			err = readEncoder(r)
		default:
			err = c.readDecoder(r)
		}
		if _, ok := err.(*broken); !ok && err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatalf("%x: %v", b, err)
		}
	})
}
