package l7

import (
	"crypto/tls"
	"testing"
)

// Handshakes are post-quantum where the client can, and go on with those that
// cannot.
func TestHandshakesArePostQuantumWhereTheClientCan(t *testing.T) {
	r := newRig(t, httpsSpec("", backend(t, "one", nil)))
	for name, c := range map[string]struct {
		offer []tls.CurveID
		want  tls.CurveID
	}{
		"by default": {nil, tls.X25519MLKEM768},
		"an old one": {[]tls.CurveID{tls.X25519}, tls.X25519},
		"an older":   {[]tls.CurveID{tls.CurveP256}, tls.CurveP256},
	} {
		conn, err := tls.Dial("tcp", r.addr("192.0.2.1:443"), &tls.Config{ServerName: "www.demo.test", InsecureSkipVerify: true, CurvePreferences: c.offer})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := conn.ConnectionState().CurveID; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		conn.Close()
	}
	if _, err := tls.Dial("tcp", r.addr("192.0.2.1:443"), &tls.Config{ServerName: "www.demo.test", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was taken")
	}
}
