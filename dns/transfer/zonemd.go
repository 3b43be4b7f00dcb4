package transfer

import (
	"errors"
	"fmt"

	"meridian/dns/sign"
	"meridian/dns/zone"
)

// verified says whether a zone is what its ZONEMD says (RFC 8976 section 4), if
// it has one that can be checked.
func verified(z *zone.Zone) error {
	if err := sign.VerifyDigest(z); err != nil && !errors.Is(err, sign.ErrNoDigest) {
		return fmt.Errorf("serial %d is refused: %w", z.Serial, err)
	}
	return nil
}
