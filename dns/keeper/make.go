package keeper

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// job is the making of one zone.
type job struct {
	*run
	name fleet.Name
	z    *kept
	spec *fleet.Zone
	set  fleet.ZoneSettings
	from fleet.Object // its content
	old  *zone.Zone   // what was made before; nil where there is none
	made []byte       // old's octets

	policy  *fleet.DNSSECPolicy
	records []sign.Record // besides the content: aliases, signals of other zones
	drop    []sign.Drop
}

// make makes a zone; wanted is false where the fleet does not write it, or
// has nothing to add to it.
//
// An error is the caller's concern where the zone's inputs have just changed;
// where they are what they were, it is told of apart (see Derive).
func (r *run) make(name fleet.Name, z *kept) (obj fleet.Object, wanted bool, err error) {
	j := &job{run: r, name: name, z: z, spec: r.spec(name)}
	known := z.inputs
	z.changed = false
	if j.spec == nil {
		return obj, false, nil
	}
	j.set = r.w.Snapshot.Spec.Settings(j.spec)
	if len(j.set.Primaries) > 0 {
		return obj, false, nil // its primaries write it
	}
	if j.set.DNSSEC != "" {
		j.policy = r.w.Snapshot.Spec.DNSSECPolicy(j.set.DNSSEC)
	}
	if made, err := j.catalog(); err != nil {
		return obj, true, err
	} else if !made && !j.content() {
		return obj, false, nil
	}
	if err := j.loadState(); err != nil {
		return obj, true, err
	}
	if err := j.collect(); err != nil {
		return obj, true, err
	}
	if !j.wanted() {
		return obj, false, nil
	}
	if had, ok := r.old.Get(name); ok && sameData(had, z.object) {
		z.object = had // one copy of what is published
	}
	inputs := j.fingerprint()
	z.changed = known != "" && inputs != known
	if inputs == z.inputs && (z.next.IsZero() || z.next.After(r.now)) && r.holds(z.object) {
		return z.object, true, nil
	}
	if err := j.refresh(); err != nil {
		return obj, true, err
	}
	if inputs == z.inputs {
		if ok, err := j.rest(); ok || err != nil {
			return z.object, true, err
		}
	}
	if err := j.derive(z.inputs != "" && inputs != z.inputs && r.holds(z.object)); err != nil {
		return obj, true, err
	}
	z.inputs = j.fingerprint() // with the keys as they are now
	return z.object, true, nil
}

// holds says whether what was made is still what is published, or will be.
func (r *run) holds(o fleet.Object) bool {
	had, ok := r.old.Get(fleet.Name(o.Key.ID))
	return ok && sameData(had, o)
}

// sameData compares contents: whoever keeps objects may name their versions
// in another way.
func sameData(a, b fleet.Object) bool {
	return len(a.Data) == len(b.Data) && (len(a.Data) == 0 || &a.Data[0] == &b.Data[0] || bytes.Equal(a.Data, b.Data))
}

// content finds the zone's content; false where there is none yet.
func (j *job) content() bool {
	if o, ok := j.contents.Get(j.name); ok {
		j.from = o
		return true
	}
	if o, ok := j.w.Objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(j.name)}]; ok {
		j.from = o
		return true
	}
	j.from = fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(j.name)}, Data: []byte(j.spec.Records)}
	return j.spec.Records != ""
}

// wanted says whether the zone differs from its content, or has its content
// from where nameservers do not see it.
func (j *job) wanted() bool {
	return j.spec.Dynamic || j.policy != nil || j.z.state != nil || len(j.spec.Aliases) > 0 || len(j.records) > 0 ||
		j.set.Serial != fleet.SerialKeep || j.set.ZONEMD == fleet.ZONEMDGenerate || j.ahead()
}

// ahead says whether what was made before has a serial after the content's:
// secondaries that know it would not take the content. So it is with a zone
// that was signed or dynamic before.
func (j *job) ahead() bool {
	o, ok := j.run.old.Get(j.name)
	if !ok {
		return false
	}
	old, err := decode(o)
	if err != nil {
		return false
	}
	base, err := zone.Load(j.name, j.from.Data, j.from.File)
	return err == nil && !base.Signed && sign.SerialAfter(old.Serial, base.Serial)
}

// loadState reads the keys of a zone that is signed or was.
func (j *job) loadState() error {
	z := j.z
	z.policy = j.policy
	if j.policy == nil && z.state == nil && z.inputs != "" {
		return nil // known to have none
	}
	if z.state != nil && z.inputs != "" {
		return nil // Invalidate forgets it where another changed it
	}
	if j.k.cfg.Keys == nil {
		if j.policy != nil {
			return errors.New("is to be signed, and this process has no key store")
		}
		return nil
	}
	if j.policy == nil && !j.maybeSigned() {
		return nil
	}
	b, version, err := j.k.cfg.Keys.Load(j.ctx, j.name)
	if err != nil {
		return fmt.Errorf("loading its keys: %w", err)
	}
	z.state, z.version = nil, version
	if len(b) > 0 {
		if z.state, err = sign.DecodeState(b); err != nil {
			return err
		}
	}
	if j.policy == nil && (z.state == nil || len(z.state.Keys) == 0) {
		z.state = nil
	}
	return nil
}

// refresh reads the keys again where another process may have changed them:
// nothing is made by keys that are not the latest.
func (j *job) refresh() error {
	z := j.z
	if z.inputs == "" || z.state == nil {
		return nil // read just now, or there are none
	}
	b, version, err := j.k.cfg.Keys.Load(j.ctx, j.name)
	if err != nil {
		return fmt.Errorf("loading its keys: %w", err)
	}
	if version == z.version {
		return nil
	}
	state, err := sign.DecodeState(b)
	if err != nil {
		return err
	}
	z.state, z.version, z.inputs = state, version, ""
	return nil
}

// maybeSigned says whether a zone without a policy may have keys: where the
// store says so, or what is published of it is signed and its content is not.
func (j *job) maybeSigned() bool {
	if _, ok := j.k.cfg.Keys.(Lister); ok {
		return j.z.inputs == ""
	}
	o, ok := j.run.old.Get(j.name)
	return ok && !sameData(o, j.from)
}

// collect gathers what goes into the zone besides its content.
func (j *job) collect() error {
	j.aliases()
	for _, rec := range j.k.signalsFor(j.name) {
		j.records = append(j.records, rec)
		j.drop = append(j.drop, sign.Drop{Owner: string(rec.Owner), Type: rec.Type})
	}
	j.records = append(j.records, j.texts(j.name)...)
	signed := j.policy != nil || j.z.state != nil
	var now []sign.Variants
	if len(j.spec.Steered) > 0 {
		exports, err := j.exports()
		if err != nil {
			return err
		}
		list, err := exports.Variants(j.spec, signed)
		if err != nil {
			return err
		}
		for _, v := range list {
			now = append(now, sign.Variants{Owner: zone.Wire(v.Name), Type: v.Type, Empty: v.Empty, Sets: v.Sets, Export: v.Export})
		}
	}
	if !signed {
		j.z.now, j.z.before = now, nil
		return nil
	}
	if j.z.now == nil || !sameVariants(now, j.z.now) {
		j.z.before, j.z.now = j.z.now, now
	}
	return nil
}

func sameVariants(a, b []sign.Variants) bool {
	return slices.EqualFunc(a, b, func(x, y sign.Variants) bool {
		return string(x.Owner) == string(y.Owner) && x.Type == y.Type && x.Empty == y.Empty && string(x.Export) == string(y.Export) &&
			slices.EqualFunc(x.Sets, y.Sets, func(p, q zone.RRset) bool { return p.TTL == q.TTL && string(p.Data) == string(q.Data) })
	})
}

// variants gives what the steered names can answer with now, and could before
// the last change of intent: nodes come to the new World one after another,
// and signatures must be there in either order.
func (j *job) variants() []sign.Variants {
	out := slices.Clone(j.z.now)
	before := j.z.before
	if j.old != nil && (before == nil || !j.holds(j.z.object)) { // another process made it: what is published tells
		before = nil
		for i := range out {
			v := sign.Variants{Owner: out[i].Owner, Type: out[i].Type}
			for _, had := range j.old.Variants(string(v.Owner), v.Type) {
				v.Sets = append(v.Sets, had.Set)
			}
			before = append(before, v)
		}
		j.z.before = before
	}
	for i := range out {
		for _, b := range before {
			if string(b.Owner) != string(out[i].Owner) || b.Type != out[i].Type {
				continue
			}
			out[i].Empty = out[i].Empty || b.Empty
			sets := slices.Clone(out[i].Sets)
			for _, s := range b.Sets {
				if !slices.ContainsFunc(sets, func(h zone.RRset) bool { return h.TTL == s.TTL && string(h.Data) == string(s.Data) }) {
					sets = append(sets, s)
				}
			}
			out[i].Sets = sets
		}
	}
	return out
}

// fingerprint names all that the zone is made of, time apart.
func (j *job) fingerprint() string {
	h := sha256.New()
	if j.from.Version != "" {
		_, _ = io.WriteString(h, j.from.Version)
	} else {
		_, _ = h.Write(j.from.Data)
	}
	spec := *j.spec
	spec.Records = ""
	for _, v := range []any{spec, j.set, j.policy} {
		b, _ := json.Marshal(v)
		_, _ = h.Write(append(b, 0))
	}
	if j.z.state != nil {
		_, _ = io.WriteString(h, shown(j.z.state))
	}
	for _, r := range j.records {
		_, _ = fmt.Fprintf(h, "%q %d %d %q\n", r.Owner, r.Type, r.TTL, r.Data)
	}
	for _, list := range [][]sign.Variants{j.z.now, j.z.before} {
		for _, v := range list {
			_, _ = fmt.Fprintf(h, "%q %d %v %q\n", v.Owner, v.Type, v.Empty, v.Export)
			for _, s := range v.Sets {
				_, _ = fmt.Fprintf(h, "%d %q\n", s.TTL, s.Data)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// derive makes the zone. changed says that its inputs are known to have
// changed, and not only time, since what is published was made: by another
// process it may have been made of them.
func (j *job) derive(changed bool) error {
	base, err := zone.Load(j.name, j.from.Data, j.from.File)
	if err != nil {
		return err
	}
	if o, ok := j.run.old.Get(j.name); ok {
		if j.old, err = decode(o); err != nil {
			j.k.log.Warn("what was made of the zone before is not readable; it is made anew", "zone", j.name, "error", err)
		}
		j.made = o.Data
	}
	if err := j.keepAliases(base); err != nil {
		return err
	}
	if j.policy == nil && j.z.state == nil && base.Signed {
		if len(j.records) > 0 {
			return errors.New("is signed elsewhere: records that the fleet adds to it would have no signatures")
		}
		return j.done(base, sign.Stats{}, time.Time{})
	}
	if j.policy != nil && j.z.state == nil && j.z.version == "" && j.old != nil && j.old.Signed && !base.Signed {
		return fmt.Errorf("is signed with keys that are lost, and with new ones it would be bogus: gslb keys restore or import them"+
			" (to begin anew once the parent has no DS: gslb keys new %s)", j.name)
	}
	if err := j.barred(); err != nil {
		return err
	}
	j.z.maxTTL = maxTTL(base, j.z.now)
	next, err := j.step()
	if err != nil {
		return err
	}
	served, stats, err := j.sign(base, changed)
	if err != nil {
		return err
	}
	return j.done(served, stats, next)
}

// sign makes the zone with the serial that it is served with: a new one where
// anything is new.
func (j *job) sign(base *zone.Zone, changed bool) (*zone.Zone, sign.Stats, error) {
	o := sign.Options{State: j.z.state, Policy: j.signingPolicy(), Now: j.now, Old: j.old,
		Records: j.records, Drop: j.drop, ZONEMD: j.set.ZONEMD == fleet.ZONEMDGenerate, Each: parallel}
	if o.Variants = j.z.now; j.z.state != nil {
		o.Variants = j.variants()
	}
	if j.old == nil {
		o.Serial = sign.NextSerial(j.set.Serial, 0, base.Serial, true, j.now)
		return sign.Sign(base, &o)
	}
	policy := j.set.Serial
	if policy == fleet.SerialKeep && sign.SerialAfter(j.old.Serial, base.Serial) {
		policy = fleet.SerialIncrement // it never goes back
	}
	next := sign.NextSerial(policy, j.old.Serial, base.Serial, false, j.now)
	made := 0
	if !changed && (policy != fleet.SerialKeep || next == j.old.Serial) { // is anything new at all?
		o.Serial = j.old.Serial
		served, stats, err := sign.Sign(base, &o)
		if err != nil || string(served.Encode()) == string(j.made) {
			return served, stats, err
		}
		o.Old, made = served, stats.Made
	}
	o.Serial = next
	served, stats, err := sign.Sign(base, &o)
	stats.Made += made
	return served, stats, err
}

// signingPolicy is the zone's policy, or the last one of a zone that is being
// unsigned.
func (j *job) signingPolicy() *fleet.DNSSECPolicy {
	if j.policy == nil && j.z.state != nil {
		return j.z.state.Policy
	}
	return j.policy
}

// done notes what was made.
func (j *job) done(served *zone.Zone, stats sign.Stats, next time.Time) error {
	z := j.z
	data := served.Encode()
	z.object = rules.ZoneObject(j.name, data)
	z.stats, z.next = stats, next
	if !stats.Refresh.IsZero() && (z.next.IsZero() || stats.Refresh.Before(z.next)) {
		z.next = stats.Refresh
	}
	if z.state == nil && !j.wanted() || !z.next.IsZero() && !z.next.After(j.now) { // just unsigned: nothing but its content now
		z.next = j.now.Add(time.Second)
	}
	z.signal = nil
	if z.state != nil && j.policy != nil {
		z.signal = sign.Signal(j.name, z.state, j.policy)
	}
	j.k.metrics.signatures.Add(float64(stats.Made))
	return nil
}

// maxTTL is the greatest TTL of a zone's content, its negative TTL among them.
func maxTTL(z *zone.Zone, variants []sign.Variants) uint32 {
	var out uint32
	for n := range z.Nodes() {
		for i := range n.Sets {
			out = max(out, n.Sets[i].TTL)
			if n.Sets[i].Type == zone.TypeSOA {
				rdata, _ := zone.Next(n.Sets[i].Data)
				out = max(out, min(n.Sets[i].TTL, binary.BigEndian.Uint32(rdata[len(rdata)-4:])))
			}
		}
	}
	for _, v := range variants {
		for i := range v.Sets {
			out = max(out, v.Sets[i].TTL)
		}
	}
	return out
}
