package rules

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"meridian/dns/tsig"
	"meridian/dns/zone"
	"meridian/edge/l7/filter"
	"meridian/edge/l7/route"
	"meridian/fleet"
	"meridian/steer"
)

// ObjectError says which object is wrong, where it came from and why.
type ObjectError struct {
	Key  fleet.ObjectKey
	File string // may be empty
	Line int    // from 1; 0 where not known
	Msg  string
}

// Path names the object and its file, as a FieldError's path names a field.
func (e *ObjectError) Path() string {
	p := string(e.Key.Kind) + " " + shortID(e.Key)
	if e.File != "" {
		p += " (" + e.File + ")"
	}
	return p
}

// Error names the file and line where they are known, else the object.
func (e *ObjectError) Error() string {
	what := fmt.Sprintf("%s %s", e.Key.Kind, shortID(e.Key))
	switch {
	case e.File != "" && e.Line > 0:
		return fmt.Sprintf("%s: %s:%d: %s", what, e.File, e.Line, e.Msg)
	case e.File != "":
		return fmt.Sprintf("%s: %s: %s", what, e.File, e.Msg)
	}
	return what + ": " + e.Msg
}

// shortID is the object's id for a message; an authority written inline is
// its own id and too long.
func shortID(k fleet.ObjectKey) string {
	if strings.HasPrefix(k.ID, "-----BEGIN") {
		return "(inline)"
	}
	return k.ID
}

// World joins a Snapshot with all the objects that it names, those written
// inline in the Spec among them, and verifies each: zones parse and suit their
// steered names, certificates parse and have their keys, authorities parse. An
// object that the Spec does not name is an error. All errors are given at
// once. Shifts that the fleet has no region or service for are left out.
func World(s *fleet.Snapshot, objects []fleet.Object, shifts []fleet.Shift) (*fleet.World, error) {
	return assemble(s, s.Wanted(), objects, shifts)
}

// NodeWorld is World for one node, which has only the objects that its roles
// need.
func NodeWorld(s *fleet.Snapshot, node string, objects []fleet.Object, shifts []fleet.Shift) (*fleet.World, error) {
	return assemble(s, WantedBy(s, node), objects, shifts)
}

// WantedBy lists the objects that the node's roles need, in order: zones,
// secrets, authorities and the certificates that they show for nameservers,
// certificates, secrets, pages and the pools' authorities for gateways, the probes' authority
// for probers. A node that the Spec does not name needs none.
func WantedBy(s *fleet.Snapshot, node string) []fleet.ObjectKey {
	n := s.Node(node)
	if n == nil {
		return nil
	}
	var out []fleet.ObjectKey
	nameserver, gateway := s.DNSObjects(), s.GatewayObjects()
	for _, k := range s.Wanted() {
		need := n.Has(fleet.RoleDNS) && (k.Kind == fleet.ObjectZone || nameserver[k]) || n.Has(fleet.RoleL7) && gateway[k]
		switch k.Kind {
		case fleet.ObjectCertificate:
			need = need || n.Has(fleet.RoleL7)
		case fleet.ObjectCA:
			need = need || n.Has(fleet.RoleL7) || n.Has(fleet.RoleProbe) && k.ID == s.Spec.Probes.CA
		}
		if need {
			out = append(out, k)
		}
	}
	return out
}

func assemble(s *fleet.Snapshot, wanted []fleet.ObjectKey, objects []fleet.Object, shifts []fleet.Shift) (*fleet.World, error) {
	w := &fleet.World{Snapshot: s, Objects: map[fleet.ObjectKey]fleet.Object{}}
	var errs []error
	fail := func(o fleet.Object, format string, args ...any) {
		errs = append(errs, &ObjectError{Key: o.Key, File: o.File, Msg: fmt.Sprintf(format, args...)})
	}
	inline := Inline(s)
	named := map[fleet.ObjectKey]bool{}
	for _, k := range wanted {
		named[k] = true
	}
	for _, o := range objects {
		_, twice := w.Objects[o.Key]
		switch {
		case twice:
			fail(o, "is given twice")
		case !named[o.Key]:
			fail(o, "is not named by the Spec")
		default:
			w.Objects[o.Key] = o
		}
	}
	for _, k := range wanted {
		if o, ok := inline[k]; ok {
			w.Objects[k] = o
		}
		if _, ok := w.Objects[k]; !ok {
			fail(fleet.Object{Key: k}, "the Spec names it, and it is missing")
		}
	}
	w = WithShifts(w, shifts)
	if len(errs) == 0 {
		errs = verify(w, wanted)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return w, nil
}

// WithShifts gives the same World with other shifts; those that the fleet has
// no region or service for are left out.
func WithShifts(w *fleet.World, shifts []fleet.Shift) *fleet.World {
	next := &fleet.World{Snapshot: w.Snapshot, Objects: w.Objects, Zones: w.Zones, Live: w.Live}
	for _, sh := range shifts {
		if sh.Check(w.Snapshot) == nil {
			next.Shifts = append(next.Shifts, sh)
		}
	}
	sort.Slice(next.Shifts, func(i, j int) bool { return next.Shifts[i].ID < next.Shifts[j].ID })
	return next
}

// Inline gives the objects that stand in the Spec itself: zones by their
// records and authorities in PEM.
func Inline(s *fleet.Snapshot) map[fleet.ObjectKey]fleet.Object {
	out := map[fleet.ObjectKey]fleet.Object{}
	for _, z := range s.Spec.Zones {
		if z.Records != "" {
			k := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(z.Zone)}
			out[k] = fleet.Object{Key: k, Data: []byte(z.Records)}
		}
	}
	for _, k := range s.Wanted() {
		if k.Kind == fleet.ObjectCA && !strings.HasPrefix(k.ID, "file:") {
			out[k] = fleet.Object{Key: k, Data: []byte(k.ID)}
		}
	}
	return out
}

// verify checks the objects that are there.
func verify(w *fleet.World, wanted []fleet.ObjectKey) []error {
	var errs []error
	spec := w.Snapshot.Spec
	fail := func(k fleet.ObjectKey, err error) {
		if err != nil {
			errs = append(errs, &ObjectError{Key: k, File: w.Objects[k].File, Msg: err.Error()})
		}
	}
	filters := filter.Objects(spec)
	zones := false
	for _, k := range wanted {
		zones = zones || k.Kind == fleet.ObjectZone
		fail(k, checkObject(w.Objects[k], filters[k]))
	}
	for _, k := range spec.DNS.Keys {
		key := fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(k.Secret)}
		if o, ok := w.Objects[key]; ok {
			_, err := tsig.NewKey(k.Name, k.Algorithm, o.Data)
			fail(key, err)
		}
	}
	if len(spec.Certificates) > 0 && len(errs) == 0 && whole(w) { // a nameserver has only those that it shows
		if _, err := route.CompileCertificates(w); err != nil {
			errs = append(errs, err)
		}
	}
	if !zones { // likewise
		return errs
	}
	contents, err := zone.LoadWorld(w, nil)
	if err != nil {
		errs = append(errs, zoneErrors(w, err)...)
	}
	signed := map[fleet.Name]*zone.Zone{}
	for _, z := range contents {
		if z.Signed {
			signed[z.Name] = z
		}
	}
	for i := range spec.Zones {
		if z := &spec.Zones[i]; signed[z.Zone] != nil {
			fail(fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(z.Zone)}, CheckContent(spec, z, signed[z.Zone]))
		}
	}
	return errs
}

// checkObject checks one by itself; parse is the filters' for theirs. Zones are
// checked together.
func checkObject(o fleet.Object, parse func([]byte) error) error {
	switch o.Key.Kind {
	case fleet.ObjectPage:
		if len(o.Data) > fleet.MaxPage {
			return fmt.Errorf("is longer than %d octets", fleet.MaxPage)
		}
	case fleet.ObjectSecret:
		if parse != nil {
			return parse(o.Data)
		}
	case fleet.ObjectCertificate:
		return checkCertificate(o.Data)
	case fleet.ObjectCA:
		return checkAuthorities(o.Data)
	case fleet.ObjectLatency:
		_, err := steer.ParseLatencyMap(o.Data)
		return err
	}
	return nil
}

// whole says whether the World has every certificate of the Spec.
func whole(w *fleet.World) bool {
	for _, c := range w.Snapshot.Spec.Certificates {
		if _, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: c.ID}]; !ok && c.ACME == nil {
			return false
		}
	}
	return true
}

func checkCertificate(data []byte) error {
	c, err := tls.X509KeyPair(data, data)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	if len(c.Certificate) == 0 {
		return errors.New("holds no certificate")
	}
	return nil
}

func checkAuthorities(data []byte) error {
	n, rest := 0, data
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil || b.Type != "CERTIFICATE" {
			line := 1 + bytes.Count(data[:len(data)-len(rest)], []byte("\n"))
			return fmt.Errorf("the PEM block that ends before line %d is not a certificate", line)
		}
		n++
	}
	if n == 0 {
		return errors.New("holds no certificate in PEM")
	}
	return nil
}

// zoneErrors turns what the zones' own room says, a line each, into
// ObjectErrors.
func zoneErrors(w *fleet.World, err error) []error {
	var out []error
	var walk func(zone string, err error)
	walk = func(zone string, err error) {
		if j, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range j.Unwrap() {
				walk(zone, e)
			}
			return
		}
		msg := err.Error()
		if zone == "" { // "zone NAME: …", around one error or several
			rest, _ := strings.CutPrefix(msg, "zone ")
			name, _, _ := strings.Cut(rest, ": ")
			if inner := errors.Unwrap(err); inner != nil {
				walk(name, inner)
				return
			}
			zone, msg = name, strings.TrimPrefix(rest, name+": ")
		}
		key := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: zone}
		oe := &ObjectError{Key: key, File: w.Objects[key].File, Msg: msg}
		if at, m, ok := strings.Cut(msg, ": "); ok {
			file, num, _ := strings.Cut(at, ":")
			if n, err := strconv.Atoi(num); err == nil && (file == oe.File || oe.File == "") {
				oe.Line, oe.Msg = n, m
			}
		}
		out = append(out, oe)
	}
	walk("", err)
	return out
}
