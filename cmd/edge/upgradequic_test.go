package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				n, _ := w.Write(make([]byte, 2000))
				sent += n
				<-pace.C
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

// A connection whose socket the new process wants no more goes on with the
// process that has it, which was told by a signal this time.
func TestUpgradeThatEndsHTTP3(t *testing.T) {
	u := newUpgrading(t)
	u.run()
	former := u.pid
	c := u.client3()
	if err := u.get(c, "https", u.safe); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		res, err := c.Post(fmt.Sprintf("https://demo.test:%d/", u.safe), "text/plain", r)
		if err == nil {
			var b []byte
			if b, err = io.ReadAll(res.Body); err == nil && !strings.HasPrefix(string(b), "whole 3 x") {
				err = fmt.Errorf("%s %.20q", res.Status, b)
			}
			res.Body.Close()
		}
		ended <- err
	}()
	piece := func() {
		if _, err := io.WriteString(w, "x"); err != nil {
			t.Fatal(err)
		}
	}
	piece()
	b, err := os.ReadFile(u.spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(u.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(u.dir, "log")
	u.until("another process serves", func() bool {
		b, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(b), "another process serves")
	})
	piece()
	u.write("spec.yaml.new", []byte(strings.Replace(string(b), "http3: true", "http3: false", 1)))
	if err := os.Rename(u.spec+".new", u.spec); err != nil {
		t.Fatal(err)
	}
	u.until("it serves no HTTP/3 any more", func() bool {
		once := u.client3()
		defer once.Transport.(io.Closer).Close()
		once.Timeout = 200 * time.Millisecond
		return u.get(once, "https", u.safe) != nil
	})
	piece()
	w.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	u.gone(former)
	if err := u.upgrade(); err != nil { // which tells whom to end
		t.Error(err)
	}
}
