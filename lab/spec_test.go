//go:build linux

package lab

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"meridian/anycast/plan"
	"meridian/fleet"
)

func TestSpecsAreAccepted(t *testing.T) {
	for name, top := range map[string]*Topology{"world": World(), "home": Home()} {
		doc, err := specYAML(top.Spec())
		if err != nil {
			t.Fatal(err)
		}
		snap, err := fleet.Compile(doc, 1, plan.Check)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, doc)
			continue
		}
		if bytes.Contains(doc, []byte("{}")) || bytes.Contains(doc, []byte(`"\n`)) {
			t.Errorf("%s: not written as people write it:\n%s", name, doc)
		}
		for _, r := range top.Regions {
			if len(snap.NodesWith(r.ID, fleet.RoleDNS)) != 1 || len(snap.NodesWith(r.ID, fleet.RoleL7)) == 0 {
				t.Errorf("%s: region %s lacks a nameserver or a gateway", name, r.ID)
			}
		}
	}
}

func TestCertificatesFitTheirUse(t *testing.T) {
	dir := t.TempDir()
	if err := writeSecrets(dir); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatal("no authority", err)
	}
	for _, c := range []struct{ cert, key, name string }{
		{certFile, keyFile, RegionalName}, {certFile, keyFile, AnycastName}, {backendCert, backendKey, backendName},
	} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, c.cert), filepath.Join(dir, c.key))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: c.name}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
