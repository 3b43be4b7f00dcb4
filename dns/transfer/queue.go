package transfer

import (
	"container/heap"
	"time"
)

// queue holds items by the time at which they are due. It is not safe for
// concurrent use.
type queue[T any] struct{ h entries[T] }

// entry is one item of a queue; index is -1 while it is in none.
type entry[T any] struct {
	at    time.Time
	index int
	item  T
}

// put adds an entry, or moves it to another time.
func (q *queue[T]) put(e *entry[T], at time.Time) {
	e.at = at
	if e.index >= 0 {
		heap.Fix(&q.h, e.index)
		return
	}
	heap.Push(&q.h, e)
}

// remove takes an entry out, if it is in.
func (q *queue[T]) remove(e *entry[T]) {
	if e.index >= 0 {
		heap.Remove(&q.h, e.index)
	}
}

// due takes out an entry whose time has come, or gives nil.
func (q *queue[T]) due(now time.Time) *entry[T] {
	if len(q.h) == 0 || q.h[0].at.After(now) {
		return nil
	}
	return heap.Pop(&q.h).(*entry[T])
}

// next is when the next entry is due; false where there is none.
func (q *queue[T]) next() (time.Time, bool) {
	if len(q.h) == 0 {
		return time.Time{}, false
	}
	return q.h[0].at, true
}

type entries[T any] []*entry[T]

func (h entries[T]) Len() int           { return len(h) }
func (h entries[T]) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h entries[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *entries[T]) Push(x any) {
	e := x.(*entry[T])
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *entries[T]) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
