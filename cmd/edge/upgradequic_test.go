package main

import (
	"context"
	"crypto/tls"
	"net/http"
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
