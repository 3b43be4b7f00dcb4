package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	acmeapi "github.com/mholt/acmez/v3/acme"

	"meridian/fleet"
)

// issuer has certificates issued by one authority, by ACME.
type issuer struct {
	spec    *fleet.ACME
	key     string
	eab     []byte // key of external account binding; empty for none
	storage *storage
	client  *acmeapi.Client
	solve   map[fleet.ACMEChallenge]acmez.Solver
	how     func(name string) fleet.ACMEChallenge
}

// requestLimit bounds one request to an authority.
const requestLimit = 30 * time.Second

// issuerKey names an authority in the storage.
func issuerKey(directory string) string {
	return certmagic.StorageKeys.Safe(strings.TrimPrefix(directory, "https://"))
}

// newIssuer makes the issuer of one certificate of the Spec.
func newIssuer(spec *fleet.ACME, with objects, s *storage) (*issuer, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: requestLimit,
		IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 4, ForceAttemptHTTP2: true}
	if len(with.ca) > 0 {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(with.ca) {
			return nil, errors.New("acme.ca holds no certificate in PEM")
		}
	}
	return &issuer{spec: spec, key: issuerKey(spec.Directory), eab: with.eab, storage: s, client: &acmeapi.Client{Directory: spec.Directory, UserAgent: "Meridian",
		HTTPClient: &http.Client{Transport: t, Timeout: requestLimit}, PollTimeout: 2 * time.Minute}}, nil
}

// IssuerKey implements certmagic.Issuer.
func (i *issuer) IssuerKey() string { return i.key }

// Issue implements certmagic.Issuer.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if len(csr.DNSNames) != 1 {
		return nil, fmt.Errorf("expected one name in the request, got %q", csr.DNSNames)
	}
	name := csr.DNSNames[0]
	account, err := i.account(ctx)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, fmt.Errorf("order for %s: %w", name, err)
	}
	params.Profile = i.spec.Profile
	params.Replaces = i.replaced(ctx, name)
	how := i.how(name)
	client := &acmez.Client{Client: i.client, ChallengeSolvers: map[string]acmez.Solver{string(how): i.solve[how]}}
	chains, err := client.ObtainCertificate(ctx, params)
	if params.Replaces != nil && err != nil && isProblem(err, "alreadyReplaced") {
		params.Replaces = nil
		chains, err = client.ObtainCertificate(ctx, params)
	}
	if err != nil {
		if isProblem(err, acmeapi.ProblemTypeAccountDoesNotExist) {
			_ = i.storage.Delete(ctx, i.accountKey()) // the next try registers anew
		}
		return nil, err
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

// isProblem says whether the authority's answer was that problem (RFC 8555
// section 6.7).
func isProblem(err error, kind string) bool {
	var p acmeapi.Problem
	return errors.As(err, &p) && strings.TrimPrefix(p.Type, acmeapi.ProblemTypeNamespace) == strings.TrimPrefix(kind, acmeapi.ProblemTypeNamespace)
}

// replaced gives the certificate that a new one for the name takes the place
// of, which authorities with renewal information are told (RFC 9773 section 5).
func (i *issuer) replaced(ctx context.Context, name string) *x509.Certificate {
	dir, err := i.client.GetDirectory(ctx)
	if err != nil || dir.RenewalInfo == "" {
		return nil
	}
	chain, err := i.storage.Load(ctx, certmagic.StorageKeys.SiteCert(i.key, name))
	if err != nil {
		return nil
	}
	leaf, err := firstCertificate(chain)
	if err != nil {
		return nil
	}
	return leaf
}

// renewalInfo asks the authority when a certificate is best renewed; a zero one
// where it does not say.
func (i *issuer) renewalInfo(ctx context.Context, leaf *x509.Certificate) (acmeapi.RenewalInfo, error) {
	dir, err := i.client.GetDirectory(ctx)
	if err != nil || dir.RenewalInfo == "" {
		return acmeapi.RenewalInfo{}, err
	}
	return i.client.GetRenewalInfo(ctx, leaf)
}

// keptAccount is an account in the storage.
type keptAccount struct {
	Account acmeapi.Account `json:"account"`
	Key     string          `json:"key"` // in PEM
}

func (i *issuer) accountKey() string {
	who := "default"
	if i.spec.Email != "" {
		who = certmagic.StorageKeys.Safe(i.spec.Email)
	}
	if i.spec.EAB != nil {
		who += "-" + certmagic.StorageKeys.Safe(i.spec.EAB.KeyID)
	}
	return path.Join("accounts", i.key, who+".json")
}

// account gives the fleet's account at the authority, which it makes at first.
func (i *issuer) account(ctx context.Context) (acmeapi.Account, error) {
	at := i.accountKey()
	if err := i.storage.Lock(ctx, at); err != nil {
		return acmeapi.Account{}, fmt.Errorf("account: %w", err)
	}
	defer func() { _ = i.storage.Unlock(ctx, at) }()
	b, err := i.storage.Load(ctx, at)
	if err == nil {
		var kept keptAccount
		if err := json.Unmarshal(b, &kept); err != nil {
			return acmeapi.Account{}, fmt.Errorf("account: %w", err)
		}
		key, err := certmagic.PEMDecodePrivateKey([]byte(kept.Key))
		if err != nil {
			return acmeapi.Account{}, fmt.Errorf("account key: %w", err)
		}
		kept.Account.PrivateKey = key
		return kept.Account, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return acmeapi.Account{}, fmt.Errorf("account: %w", err)
	}
	return i.register(ctx, at)
}

func (i *issuer) register(ctx context.Context, at string) (acmeapi.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acmeapi.Account{}, fmt.Errorf("account key: %w", err)
	}
	account := acmeapi.Account{TermsOfServiceAgreed: true, PrivateKey: crypto.Signer(key)}
	if i.spec.Email != "" {
		account.Contact = []string{"mailto:" + i.spec.Email}
	}
	if i.spec.EAB != nil {
		if err := account.SetExternalAccountBinding(ctx, i.client, acmeapi.EAB{KeyID: i.spec.EAB.KeyID, MACKey: strings.TrimSpace(string(i.eab))}); err != nil {
			return account, fmt.Errorf("external account binding: %w", err)
		}
	}
	if account, err = i.client.NewAccount(ctx, account); err != nil {
		return account, fmt.Errorf("registering an account: %w", err)
	}
	text, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return account, fmt.Errorf("account key: %w", err)
	}
	b, err := json.Marshal(keptAccount{account, string(text)})
	if err != nil {
		return account, fmt.Errorf("account: %w", err)
	}
	return account, i.storage.Store(ctx, at, b)
}
