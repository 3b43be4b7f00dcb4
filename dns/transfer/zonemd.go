package transfer

import (
	"errors"
	"fmt"

	"meridian/dns/zone"
)

// verified says whether a zone is what its ZONEMD says (RFC 8976 section 4), if
// it has one that can be checked.
func verified(z *zone.Zone) error {
	if err := z.VerifyZONEMD(); err != nil && !errors.Is(err, zone.ErrZONEMDUnsupported) {
		return fmt.Errorf("serial %d is refused: %w", z.Serial, err)
	}
	return nil
}
