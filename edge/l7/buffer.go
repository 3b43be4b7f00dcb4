package l7

import (
	"sync"
	"unsafe"
)

// bufferSize is what a request or a piece of a body is read into. Most heads
// need less; those that need more get more.
const bufferSize = 16 << 10

// buffer holds octets of a connection: those in data[r:w] are still to be used.
type buffer struct {
	data []byte
	r, w int
}

var buffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, bufferSize)} }}

func takeBuffer() *buffer { return buffers.Get().(*buffer) }

// free gives a buffer back; large ones are left to the collector.
func (b *buffer) free() {
	if len(b.data) == bufferSize {
		b.r, b.w = 0, 0
		buffers.Put(b)
	}
}

func (b *buffer) rest() []byte { return b.data[b.r:b.w] }

// room makes space behind w: it moves what is there to the front, or doubles
// up to most octets. False: it is full.
func (b *buffer) room(most int) bool {
	switch {
	case b.r == b.w:
		b.r, b.w = 0, 0
	case b.w < len(b.data)/4*3 || b.r == 0 && b.w < len(b.data):
	case b.r > 0:
		b.w = copy(b.data, b.data[b.r:b.w])
		b.r = 0
	case len(b.data) >= most:
		return false
	default:
		bigger := make([]byte, min(2*len(b.data), most))
		b.w = copy(bigger, b.data[b.r:b.w])
		b.r = 0
		b.data = bigger
	}
	return true
}

// view gives octets as a string without copying them: it holds as long as they
// do, and they must not change.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// octets gives a string as octets without copying it. They must not be changed.
func octets(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
