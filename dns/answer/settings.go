package answer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"meridian/dns/zone"
	"meridian/fleet"
)

// compileSettings reads what the Spec says of answers; all errors are given at
// once.
func compileSettings(id Identity, w *fleet.World) (settings, error) {
	dns := &w.Snapshot.Spec.DNS
	s := settings{nsid: id.Node, version: id.Version, ecs: dns.ECS == nil || *dns.ECS, any: dns.Any}
	if n := w.Snapshot.Node(id.Node); n != nil {
		s.nsid += "@" + n.Region
	}
	if dns.NSID != "" {
		s.nsid = dns.NSID
	}
	if dns.Version != "" {
		s.version = dns.Version
	}
	if dns.Whoami != "" {
		s.whoami = zone.Wire(dns.Whoami)
	}
	if dns.ErrorsTo != "" {
		s.errorsTo = string(zone.Wire(dns.ErrorsTo))
	}
	if dns.Cookies.Off {
		return s, nil
	}
	s.cookies = cookies{secret: id.Cookie, require: dns.Cookies.Require}
	var errs []error
	for i, ref := range dns.Cookies.Secrets {
		obj, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(ref)}]
		if !ok {
			errs = append(errs, fmt.Errorf("dns.cookies.secrets[%d]: its object is missing", i))
			continue
		}
		raw, err := hex.DecodeString(string(bytes.TrimSpace(obj.Data)))
		if err != nil || len(raw) != 16 {
			errs = append(errs, fmt.Errorf("dns.cookies.secrets[%d]: expected 32 hexadecimal digits", i))
			continue
		}
		s.cookies.fixed = append(s.cookies.fixed, [16]byte(raw))
	}
	return s, errors.Join(errs...)
}
