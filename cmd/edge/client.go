package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"syscall"

	"meridian/edge/xdp"
	"meridian/fleet"
)

// client speaks to the node that runs on this machine.
type client struct{ data string }

func (c *client) register(fs *flag.FlagSet) {
	fs.StringVar(&c.data, "data", "/var/lib/edge", "the `DIR` that edge run was given")
}

// call asks and gives the answer's body, which the caller closes.
func (c *client) call(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	socket := filepath.Join(c.data, socketName)
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://edge"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := h.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no edge runs on this machine with --data %s", c.data)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s is not yours to open: be the user that edge runs as, or root", socket)
	case err != nil:
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	var t trouble
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&t); err != nil || t.Error == "" {
		return nil, fmt.Errorf("the node answers %s", res.Status)
	}
	return nil, errors.New(t.Error)
}

// ask calls and reads the answer into v.
func (c *client) ask(ctx context.Context, method, path string, body []byte, v any) error {
	b, err := c.call(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := json.NewDecoder(b).Decode(v); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}

// samples calls each for every sample until ctx ends or each says that it has
// enough.
func (c *client) samples(ctx context.Context, want fleet.PacketSampling, each func(*xdp.Sample) (more bool)) error {
	q := url.Values{"rate": {strconv.Itoa(want.Rate)}, "per_second": {strconv.Itoa(want.PerSecond)}}
	b, err := c.call(ctx, http.MethodGet, "/samples?"+q.Encode(), nil)
	if err != nil {
		return ended(ctx, err)
	}
	defer b.Close()
	for dec := json.NewDecoder(b); ; {
		var s xdp.Sample
		if err := dec.Decode(&s); err != nil {
			return ended(ctx, err)
		}
		if !each(&s) {
			return nil
		}
	}
}

// ended gives nil where err comes of ctx's end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the node has ended")
	}
	return err
}
