package zone

import (
	"errors"
	"fmt"

	"meridian/fleet"
)

// Reload reads a zone's content, in either form, and marks the steered names
// of its Spec. Where old has the same content and the same marks, old itself
// is given; it may be nil. file names the content in errors.
func Reload(old *Zone, spec *fleet.Zone, data []byte, file string) (*Zone, error) {
	return reload(old, spec, data, file)
}

// Marked gives the zone with these steered names and no others; z itself where
// it has them already. A name that cannot be steered is an error.
func (z *Zone) Marked(steered []fleet.Steered) (*Zone, error) {
	if len(z.steered) == len(steered) {
		same := true
		for i := range steered {
			same = same && sameSteered(z.steered[i], steered[i])
		}
		if same {
			return z, nil
		}
	}
	var errs []error
	z.checkSteered(steered, func(_ int, format string, args ...any) {
		errs = append(errs, fmt.Errorf(format, args...))
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return z.with(steered), nil
}
