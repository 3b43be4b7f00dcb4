package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meridian/cli"
)

// An external store is reached as its endpoints and the flags say.
func TestExternalStoreTLS(t *testing.T) {
	own := &tls.Config{}
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		endpoints cli.List
		ca        string
		want      *tls.Config
		err       string
	}{
		{endpoints: cli.List{"http://a:1", "http://b:1"}},
		{endpoints: cli.List{"https://a:1", "b:1"}, want: own},
		{endpoints: cli.List{"https://a:1", "http://b:1"}, err: "--store-endpoints: expected all of them with http:// or none"},
		{endpoints: cli.List{"https://a:1"}, ca: "/nowhere", err: "--store-ca: open /nowhere"},
		{endpoints: cli.List{"https://a:1"}, ca: notPEM, err: "holds no certificate in PEM"},
	} {
		f := serveFlags{StoreEndpoints: c.endpoints, StoreCA: c.ca}
		got, err := f.storeTLS(own)
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%v, %q: %v, %v", c.endpoints, c.ca, got, err)
		}
	}
}
