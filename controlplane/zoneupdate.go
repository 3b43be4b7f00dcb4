package controlplane

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/dns"

	"meridian/dns/update"
	"meridian/dns/zone"
	"meridian/fleet"
)

// Update carries out a dynamic update (RFC 2136) whose TSIG has been verified:
// key is the name of its key. It gives the RCODE to answer with; err says why
// where that is SERVFAIL, or why it was refused. It is what nameservers hand
// updates to, by themselves or through another node.
func (c *ControlPlane) Update(ctx context.Context, name, key fleet.Name, msg []byte) (rcode int, err error) {
	w := c.Current()
	if w == nil {
		return dns.RcodeServerFailure, errors.New("there is no Spec yet")
	}
	spec := w.Snapshot.Spec.Zone(name)
	if spec == nil {
		spec = w.Snapshot.Spec.Unnamed(name)
	}
	return ApplyUpdate(ctx, c, name, update.Rules(name, w.Snapshot.Spec.Settings(spec).Updates, key), msg)
}

// ZoneWriter changes zones; see ControlPlane.WriteZone.
type ZoneWriter interface {
	WriteZone(ctx context.Context, name fleet.Name, base string, edit Edit) (ZoneInfo, error)
}

// errAnswered ends an edit whose RCODE is known.
var errAnswered = errors.New("the update is not carried out")

// ApplyUpdate carries out an update on a zone, as a whole or not at all;
// allowed is what its key may change, as update.Rules gives it.
func ApplyUpdate(ctx context.Context, zones ZoneWriter, name fleet.Name, allowed func(owner []byte, rtype uint16) bool, msg []byte) (rcode int, err error) {
	if allowed == nil {
		return dns.RcodeRefused, nil
	}
	var m dns.Msg
	if err := m.Unpack(msg); err != nil {
		return dns.RcodeFormatError, nil
	}
	_, err = zones.WriteZone(ctx, name, AnyBase, func(cur *zone.Zone) (*zone.Zone, error) {
		rcode = dns.RcodeSuccess
		if cur == nil {
			rcode = dns.RcodeNotAuth
			return nil, errAnswered
		}
		var changes []zone.Change
		if changes, rcode = update.Apply(cur, &m, allowed); rcode != dns.RcodeSuccess {
			return nil, errAnswered
		}
		if len(changes) == 0 {
			return cur, nil
		}
		next, err := cur.With(changes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrZone, err)
		}
		return next, nil
	})
	switch {
	case err == nil:
		return dns.RcodeSuccess, nil
	case errors.Is(err, errAnswered):
		return rcode, nil
	case errors.Is(err, ErrZone):
		return dns.RcodeRefused, err
	case errors.Is(err, ErrOtherWriter):
		return dns.RcodeNotAuth, err
	}
	return dns.RcodeServerFailure, err
}
