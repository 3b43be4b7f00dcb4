package h3

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

func TestPriorityField(t *testing.T) {
	for value, want := range map[string]priority{
		"":               {3, false},
		"u=0":            {0, false},
		"u=7, i":         {7, true},
		"i,u=5":          {5, true},
		"i=?1":           {3, true},
		"i=?0":           {3, false},
		"i, i=?0":        {3, false},
		"u=2;x, i;y=1":   {2, true},
		"u=8":            {3, false},
		"u=-1, u=10, u=": {3, false},
		"hi, aui, u2":    {3, false},
		" \tu=1 ,, i\t":  {1, true},
	} {
		if got := priorityOf([]byte(value)); got != want {
			t.Errorf("%q: %v, expected %v", value, got, want)
		}
	}
}

// RFC 9218 sections 5, 7.2 and 10: what is more urgent goes first, by the field, by
// an update that comes with the request under way, and by one that comes before it;
// the last word of the client counts, and an update more than the field.
func TestUrgentAnswersGoFirst(t *testing.T) {
	update := func(id uint64, value string) []byte {
		return frame(framePriorityUpdate, append(quicvarint.Append(nil, id), value...)...)
	}
	for name, c := range map[string]struct {
		fields         [2]string // of the requests on streams 0 and 4
		before, during []byte
		early, left    int // updates kept before the requests, and with them
		updated        int
	}{
		"field":                 {[2]string{"u=7", "u=0"}, nil, nil, 0, 0, 0},
		"update":                {[2]string{"u=1", "u=2"}, nil, join(update(0, "u=7"), update(4, "u=0")), 0, 0, 2},
		"update before":         {[2]string{"u=1", "u=2"}, join(update(4, "u=5"), update(4, "u=0")), update(0, "u=7"), 1, 0, 2},
		"update of what is not": {[2]string{"u=7", "u=0"}, update(400, "u=0"), update(1<<40, "u=0"), 1, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			const size = 4 << 20
			begun, goOn, ahead := make(chan struct{}), make(chan struct{}), make(chan struct{})
			r := start(t, func(r *rig) {
				r.serve = func(f l7.Front, h *wire.Head, _ *l7.Abort) {
					begun <- struct{}{}
					<-goOn
					if h.Find("x-urgent", 0) < 0 {
						<-ahead // else all of it might have gone before there was anything more urgent
					}
					if f.Answer(&wire.Head{Status: 200}, false) == nil && f.Write(make([]byte, size)) == nil {
						_ = f.End(nil)
					}
				}
			})
			q, err := quic.DialAddr(t.Context(), r.at.String(), r.clientTLS(), &quic.Config{
				InitialConnectionReceiveWindow: 32 << 10, MaxConnectionReceiveWindow: 32 << 10, InitialStreamReceiveWindow: 2 << 20, MaxStreamReceiveWindow: 2 << 20})
			if err != nil {
				t.Fatal(err)
			}
			defer q.CloseWithError(0x100, "")
			control := r.uni(q, join([]byte{streamControl}, frame(frameSettings), c.before))
			eventually(t, "what came before is known", func() bool { early, _ := r.updates(); return early == c.early })
			var streams [2]*quic.Stream
			for i, value := range c.fields {
				streams[i] = r.stream(q, request("GET", "priority", value, []string{"x-other", "x-urgent"}[i], ""))
				streams[i].Close()
			}
			<-begun
			<-begun
			if _, err := control.Write(c.during); err != nil {
				t.Fatal(err)
			}
			eventually(t, "all updates are known", func() bool {
				early, updated := r.updates()
				return early == c.left && updated == c.updated
			})
			close(goOn)
			var first atomic.Int64
			var all sync.WaitGroup
			all.Go(func() { _, _ = io.Copy(counter{&first}, streams[0]) })
			const some = 1 << 10 // more than the head: the body is being written
			if _, err := io.CopyN(io.Discard, streams[1], some); err != nil {
				t.Error(err)
			}
			close(ahead)
			if n, err := io.Copy(io.Discard, streams[1]); n < size-some || err != nil {
				t.Errorf("%d octets, %v", n, err)
			}
			if n := first.Load(); n > size/2 {
				t.Errorf("%d octets of what is less urgent came before", n)
			}
			all.Wait()
		})
	}
}

// updates counts those of requests to come, and the requests under way that had
// some.
func (r *rig) updates() (early, updated int) {
	s := r.server.(*server)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.mu.Lock()
		early += len(c.early)
		for _, x := range c.active {
			if x.updated {
				updated++
			}
		}
		c.mu.Unlock()
	}
	return early, updated
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
