package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	quich3 "github.com/quic-go/quic-go/http3"
)

// client3 speaks HTTP/3 to the node.
func (u *upgrading) client3() *http.Client {
	t := &quich3.Transport{TLSClientConfig: u.tls(), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, u.at(u.safe), c, q)
	}}
	u.t.Cleanup(func() { t.Close() })
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

// loadQUIC is requests one after the other, and one whose body takes as long as
// the load: its connection outlives the process that has the socket, by many.
func (u *upgrading) loadQUIC(ctx context.Context, again func(kind string, do func() error)) {
	c := u.client3()
	again("http/3", func() error { return u.get(c, "https", u.safe) })
	again("a connection of http/3 a request", func() error {
		once := u.client3()
		defer once.Transport.(io.Closer).Close()
		return u.get(once, "https", u.safe)
	})
	slow := u.client3()
	again("a long request of http/3", func() error {
		r, w := io.Pipe()
		sent := 0
		go func() {
			defer w.Close()
			for ctx.Err() == nil {
				n, _ := w.Write(make([]byte, 2000))
				sent += n
				time.Sleep(2 * time.Millisecond)
			}
		}()
		res, err := slow.Post(fmt.Sprintf("https://demo.test:%d/", u.safe), "text/plain", r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if want := fmt.Sprintf("whole %d x", sent); err != nil || !strings.HasPrefix(string(b), want) {
			return fmt.Errorf("%.20q, %v, expected %q", b, err, want)
		}
		return nil
	})
}
