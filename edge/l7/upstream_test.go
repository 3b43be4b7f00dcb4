package l7

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"meridian/fleet"
)

// tlsBackend is an endpoint whose certificate is for example.com; it says which
// server name it was asked for.
func tlsBackend(t *testing.T) (address string, ca []byte) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.TLS.ServerName, r.Host)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func TestEndpointsWithTLS(t *testing.T) {
	at, ca := tlsBackend(t)
	key := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: "file:ca.pem"}
	for name, tc := range map[string]struct {
		tls, hosts string
		status     int
		body       string
	}{
		"by the request's host": {`{ca: "file:ca.pem"}`, "example.com", 200, "example.com example.com"},
		"by another name":       {`{ca: "file:ca.pem", server_name: example.com}`, "www.demo.test", 200, "example.com www.demo.test"},
		"a name that is not in": {`{ca: "file:ca.pem"}`, "www.demo.test", 503, "503 the endpoint cannot be reached\n"},
		"not trusted":           {`{server_name: example.com}`, "www.demo.test", 503, "503 the endpoint cannot be reached\n"},
		"insecure":              {`{insecure: true}`, "www.demo.test", 200, "www.demo.test www.demo.test"},
	} {
		spec := httpSpec(noChecks+"retries: {attempts: 0}\n", at)
		spec = strings.Replace(spec, "- id: main", "- id: main\n    tls: "+tc.tls, 1)
		spec = strings.Replace(spec, "[www.demo.test]", "["+tc.hosts+"]", 1)
		r := newRig(t, httpSpec("", at))
		r.objects = map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: ca}}
		if err := r.apply(spec); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if status, body := get(t, r.client(webVIP, nil), "http://"+tc.hosts+"/"); status != tc.status || body != tc.body {
				t.Errorf("%s: %d %q, want %d %q", name, status, body, tc.status, tc.body)
			}
		}
	}
}

// Connections verified for one name carry no requests for another.
func TestConnectionsAreKeptApartByServerName(t *testing.T) {
	at, ca := tlsBackend(t)
	key := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: "file:ca.pem"}
	r := newRig(t, httpSpec("", at))
	r.objects = map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: ca}}
	spec := strings.Replace(httpSpec(noChecks, at), "- id: main", "- id: main\n    tls: {ca: \"file:ca.pem\"}", 1)
	if err := r.apply(strings.Replace(spec, "[www.demo.test]", "[example.com, other.test]", 1)); err != nil {
		t.Fatal(err)
	}
	c := r.client(webVIP, nil)
	if status, _ := get(t, c, "http://example.com/"); status != 200 {
		t.Error(status)
	}
	if status, _ := get(t, c, "http://other.test/"); status != 503 {
		t.Errorf("other.test was served by a connection verified for example.com: %d", status)
	}
}

// Connections to endpoints are used again.
func TestUpstreamConnectionsAreReused(t *testing.T) {
	opened := map[string]bool{}
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		opened[r.RemoteAddr] = true
		io.WriteString(w, "b")
	})
	r := newRig(t, httpSpec(noChecks, b))
	c := r.client(webVIP, nil)
	for range 20 {
		get(t, c, "http://www.demo.test/")
		if err := r.apply(httpSpec(noChecks, b)); err != nil {
			t.Fatal(err)
		}
	}
	if len(opened) != 1 {
		t.Errorf("20 requests in a row, over 20 Applies, took %d connections", len(opened))
	}
}
