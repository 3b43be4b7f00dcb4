package wire

import "bytes"

// Bounds of what surrounds chunks.
const (
	maxChunkLine = 512      // octets of a size with its extensions
	maxChunkWork = 64 << 10 // octets of extensions in one body
	maxTrailers  = 16 << 10 // octets of the fields after a body
)

// Chunks takes a body out of its chunks (RFC 9112 section 7.1). The zero Chunks
// is at a body's beginning. It is not for concurrent use.
type Chunks struct {
	// Trailers are the fields that came after the body, once Ended; their
	// slices lie in the octets that the last call of Next was given.
	Trailers Head

	left  int64 // octets of the chunk that are still to come
	work  int   // octets of extensions so far
	state chunkState
}

type chunkState uint8

const (
	atSize chunkState = iota
	inData
	atDataEnd
	atTrailers
	ended
)

// Reset readies c for another body.
func (c *Chunks) Reset() {
	c.Trailers.Reset()
	c.left, c.work, c.state = 0, 0, atSize
}

// Ended says whether the whole body was read, trailers included.
func (c *Chunks) Ended() bool { return c.state == ended }

// Next takes what it can from the beginning of b: n octets, of which data, if
// any, are octets of the body, and the last of the n. 0 octets: more are
// needed, to be given together with these. After the end it takes none.
func (c *Chunks) Next(b []byte) (data []byte, n int, f Fault) {
	for {
		switch c.state {
		case inData:
			if n == len(b) {
				return nil, n, NoFault
			}
			size := min(int64(len(b)-n), c.left)
			data = b[n : n+int(size)]
			if c.left -= size; c.left == 0 {
				c.state = atDataEnd
			}
			return data, n + int(size), NoFault
		case atDataEnd:
			rest := b[n:]
			switch {
			case len(rest) > 0 && rest[0] != '\r' || len(rest) > 1 && rest[1] != '\n':
				return nil, n, BadChunk
			case len(rest) < 2:
				return nil, n, NoFault
			}
			n += 2
			c.state = atSize
		case atSize:
			took, f := c.size(b[n:])
			if took == 0 || f != NoFault {
				return nil, n, f
			}
			n += took
		case atTrailers:
			took, f := c.trailers(b[n:])
			return nil, n + took, f
		default:
			return nil, n, NoFault
		}
	}
}

// size reads the line before a chunk. Extensions are dropped: nobody knows any,
// and readers differ about them.
func (c *Chunks) size(b []byte) (int, Fault) {
	lf := bytes.IndexByte(b, '\n')
	switch {
	case lf < 0 && len(b) > maxChunkLine || lf > maxChunkLine:
		return 0, BadChunk
	case lf < 0:
		return 0, NoFault
	case lf == 0 || b[lf-1] != '\r':
		return 0, BareLF
	}
	line := b[:lf-1]
	var size int64
	i := 0
	for ; i < len(line) && Unhex(line[i]) <= 15; i++ {
		if i == 15 {
			return 0, BadChunk // more than a length can be
		}
		size = size<<4 | int64(Unhex(line[i]))
	}
	if ext := line[i:]; i == 0 || len(ext) > 0 && (ext[0] != ';' || !plain(ext)) {
		return 0, BadChunk
	}
	if c.work += len(line) - i; c.work > maxChunkWork {
		return 0, BadChunk
	}
	c.left, c.state = size, inData
	if size == 0 {
		c.state = atTrailers
	}
	return lf + 1, NoFault
}

// trailers reads the fields after the last chunk, and their empty line.
func (c *Chunks) trailers(b []byte) (int, Fault) {
	h := &c.Trailers
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		c.state = ended
		return 2, NoFault
	}
	if len(b) == 0 || len(b) == 1 && b[0] == '\r' {
		return 0, NoFault
	}
	n, f := h.end(b, Limit{maxTrailers, maxTrailers, MaxFields})
	if n == 0 || f != NoFault {
		return 0, f
	}
	if f := h.fields(b[:n-2], MaxFields); f != NoFault {
		return 0, f
	}
	c.state = ended
	return n, h.After()
}

// After checks fields that follow a body: those that a reader must have before
// it, because they frame, route or guard the message, are refused (RFC 9110
// section 6.5.1).
func (h *Head) After() Fault {
	if h.Version >= HTTP2 {
		if f := h.multiplexed(); f != NoFault {
			return f
		}
	}
	for i := range h.Fields {
		switch id := h.Fields[i].ID; {
		case id.HopByHop(), id >= Host && id <= CacheControl && id != UserAgent, id == Location, id == Vary,
			id == IdempotencyKey, id == RetryAfter, id == StrictTransportSecurity,
			id >= SecWebSocketKey && id <= GRPCTimeout:
			return BadTrailer
		}
	}
	return NoFault
}
