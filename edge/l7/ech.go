package l7

import (
	"crypto/tls"
	"encoding/json"
	"fmt"

	"meridian/fleet"
)

// readECH reads the keys of Encrypted Client Hello. The newest alone is what a
// client with another is told to try again with.
func readECH(w *fleet.World) ([]tls.EncryptedClientHelloKey, error) {
	o, ok := w.Live.Get(fleet.LiveID(fleet.LiveECHKeys, "fleet"))
	if !ok {
		return nil, nil
	}
	var keys fleet.ECHKeys
	if err := json.Unmarshal(o.Data, &keys); err != nil {
		return nil, fmt.Errorf("keys of Encrypted Client Hello: %w", err)
	}
	var out []tls.EncryptedClientHelloKey
	for i, k := range keys.Keys {
		out = append(out, tls.EncryptedClientHelloKey{Config: k.Config, PrivateKey: k.Private, SendAsRetry: i == 0})
	}
	return out, nil
}

// echKeys gives the keys of the moment.
func (g *Gateway) echKeys(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	if gen := g.gen.Load(); gen != nil {
		return gen.tls.ech, nil
	}
	return nil, nil
}
