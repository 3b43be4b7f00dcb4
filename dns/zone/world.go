package zone

import (
	"cmp"
	"crypto/sha256"
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
		note := func(list string, j int) func(string) {
			return func(text string) { errs.Addf(fmt.Sprintf("%s.%s[%d].name", at, list, j), "%s", text) }
		}
		for j, st := range z.Steered {
			loaded.checkSteered(st.Name, "steered", note("steered", j), madeBeside(&st)...)
		}
		for j, alias := range z.Aliases {
			loaded.checkSteered(alias.Name, "an alias", note("aliases", j))
		}
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
		data, file, ok := content(w, spec)
		if !ok {
			if spec.File != "" {
				errs = append(errs, fmt.Errorf("zone %s: its object is missing", spec.Zone))
			}
			continue // its content comes from elsewhere, and later
		}
		z, err := Reload(have[spec.Zone], spec, data, file)
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

// content gives the text or the encoded form of a zone: of the objects with
// versions of their own first, then of the Snapshot's, then of the Spec.
func content(w *fleet.World, spec *fleet.Zone) (data []byte, file string, ok bool) {
	if obj, ok := w.Zones.Get(spec.Zone); ok {
		return obj.Data, obj.File, true
	}
	if obj, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(spec.Zone)}]; ok {
		return obj.Data, cmp.Or(obj.File, spec.File), true
	}
	return []byte(spec.Records), "", spec.Records != ""
}

// source tells what a zone was made from.
type source struct {
	sum     [sha256.Size]byte
	encoded bool
}

func sourceOf(data []byte) source { return source{sha256.Sum256(data), Encoded(data)} }

// Reload reads a zone's content, in either form, and marks the steered names
// of its Spec. Where old has the same content and the same marks, old itself
// is given; it may be nil. file names the content in errors.
func Reload(old *Zone, spec *fleet.Zone, data []byte, file string) (*Zone, error) {
	if old != nil && old.source == sourceOf(data) {
		return old.Marked(spec.Steered)
	}
	z, err := Load(spec.Zone, data, file)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, alias := range spec.Aliases {
		if !z.source.encoded { // there they are in place
			z.checkSteered(alias.Name, "an alias", func(text string) { errs = append(errs, errors.New(text)) })
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return z.Marked(spec.Steered)
}

// Marked gives the zone with these steered names and no others; z itself where
// it has them already. A name that cannot be steered is an error, but for a
// zone in the form of Encode: its maker has seen to that.
func (z *Zone) Marked(steered []fleet.Steered) (*Zone, error) {
	if slices.EqualFunc(z.steered, steered, func(a, b fleet.Steered) bool { return reflect.DeepEqual(a, b) }) {
		return z, nil
	}
	var errs []error
	for _, st := range steered {
		if !z.source.encoded {
			z.checkSteered(st.Name, "steered", func(text string) { errs = append(errs, errors.New(text)) }, madeBeside(&st)...)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return z.with(steered), nil
}
