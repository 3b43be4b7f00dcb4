package l7

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"meridian/fleet"
)

// challenges are what a certificate authority is answered while it looks
// whether a name is the fleet's.
type challenges struct {
	tokens map[string]fleet.Token // HTTP-01, by token
	alpn   map[string]*tls.Config // TLS-ALPN-01, by name
}

const (
	wellKnown = "/.well-known/acme-challenge/" // RFC 8555 section 8.3
	acmeALPN  = "acme-tls/1"                   // RFC 8737 section 6.2
)

// readChallenges reads those that are under way.
func readChallenges(w *fleet.World) (challenges, error) {
	c := challenges{tokens: map[string]fleet.Token{}, alpn: map[string]*tls.Config{}}
	for token, o := range w.LiveOf(fleet.LiveToken) {
		var t fleet.Token
		if err := json.Unmarshal(o.Data, &t); err != nil {
			return c, fmt.Errorf("challenge token %s: %w", token, err)
		}
		c.tokens[token] = t
	}
	for name, o := range w.LiveOf(fleet.LiveALPN) {
		pair, err := tls.X509KeyPair(o.Data, o.Data)
		if err != nil {
			return c, fmt.Errorf("challenge certificate of %s: %w", name, err)
		}
		c.alpn[name] = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{acmeALPN},
			Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true}
	}
	return c, nil
}

// config gives how to answer a handshake that is a TLS-ALPN-01 challenge for
// the name, nil where it is none.
func (c *challenges) config(name string, protos []string) *tls.Config {
	if len(protos) != 1 || len(c.alpn) == 0 || !slices.Contains(protos, acmeALPN) {
		return nil
	}
	return c.alpn[name]
}

// challenge gives what a request at port 80 for a host, in the table's form,
// and a path is answered where it is an HTTP-01 challenge that is under way.
func (gen *generation) challenge(host, path string) (body []byte, ok bool) {
	token, is := strings.CutPrefix(path, wellKnown)
	if !is {
		return nil, false
	}
	t, ok := gen.tls.challenges.tokens[token]
	if !ok || t.Host != host {
		return nil, false
	}
	return []byte(t.Auth), true
}
