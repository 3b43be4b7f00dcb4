//go:build linux

package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"meridian/identity"
)

// Files of a lab's directory.
const (
	caFile       = "ca.pem"
	certFile     = "demo.pem"
	keyFile      = "demo.key"
	backendCert  = "backend.pem"
	backendKey   = "backend.key"
	fleetKeyFile = "fleet.key"
	specFile     = "demo.yaml"
)

// backendName is the name in the backends' certificate.
const backendName = "backend.demo.test"

// writeSecrets makes an authority for this run, a certificate for the
// gateways and one for the backends, and the fleet's key.
func writeSecrets(dir string) error {
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, fleetKeyFile), key.Encode(), 0o600); err != nil {
		return fmt.Errorf("fleet key: %w", err)
	}
	ca, caKey, err := issue(dir, caFile, "", nil, nil)
	if err != nil {
		return err
	}
	if _, _, err := issue(dir, certFile, keyFile, ca, caKey, "*."+zoneName); err != nil {
		return err
	}
	_, _, err = issue(dir, backendCert, backendKey, ca, caKey, backendName)
	return err
}

// issue makes a key and a certificate for names, signed by parent, or, with no
// parent, an authority; and writes both.
func issue(dir, cert, keyName string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, names ...string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	fail := func(err error) (*x509.Certificate, *ecdsa.PrivateKey, error) {
		return nil, nil, fmt.Errorf("certificate %s: %w", cert, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return fail(err)
	}
	// OpenSSL takes a certificate whose issuer has its own name for self-signed.
	subject := "Meridian demo authority"
	if len(names) > 0 {
		subject = names[0]
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: subject}, DNSNames: names,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 30),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if parent == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
		tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageCertSign, nil
		parent, parentKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		return fail(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	if err := writePEM(filepath.Join(dir, cert), "CERTIFICATE", der, 0o644); err != nil {
		return fail(err)
	}
	if keyName == "" {
		return out, key, nil // the authority's key is needed no more after this run has begun
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		err = writePEM(filepath.Join(dir, keyName), "PRIVATE KEY", pkcs8, 0o600)
	}
	if err != nil {
		return fail(err)
	}
	return out, key, nil
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
