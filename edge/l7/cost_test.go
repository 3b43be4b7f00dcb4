package l7

import (
	"runtime"
	"strings"
	"testing"
)

// In its common forms an exchange over HTTP/1.1 allocates nothing.
func TestExchangeAllocatesNothing(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for name, tc := range map[string]struct{ answer, end, request string }{
		"length":     {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello", "hello", plainGET},
		"chunked":    {chunked, "0\r\n\r\n", plainGET},
		"large":      {"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("x", 39999) + "!", "!", plainGET},
		"HEAD":       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "\r\n\r\n", strings.Replace(plainGET, "GET", "HEAD", 1)},
		"no content": {"HTTP/1.1 204 No Content\r\n\r\n", "\r\n\r\n", plainGET},
	} {
		r := newRig(t, httpSpec(noChecks, answers(t, tc.answer)))
		c := r.rawClient(webVIP)
		request, end := []byte(tc.request), []byte(tc.end)
		const requests = 500
		best := uint64(1 << 62)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range requests {
				c.do(request, end)
			}
			runtime.ReadMemStats(&after)
			best = min(best, after.Mallocs-before.Mallocs)
		}
		// Others of the process allocate as well: a check, a timer.
		if best > requests/10 {
			t.Errorf("%s: %d requests made %d allocations", name, requests, best)
		}
	}
}
