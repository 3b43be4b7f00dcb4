package sign

import (
	"time"
)

// holdDown is how long validators that follow a zone's keys as trust anchors
// (RFC 5011) must have seen a new key before they trust it (section 2.4.1), and
// how long a revoked key is shown to them (section 2.4.2).
const holdDown = 30 * 24 * time.Hour

// trusted is when every validator that follows the zone's keys trusts one that
// is in all caches: it looks at least once a TTL or hour (RFC 5011 section 2.3).
func (st *stepper) trusted(k *Key) time.Time {
	return k.DNSKEY.Since.Add(holdDown + max(time.Hour, time.Duration(st.keyTTL)*time.Second))
}

// succeeds says whether a key may be the one that the chain goes through when
// old leaves. Where keys are trust anchors, they must know it as one.
func (st *stepper) succeeds(k, old *Key) bool {
	return !st.policy.Revoke || !old.Role.secure() || k.DNSKEY.State == Omnipresent && !st.now.Before(st.trusted(k))
}

// revoke marks a key as revoked, in place of its withdrawal, and says whether it
// did or whether the key is still to be shown so. A key whose signatures are
// still over the zone's data is not revoked: they would be worth nothing.
func (st *stepper) revoke(k *Key) (did, wait bool) {
	if k.Revoked.IsZero() {
		if !st.policy.Revoke || !k.Role.secure() || k.RRSIG.State != Hidden {
			return false, false
		}
		k.Revoked = st.now
		st.note(k, "revoked")
		return true, true
	}
	return false, st.now.Before(st.shown(k))
}

// shown is until when a revoked key stays in the DNSKEY set.
func (st *stepper) shown(k *Key) time.Time {
	return k.Revoked.Add(max(holdDown, st.keyWait()))
}

// lingers says whether a key that signs no data stays in the DNSKEY set to be
// revoked or as a revoked one. The key whose signatures over the data stand for
// its algorithm stays as long (RFC 4035 section 2.2).
func (st *stepper) lingers(k *Key) bool {
	return k.Role.secure() && k.DNSKEY.published() && !k.RRSIG.published() && (st.policy.Revoke || !k.Revoked.IsZero())
}
