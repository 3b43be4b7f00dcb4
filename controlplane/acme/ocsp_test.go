package acme

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"meridian/fleet"
)

// responder answers OCSP for Pebble's certificates.
type responder struct {
	*httptest.Server
	p     *pebble
	asked atomic.Int64
}

func newResponder(t *testing.T) *responder {
	t.Helper()
	o := &responder{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		q, err := ocsp.ParseRequest(b)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		issuer, key := o.issuer(t)
		o.asked.Add(1)
		res, err := ocsp.CreateResponse(issuer, issuer, ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber,
			ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(48 * time.Hour)}, key)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write(res)
	}))
	t.Cleanup(o.Close)
	return o
}

// issuer gives what Pebble signs with.
func (o *responder) issuer(t *testing.T) (*x509.Certificate, crypto.Signer) {
	get := func(path string) []byte {
		res, err := o.p.client.Get(o.p.manage + path)
		if err != nil {
			t.Error(err)
			return nil
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return b
	}
	b, _ := pem.Decode(get("/intermediates/0"))
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Error(err)
	}
	b, _ = pem.Decode(get("/intermediate-keys/0"))
	key, err := x509.ParsePKCS1PrivateKey(b.Bytes)
	if err != nil {
		t.Error(err)
	}
	return cert, key
}

// Where the authority has an OCSP responder, every gateway staples what it
// says, and it is asked once for all.
func TestOCSPResponsesAreStapledByEveryGateway(t *testing.T) {
	r, o := newRig(t), newResponder(t)
	o.p = newPebble(r, "", func(s map[string]any) {
		s["ocspResponderURL"], s["keyAlgorithm"] = o.URL, "rsa" // it gives away keys of that kind alone
	})
	for i := range addresses {
		r.gateway(i)
	}
	r.submit(r.spec(pebbled(o.p, ", names: [www.demo.test]")+"- {id: rest, acme: {directory: internal, names: [api.demo.test, \"*.any.demo.test\"]}}\n", ""),
		object(fleet.ObjectCA, caID, o.p.ca))
	r.shown("www.demo.test", nil)
	for i := range addresses {
		c, err := tls.Dial("tcp", r.at(i, 443), &tls.Config{ServerName: "www.demo.test", InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		cs := c.ConnectionState()
		c.Close()
		issuer, _ := o.issuer(t)
		res, err := ocsp.ParseResponseForCert(cs.OCSPResponse, cs.PeerCertificates[0], issuer)
		if err != nil || res.Status != ocsp.Good {
			t.Errorf("gateway %d staples %d octets: %v", i, len(cs.OCSPResponse), err)
		}
	}
	if n := o.asked.Load(); n != 1 {
		t.Errorf("the responder was asked %d times", n)
	}
	r.until("the end of the response is told", func() bool { return r.metric("meridian_acme_ocsp_next_update_seconds") > float64(time.Now().Unix()) })
}
