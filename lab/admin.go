//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// admin speaks to the admin API of one gslb node, as gslb apply does.
type admin struct {
	lab    *Lab
	region *Region
	node   *Node
	http   *http.Client
}

func (l *Lab) admin(r *Region) *admin {
	n := r.Of(Gslb)[0]
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return l.Dial(ctx, n.Name, network, l.own(r, n, adminPort))
	}, DisableKeepAlives: true}
	return &admin{lab: l, region: r, node: n, http: &http.Client{Transport: tr, Timeout: 10 * time.Second}}
}

// anyAdmin gives the API of a region that is alive.
func (l *Lab) anyAdmin() (*admin, error) {
	for i := range l.Topology.Regions {
		if r := &l.Topology.Regions[i]; l.Alive(r.ID) {
			return l.admin(r), nil
		}
	}
	return nil, errors.New("no region is alive")
}

// tokenFile is where a gslb node keeps the token that it made for itself.
const tokenFile = "admin.token"

// do makes one call and decodes the answer into out where it is not nil.
func (a *admin) do(ctx context.Context, method, path string, body, out any) error {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		in = bytes.NewReader(b)
	default:
		doc, err := json.Marshal(b)
		if err != nil {
			return err
		}
		in = bytes.NewReader(doc)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.node.Name+path, in)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(a.lab.data(a.node), tokenFile))
	if err != nil {
		return fmt.Errorf("token of %s: %w", a.node.Name, err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s at %s: %s: %s", method, path, a.node.Name, resp.Status, bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}
