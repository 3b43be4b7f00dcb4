package zone

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"meridian/fleet"
)

// Check notes what is wrong with zones written inline; it is a fleet.Check.
// Zones in files are objects: see LoadWorld.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	for i := range spec.Zones {
		z, at := &spec.Zones[i], fmt.Sprintf("zones[%d]", i)
		if z.Records == "" || z.Zone == "" {
			continue
		}
		loaded, err := Load(z.Zone, []byte(z.Records), "")
		if err != nil {
			for _, e := range flatten(err) {
				errs.Addf(at+".records", "%s", e)
			}
			continue
		}
		loaded.checkSteered(z.Steered, func(j int, format string, args ...any) {
			errs.Addf(fmt.Sprintf("%s.steered[%d].name", at, j), format, args...)
		})
	}
}

func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// LoadWorld reads every zone that the Snapshot names, from its object or, for
// records written inline, from the Spec. A zone whose text and steered names
// are those of one in old is taken over as it is. All errors are given at
// once.
func LoadWorld(w *fleet.World, old []*Zone) ([]*Zone, error) {
	have := make(map[fleet.Name]*Zone, len(old))
	for _, z := range old {
		have[z.Name] = z
	}
	var out []*Zone
	var errs []error
	for i := range w.Snapshot.Spec.Zones {
		spec := &w.Snapshot.Spec.Zones[i]
		data, file := []byte(spec.Records), ""
		if obj, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(spec.Zone)}]; ok {
			data, file = obj.Data, obj.File
			if file == "" && spec.File != "" {
				file = spec.File
			}
		} else if spec.Records == "" {
			errs = append(errs, fmt.Errorf("zone %s: its object is missing", spec.Zone))
			continue
		}
		z, err := reload(have[spec.Zone], spec, data, file)
		if err != nil {
			errs = append(errs, fmt.Errorf("zone %s: %w", spec.Zone, err))
			continue
		}
		out = append(out, z)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

func reload(old *Zone, spec *fleet.Zone, data []byte, file string) (*Zone, error) {
	if old != nil && bytes.Equal(old.source, data) && slices.EqualFunc(old.steered, spec.Steered, sameSteered) {
		return old, nil
	}
	z, err := Load(spec.Zone, data, file)
	if err != nil || len(spec.Steered) == 0 {
		return z, err
	}
	var errs []error
	z.checkSteered(spec.Steered, func(_ int, format string, args ...any) {
		errs = append(errs, fmt.Errorf(format, args...))
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return z.with(spec.Steered), nil
}

// sameSteered says whether two steered names are marked alike.
func sameSteered(a, b fleet.Steered) bool { return reflect.DeepEqual(a, b) }
