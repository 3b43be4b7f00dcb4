package h2

import "sync"

// memory is what connections share and use again.
type memory struct {
	chunks  sync.Pool
	streams sync.Pool
}

// chunk holds octets of a body that were received and not read yet.
type chunk struct {
	next *chunk
	r, w int
	b    [4 << 10]byte
}

func (m *memory) chunk() *chunk {
	if c, ok := m.chunks.Get().(*chunk); ok {
		c.next, c.r, c.w = nil, 0, 0
		return c
	}
	return new(chunk)
}

// queue is a body on its way from the reader to the exchange. The zero queue is
// empty.
type queue struct {
	first, last *chunk
	size        int
}

// put copies p to the end.
func (q *queue) put(p []byte, m *memory) {
	q.size += len(p)
	for len(p) > 0 {
		if q.last == nil || q.last.w == len(q.last.b) {
			c := m.chunk()
			if q.last == nil {
				q.first = c
			} else {
				q.last.next = c
			}
			q.last = c
		}
		n := copy(q.last.b[q.last.w:], p)
		q.last.w += n
		p = p[n:]
	}
}

// get moves octets to p and says how many.
func (q *queue) get(p []byte, m *memory) int {
	total := 0
	for total < len(p) && q.first != nil {
		c := q.first
		n := copy(p[total:], c.b[c.r:c.w])
		c.r += n
		total += n
		if c.r == c.w {
			if q.first = c.next; q.first == nil {
				q.last = nil
			}
			m.chunks.Put(c)
		}
	}
	q.size -= total
	return total
}

// drop empties the queue and says how many octets there were.
func (q *queue) drop(m *memory) int {
	n := q.size
	for c := q.first; c != nil; {
		next := c.next
		m.chunks.Put(c)
		c = next
	}
	*q = queue{}
	return n
}
