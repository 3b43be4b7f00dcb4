package l7

import (
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"meridian/fleet"
)

// coder compresses a body as it passes.
type coder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// codings are those that there are encoders for; Gateway.coders has one pool
// each. All work at their fastest level, since they cost more than all else that
// a gateway does.
var codings = [...]fleet.Coding{fleet.Gzip, fleet.Brotli, fleet.Zstd}

func codingIndex(c fleet.Coding) int {
	for i := range codings {
		if codings[i] == c {
			return i
		}
	}
	return 0
}

// coder takes an encoder out of the pool, or makes one.
func (g *Gateway) coder(c fleet.Coding, w io.Writer) coder {
	if e, ok := g.coders[codingIndex(c)].Get().(coder); ok {
		e.Reset(w)
		return e
	}
	switch c {
	case fleet.Brotli:
		return brotli.NewWriterLevel(w, brotli.BestSpeed)
	case fleet.Zstd:
		// Of one goroutine: the exchange's own. The window is what clients must
		// have room for (RFC 8878 section 3.1.1.1.2), and the gateway per answer.
		e, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("l7: options of the zstd encoder are constants: " + err.Error())
		}
		return e
	}
	e, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		panic("l7: the level of the gzip encoder is a constant: " + err.Error())
	}
	return e
}

// putCoder gives an encoder back, with nothing of the exchange in it.
func (g *Gateway) putCoder(c fleet.Coding, e coder) {
	e.Reset(io.Discard)
	g.coders[codingIndex(c)].Put(e)
}
