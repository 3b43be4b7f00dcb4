package l7

import (
	"crypto/tls"
	"encoding/json"
	"testing"

	"meridian/fleet"
	"meridian/rules"
)

// withLive gives the rig's World live objects.
func (r *rig) live(spec string, put map[fleet.Name][]byte) error {
	w := &fleet.World{Snapshot: compile(r.t, spec), Objects: r.objects}
	var objects []fleet.Object
	for id, data := range put {
		objects = append(objects, rules.LiveObject(id, data))
	}
	w.Live = w.Live.With(objects, nil)
	if err := r.health.Apply(w); err != nil {
		r.t.Fatal(err)
	}
	return r.g.Apply(w)
}

// HTTP-01 is answered at port 80 for the host of the token alone, whatever
// services there are.
func TestAChallengeIsAnsweredForItsHost(t *testing.T) {
	spec := httpSpec("", backend(t, "endpoint", nil))
	r := newRig(t, spec)
	token, _ := json.Marshal(fleet.Token{Host: "new.demo.test", Auth: "tok.thumb"})
	if err := r.live(spec, map[fleet.Name][]byte{"token/tok": token}); err != nil {
		t.Fatal(err)
	}
	c := r.client("192.0.2.1:80", nil)
	for url, want := range map[string]string{
		"http://new.demo.test/.well-known/acme-challenge/tok":   "tok.thumb",
		"http://www.demo.test/.well-known/acme-challenge/tok":   "endpoint",
		"http://new.demo.test/.well-known/acme-challenge/other": "404 no service has this host\n",
		"http://new.demo.test/tok":                              "404 no service has this host\n",
	} {
		if _, body := get(t, c, url); body != want {
			t.Errorf("%s: %q", url, body)
		}
	}
	if err := r.live(spec, nil); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, c, "http://new.demo.test/.well-known/acme-challenge/tok"); status != 404 {
		t.Errorf("after it was taken back: %d", status)
	}
}

// A certificate that is to be issued and is not yet keeps no service out; what
// is issued serves at once, and a broken one is refused.
func TestIssuedCertificatesAreTakenAsTheyCome(t *testing.T) {
	spec := httpsSpec("", backend(t, "endpoint", nil)) + ""
	spec = spec[:len(spec)-len("certificates: [{id: c1, cert: \"file:c1.pem\", key: \"file:c1.key\"}]\n")] +
		"certificates: [{id: c1, acme: {directory: internal}}]\n"
	r := newRig(t, httpSpec("", backend(t, "x", nil)))
	r.objects = map[fleet.ObjectKey]fleet.Object{}
	if err := r.apply(spec); err != nil {
		t.Fatalf("before there is a certificate: %v", err)
	}
	dial := func(name string) error {
		c, err := tls.Dial("tcp", r.addr("192.0.2.1:443"), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err == nil {
			c.Close()
		}
		return err
	}
	if dial("www.demo.test") == nil {
		t.Error("a certificate was shown though there is none")
	}
	if err := dial(fleet.GatewayHost); err != nil {
		t.Errorf("layer 4 cannot check the gateway: %v", err)
	}
	pem, _ := newCertificate(t, "www.demo.test")
	if err := r.live(spec, map[fleet.Name][]byte{"certificate/c1/www.demo.test": pem, "certificate/gone/x.demo.test": pem}); err != nil {
		t.Fatal(err)
	}
	if err := dial("www.demo.test"); err != nil {
		t.Error(err)
	}
	if r.live(spec, map[fleet.Name][]byte{"certificate/c1/www.demo.test": []byte("broken")}) == nil {
		t.Error("a broken certificate was taken")
	}
	if err := dial("www.demo.test"); err != nil {
		t.Errorf("the one before is gone: %v", err)
	}
}
