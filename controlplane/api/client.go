package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"meridian/controlplane"
	"meridian/fleet"
)

// Client speaks to the admin API of one node.
type Client struct {
	URL   string       // as http://127.0.0.1:8053
	Token string       //
	HTTP  *http.Client // nil: http.DefaultClient
}

// maxAnswer bounds what a client reads, in octets.
const maxAnswer = 256 << 20

// Raw makes one call with these header fields and gives the answer's header
// and body. What the API refuses is a *Problem.
func (c *Client) Raw(ctx context.Context, method, path string, header http.Header, body []byte) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("admin API: %w", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	hc := c.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("admin API: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("admin API: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Header, text, nil
	}
	var p Problem
	if json.Unmarshal(text, &p) == nil && p.Message != "" {
		return resp.Header, text, &p
	}
	return resp.Header, text, fmt.Errorf("admin API: %s: %s", resp.Status, bytes.TrimSpace(text))
}

// Do makes one call; body (nil, octets or a value for JSON) and out (nil or a
// value for JSON) may be left out. What the API refuses is a *Problem.
func (c *Client) Do(ctx context.Context, method, path string, body, out any) error {
	in, isText := body.([]byte)
	if body != nil && !isText {
		var err error
		if in, err = json.Marshal(body); err != nil {
			return fmt.Errorf("admin API: %w", err)
		}
	}
	_, text, err := c.Raw(ctx, method, path, nil, in)
	if err != nil {
		if Refused(err) == nil && out != nil && json.Valid(text) && json.Unmarshal(text, out) == nil { // /health says more than its code
			return nil
		}
		return err
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("admin API: answer: %w", err)
	}
	return nil
}

// Submit hands in a Spec with its objects, as node.ReadFile gives them. Base is
// the revision that it builds on; nil for whichever is current.
func (c *Client) Submit(ctx context.Context, doc []byte, objects []fleet.Object, base *uint64, dryRun bool) (*controlplane.Result, error) {
	b := Bundle{Spec: string(doc), Objects: []BundleObject{}}
	for _, o := range objects {
		b.Objects = append(b.Objects, BundleObject{o.Key.Kind, o.Key.ID, o.File, o.Data})
	}
	q := url.Values{}
	if base != nil {
		q.Set("base", strconv.FormatUint(*base, 10))
	}
	if dryRun {
		q.Set("dry_run", "1")
	}
	var res controlplane.Result
	if err := c.Do(ctx, http.MethodPost, "/config?"+q.Encode(), b, &res); err != nil {
		return nil, err
	}
	return &res, nil
}

// Rollback makes an earlier revision's content current again; 0 for the one
// before.
func (c *Client) Rollback(ctx context.Context, to uint64) (*controlplane.Result, error) {
	path := "/config/rollback"
	if to != 0 {
		path += "?to=" + strconv.FormatUint(to, 10)
	}
	var res controlplane.Result
	if err := c.Do(ctx, http.MethodPost, path, nil, &res); err != nil {
		return nil, err
	}
	return &res, nil
}

// Status asks for the fleet's nodes and revisions.
func (c *Client) Status(ctx context.Context) (*StatusReply, error) {
	var out StatusReply
	return &out, c.Do(ctx, http.MethodGet, "/status", nil, &out)
}

// Health asks for the node's and the fleet's health.
func (c *Client) Health(ctx context.Context) (*HealthReply, error) {
	var out HealthReply
	return &out, c.Do(ctx, http.MethodGet, "/health", nil, &out)
}

// Shift adds a shift.
func (c *Client) Shift(ctx context.Context, q ShiftRequest, dryRun bool) (*controlplane.ShiftResult, error) {
	path := "/traffic-shift"
	if dryRun {
		path += "?dry_run=1"
	}
	var out controlplane.ShiftResult
	return &out, c.Do(ctx, http.MethodPost, path, q, &out)
}

// Shifts lists the shifts in force.
func (c *Client) Shifts(ctx context.Context) ([]fleet.Shift, error) {
	var out []fleet.Shift
	err := c.Do(ctx, http.MethodGet, "/traffic-shift", nil, &out)
	return out, err
}

// Unshift takes a shift back.
func (c *Client) Unshift(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/traffic-shift/"+url.PathEscape(id), nil, nil)
}

// Refused gives what the API found wrong, nil for other errors.
func Refused(err error) *Problem {
	var p *Problem
	errors.As(err, &p)
	return p
}
