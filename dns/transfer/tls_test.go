package transfer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"meridian/dns/server"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// authority makes certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var der []byte
	a.key, der = a.sign(t, cert, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) sign(t testing.TB, cert, by *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	signer := a.key
	if by == nil {
		by, signer = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// issue gives a certificate and its key in PEM.
func (a *authority) issue(t testing.TB, name string) (chain, key string) {
	t.Helper()
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	k, der := a.sign(t, cert, a.cert)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// RFC 9103 §7.1: transfers over TLS 1.3 with the ALPN token dot come from BIND as the primary.
// RFC 9103 §9.3.2: strict privacy: a certificate that does not fit name or authority is refused, and no record comes.
// RFC 9103 §9.3.1: opportunistic privacy takes any certificate.
// RFC 9103 §9.3.3: with mutual TLS the primary lets in who shows its certificate.
func TestRFC9103TransferOverTLSFromBIND(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	chain, key := ca.issue(t, "ns.bind.test")
	p := newPeer(t)
	p.write(t, "chain.pem", chain)
	p.write(t, "key.pem", key)
	p.write(t, "ca.pem", ca.pem)
	p.write(t, "example.test.zone", zoneText(1, 5000, ""))
	secure := netip.AddrPortFrom(p.addr.Addr(), testkit.FreePort(t, "127.0.0.1"))
	bind(t, p, fmt.Sprintf("listen-on port %d tls secure { 127.0.0.1; };", secure.Port()), fmt.Sprintf(`
tls secure { cert-file "%[1]s/chain.pem"; key-file "%[1]s/key.pem"; ca-file "%[1]s/ca.pem"; };
zone "example.test" { type primary; file "example.test.zone"; allow-transfer transport tls { any; }; };
`, p.dir))
	eventually(t, "BIND serves", func() bool { return serialAt(p.addr, "example.test.") == 1 })
	mine, mineKey := ca.issue(t, "ns.us.test")
	world := func(tls string) *fleet.World {
		doc := fmt.Sprintf(`
certificates: [{id: us, cert: "file:c", key: "file:k"}]
zones: [{zone: example.test, primaries: [{address: "%s", tls: {%s}}]}]
`, secure, tls)
		return makeWorld(t, doc, map[fleet.ObjectKey]string{
			{Kind: fleet.ObjectCA, ID: "file:ca"}: ca.pem, {Kind: fleet.ObjectCA, ID: "file:other"}: other.pem,
			{Kind: fleet.ObjectCertificate, ID: "us"}: mine + mineKey,
		})
	}
	n := serve(t, "", 0, world(`server_name: ns.wrong.test, ca: "file:ca", certificate: us`))
	fails := func(want string) {
		t.Helper()
		eventually(t, want, func() bool {
			s := n.Status()
			return len(s) == 1 && s[0].State == Missing && strings.Contains(s[0].Error, want)
		})
	}
	fails("certificate is valid for ns.bind.test, not ns.wrong.test")
	n.apply(t, world(`server_name: ns.bind.test, ca: "file:other", certificate: us`))
	if err := n.Refresh("example.test."); err != nil {
		t.Fatal(err)
	}
	fails("signed by unknown authority")
	n.apply(t, world(`server_name: ns.bind.test, ca: "file:ca"`))
	if err := n.Refresh("example.test."); err != nil {
		t.Fatal(err)
	}
	fails("after 0 records")
	n.apply(t, world(`server_name: ns.bind.test, ca: "file:ca", certificate: us`))
	if err := n.Refresh("example.test."); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the zone came by TLS", func() bool { return serialAt(n.addr, "example.test.") == 1 })
	if got := len(n.text(t, "example.test.")); got < 5000 {
		t.Errorf("%d records", got)
	}
	n.apply(t, world(`insecure: true, certificate: us`))
	if err := n.Retransfer("example.test."); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it came again, from whoever it was", func() bool { return strings.Count(n.logs.String(), "zone transferred") == 2 })
}

// RFC 9103 §7.1: BIND and NSD take a zone from us over TLS, the whole and then differences.
func TestRFC9103TransferOverTLSToPeers(t *testing.T) {
	ca := newAuthority(t)
	chain, key := ca.issue(t, "ns.us.test")
	for name, start := range map[string]func(t *testing.T, p *peerServer, us uint16){
		"bind": func(t *testing.T, p *peerServer, us uint16) {
			bind(t, p, "", fmt.Sprintf(`
tls us { ca-file "%s/ca.pem"; remote-hostname "ns.us.test"; };
zone "example.test" { type secondary; file "copy"; primaries { 127.0.0.1 port %d key %s tls us; }; allow-transfer { any; }; };
`, p.dir, us, keyName))
		},
		"nsd": func(t *testing.T, p *peerServer, us uint16) {
			nsd(t, p, fmt.Sprintf("server:\n\ttls-cert-bundle: %[3]s/ca.pem\ntls-auth:\n\tname: us\n\tauth-domain-name: ns.us.test\nzone:\n\tname: example.test\n\tzonefile: copy\n\trequest-xfr: 127.0.0.1@%[1]d %[2]s us\n\tallow-notify: 127.0.0.1 %[2]s\n\tprovide-xfr: 127.0.0.1 NOKEY\n", us, keyName, p.dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			p.write(t, "ca.pem", ca.pem)
			world := func(serial uint32) *fleet.World {
				doc := fmt.Sprintf(`
certificates: [{id: us, cert: "file:c", key: "file:k"}]
dns: {keys: [{name: %[1]s, secret: "env:KEY"}], tls: {listen: ["127.0.0.1:0"], certificate: us}}
zones: [{zone: example.test, file: f, transfer: ["127.0.0.0/8+key:%[1]s"], notify: [{address: "%[2]s", key: %[1]s}]}]
`, keyName, p.addr)
				return makeWorld(t, doc, map[fleet.ObjectKey]string{
					{Kind: fleet.ObjectCertificate, ID: "us"}:     chain + key,
					{Kind: fleet.ObjectZone, ID: "example.test."}: zoneText(serial, 5000, fmt.Sprintf("s%d TXT x\n", serial)),
				})
			}
			n := serve(t, t.TempDir(), 0, world(1))
			start(t, p, n.srv.AddrsOf(server.TLS)[0].Port())
			eventually(t, "the peer serves serial 1", func() bool { return serialAt(p.addr, "example.test.") == 1 })
			n.apply(t, world(2))
			eventually(t, "the peer serves serial 2", func() bool { return serialAt(p.addr, "example.test.") == 2 })
			compare(t, n.text(t, "example.test."), axfrOf(t, p.addr, 2))
			if !strings.Contains(n.logs.String(), "kind=ixfr serial=2") || strings.Contains(n.logs.String(), "encrypted=false") {
				t.Error("the transfers were not both encrypted, or not by differences")
			}
		})
	}
}
