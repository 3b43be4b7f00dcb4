package route

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/internal/testkit"
)

func issuedWorld(t *testing.T, certificates, ech string, live map[string][]byte) *fleet.World {
	t.Helper()
	s, err := fleet.Compile([]byte(`
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
services: [{service: web, protocol: https, ports: [443], hosts: [www.demo.test, "*.any.demo.test"], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}]}]
`+ech+"certificates:\n"+certificates), 1, Check)
	if err != nil {
		t.Fatal(err)
	}
	w := &fleet.World{Snapshot: s}
	for id, data := range live {
		o := fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectLive, ID: id}, Data: data, Version: string(data)}
		w.Live = w.Live.With([]fleet.Object{o}, nil)
	}
	return w
}

// What will be issued covers a host as well as what there is.
func TestHostsAreCoveredByWhatIsToBeIssued(t *testing.T) {
	const www = "- {id: a, acme: {directory: internal, names: [www.demo.test]}}\n"
	for name, c := range map[string]struct{ certificates, ech, want string }{
		"by default":        {"- {id: a, acme: {directory: internal}}\n", "", ""},
		"by name":           {www + "- {id: b, acme: {directory: internal, names: [\"*.any.demo.test\"]}}\n", "", ""},
		"a host left out":   {www, "", `no certificate is valid for "*.any.demo.test"`},
		"by a wildcard":     {"- {id: a, acme: {directory: internal, names: [\"*.demo.test\", \"*.any.demo.test\"]}}\n", "", ""},
		"on demand":         {www[:len(www)-3] + ", on_demand: {hosts: [\"*.any.demo.test\"]}}}\n", "", ""},
		"public name":       {"- {id: a, acme: {directory: internal}}\n", "ech: {public_name: p.demo.test}\n", `no certificate is valid for "p.demo.test"`},
		"public name named": {"- {id: a, acme: {directory: internal}}\n- {id: b, acme: {directory: internal, names: [p.demo.test]}}\n", "ech: {public_name: p.demo.test}\n", ""},
	} {
		_, err := CompileCertificates(issuedWorld(t, c.certificates, c.ech, nil))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An OCSP response behind the key is stapled; what has not changed is not read
// again.
func TestAnIssuedCertificateHasItsStaple(t *testing.T) {
	a := testkit.NewAuthority(t)
	bundle := a.Issue(t, "www.demo.test")
	stapled := append(bytes.Clone(bundle), pem.EncodeToMemory(&pem.Block{Type: "OCSP RESPONSE", Bytes: []byte("response")})...)
	const spec = "- {id: a, acme: {directory: internal}}\n"
	old, err := CompileCertificates(issuedWorld(t, spec, "", map[string][]byte{"certificate/a/www.demo.test": stapled, "certificate/a/x.any.demo.test": bundle}))
	if err != nil {
		t.Fatal(err)
	}
	if got := old.Find("www.demo.test"); len(got) != 2 || string(got[0].OCSPStaple) != "response" {
		t.Fatalf("found %d", len(got))
	}
	next, err := Recompile(issuedWorld(t, spec, "", map[string][]byte{"certificate/a/www.demo.test": stapled, "certificate/a/x.any.demo.test": a.Issue(t, "x.any.demo.test")}), old)
	if err != nil {
		t.Fatal(err)
	}
	if next.Find("www.demo.test")[0] != old.Find("www.demo.test")[0] {
		t.Error("read again though it is the same")
	}
	if c := next.Find("x.any.demo.test"); len(c) != 1 || c[0].Leaf.DNSNames[0] != "x.any.demo.test" {
		t.Error("the changed one is not in use")
	}
	if _, err := Recompile(issuedWorld(t, spec, "", map[string][]byte{"certificate/a/www.demo.test": []byte("PRIVATE")}), old); err == nil || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("a broken one: %v", err)
	}
}
