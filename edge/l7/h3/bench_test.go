package h3

import (
	"context"
	"errors"
	"io"
	"testing"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
)

// BenchmarkRequest is a request and an answer of 1 KiB, client's and gateway's
// side together, 20 at a time on one connection.
func BenchmarkRequest(b *testing.B) {
	r := start(b, func(r *rig) {
		answer, body := &wire.Head{Status: 200}, make([]byte, 1024)
		answer.Add("Content-Length", "1024")
		r.serve = func(f l7.Front, _ *wire.Head, _ *l7.Abort) {
			_ = errors.Join(f.Answer(answer, false), f.Write(body), f.End(nil))
		}
	})
	q, head := r.dial(true), request("GET", "user-agent", "x", "accept", "*/*")
	b.ReportAllocs()
	b.SetParallelism(20)
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, 4096)
		for pb.Next() {
			s, err := q.OpenStreamSync(context.Background())
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = s.Write(head)
			_ = s.Close()
			for err == nil {
				_, err = s.Read(p)
			}
			if err != io.EOF {
				b.Error(err)
				return
			}
		}
	})
}
