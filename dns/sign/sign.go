package sign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Options are what a zone is made by besides its content.
type Options struct {
	State    *State              // keys; nil or without keys: the zone is not signed
	Policy   *fleet.DNSSECPolicy // with keys
	Serial   uint32              // of the SOA
	Now      time.Time
	Old      *zone.Zone // what was made before, whose signatures are used again where they can be; may be nil
	Variants []Variants // what the steered names can answer with
	Records  []Record   // further records
	Drop     []Drop     // records of the content that Records stand in place of
	ZONEMD   bool       // add a digest of the zone as transfers show it (RFC 8976)

	// Each calls do for each of 0 to n-1, several at a time if it likes, and
	// returns when all are done; nil for one after another.
	Each func(n int, do func(i int))
}

// Variants is everything that a steered name can answer with for one type.
type Variants struct {
	Owner  []byte       // wire form, lower case
	Type   uint16       // A, AAAA or HTTPS
	Empty  bool         // the type may be absent: NODATA
	Sets   []zone.RRset // records in canonical order
	Export []byte       // Data of the one of Sets that transfers show; empty for none, which needs Empty
}

// Record is one record.
type Record struct {
	Owner []byte // wire form, lower case
	Type  uint16
	TTL   uint32
	Data  []byte
}

// Drop names an RRset.
type Drop struct {
	Owner string // wire form, lower case
	Type  uint16
}

// Stats is what making a zone came to.
type Stats struct {
	Made    int       // signatures
	Kept    int       // signatures that were used again
	Refresh time.Time // when to make the zone again for its signatures' sake; zero where it has none
	Expires time.Time // when the first signature expires
}

// skew is how long before now signatures begin, for validators whose clocks
// are slow.
const skew = time.Hour

// Sign makes the zone that is served of one as it is written: serial, further
// records, keys, signatures over every set that the zone is authoritative for
// and over every variant of its steered names, and the chain that denies. A
// signature made before is used again while the set is the same and it has
// more time left than the policy's refresh; so the change of one record makes
// O(1) signatures. DNSSEC records that the content has are left out, but for
// DNSKEYs of others in a zone that is not signed.
func Sign(base *zone.Zone, o *Options) (*zone.Zone, Stats, error) {
	m, err := newMaker(base, o)
	if err != nil {
		return nil, Stats{}, err
	}
	if err := m.collect(); err != nil {
		return nil, Stats{}, err
	}
	if len(m.signers) > 0 {
		m.addKeys()
		m.chain()
	}
	if err := m.signAll(); err != nil {
		return nil, Stats{}, err
	}
	z, err := m.build()
	if err != nil {
		return nil, Stats{}, fmt.Errorf("zone %s: %w", base.Name, err)
	}
	z.Online = m.online()
	return z, m.stats, nil
}

// maker makes one zone.
type maker struct {
	*Options
	base    *zone.Zone
	apex    string
	signers []*signer
	old     []bool // by signer: the old zone's signatures of its tag are its own
	negTTL  uint32 // of denial: RFC 9077
	owners  []*owner
	byName  map[string]*owner
	items   []*item
	stats   Stats
	horizon time.Time // signatures to be refreshed before it are made anew now
}

// owner is one name of the zone in the making.
type owner struct {
	name    string
	sets    []*item
	cut     bool     // a delegation
	hidden  bool     // below a delegation: glue, or not served
	steered []*steer // types that it answers by steering
}

type steer struct {
	*Variants
	items []*item
}

// item is a set with what is to sign it.
type item struct {
	owner   string
	set     zone.RRset // without signatures
	by      signedBy
	lacks   []uint16 // of an alternative NSEC or NSEC3
	variant bool
	export  bool   // lacks, variant: transfers show it
	hash    string // of an NSEC3
	sigs    []byte
	made    int
	kept    int
	expires time.Time
	err     error
}

type signedBy uint8

const (
	byNone signedBy = iota
	byZone          // the keys that sign the zone
	byKeys          // the keys that sign the DNSKEY set
	byAll           // both
)

func newMaker(base *zone.Zone, o *Options) (*maker, error) {
	m := &maker{Options: o, base: base, apex: base.Apex().Name, byName: map[string]*owner{}}
	soa := base.Apex().Get(zone.TypeSOA)
	if soa == nil {
		return nil, fmt.Errorf("zone %s: has no SOA", base.Name)
	}
	rdata, _ := zone.Next(soa.Data)
	m.negTTL = min(soa.TTL, binary.BigEndian.Uint32(rdata[len(rdata)-4:]))
	if o.State == nil || !o.State.Signed() {
		return m, nil
	}
	if o.Policy == nil {
		return nil, fmt.Errorf("zone %s: has keys and no policy", base.Name)
	}
	for i := range o.State.Keys {
		k := &o.State.Keys[i]
		if !k.DNSKEY.published() && !k.RRSIG.published() {
			continue
		}
		s, err := newSigner(k)
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", base.Name, err)
		}
		m.signers = append(m.signers, s)
		m.old = append(m.old, m.knows(s))
	}
	step := (o.Policy.Validity - o.Policy.Refresh).D() / 64
	m.horizon = o.Now.Add(o.Policy.Refresh.D() + step)
	return m, nil
}

// knows says whether signatures in the old zone that have the signer's tag
// are its own: one that every zone has is verified.
func (m *maker) knows(s *signer) bool {
	if m.Old == nil {
		return false
	}
	t := uint16(zone.TypeSOA)
	if !s.key.RRSIG.published() {
		t = zone.TypeDNSKEY
	}
	return s.signs(m.Old, t)
}

// head gives an RRSIG RDATA up to the signature, if it has the signer's
// algorithm and tag.
func (s *signer) head(sig []byte) ([]byte, bool) {
	if len(sig) < 19 || sig[2] != s.key.Algorithm || binary.BigEndian.Uint16(sig[16:]) != s.tag {
		return nil, false
	}
	n := zone.WireLen(sig[18:])
	return sig[:18+n], n > 0
}

// own gives the owner of a name, made where there is none.
func (m *maker) own(name string) *owner {
	o := m.byName[name]
	if o == nil {
		o = &owner{name: name}
		m.byName[name] = o
		m.owners = append(m.owners, o)
	}
	return o
}

// add adds a set. It is not signed where the zone is not authoritative for it.
func (m *maker) add(o *owner, set zone.RRset, by signedBy) {
	set.Sigs = nil
	if o.hidden || o.cut && set.Type != zone.TypeDS && set.Type != zone.TypeNSEC {
		by = byNone
	}
	it := &item{owner: o.name, set: set, by: by}
	o.sets = append(o.sets, it)
	m.items = append(m.items, it)
}

// collect takes over the content, with the new serial and without what is
// made here.
func (m *maker) collect() error {
	drop := make(map[Drop]bool, len(m.Drop))
	for _, d := range m.Drop {
		drop[d] = true
	}
	for n := range m.base.Nodes() {
		r := m.base.Lookup([]byte(n.Name))
		if len(n.Sets) == 0 {
			continue // empty non-terminals come of themselves
		}
		o := m.own(n.Name)
		o.cut = r.Kind == zone.Delegation && r.Exact
		o.hidden = r.Kind == zone.Redirect || r.Kind == zone.Delegation && !r.Exact
		for _, set := range n.Sets {
			if m.ours(n, set.Type) || drop[Drop{n.Name, set.Type}] {
				continue
			}
			if set.Type == zone.TypeSOA {
				set.Data = slices.Clone(set.Data)
				binary.BigEndian.PutUint32(set.Data[len(set.Data)-20:], m.Serial)
			}
			m.add(o, set, byZone)
		}
	}
	for _, r := range m.Records {
		if err := m.addRecord(r); err != nil {
			return err
		}
	}
	for i := range m.Variants {
		v := &m.Variants[i]
		o := m.own(string(v.Owner))
		st := &steer{Variants: v}
		o.steered = append(o.steered, st)
		for _, set := range v.Sets {
			set.Sigs = nil
			it := &item{owner: o.name, set: set, by: byZone, variant: true, export: bytes.Equal(set.Data, v.Export)}
			st.items = append(st.items, it)
			m.items = append(m.items, it)
		}
	}
	return nil
}

// ours says whether sets of a type in the content are left out, since they
// are made here.
func (m *maker) ours(n *zone.Node, t uint16) bool {
	switch t {
	case zone.TypeRRSIG, zone.TypeNSEC, zone.TypeNSEC3, zone.TypeNSEC3PARAM:
		return len(m.signers) > 0 || m.base.Signed
	case zone.TypeCDS, zone.TypeCDNSKEY:
		return len(m.signers) > 0 && n.Name == m.apex
	case zone.TypeDNSKEY:
		return m.base.Signed && n.Name == m.apex
	case zone.TypeZONEMD:
		return n.Name == m.apex && (m.ZONEMD || m.base.Serial != m.Serial || len(m.signers) > 0 || len(m.Variants) > 0)
	}
	return false
}

// addRecord adds one record to its set.
func (m *maker) addRecord(r Record) error {
	if !m.base.Holds(r.Owner) {
		return fmt.Errorf("zone %s: %s is out of the zone", m.base.Name, zone.Text(r.Owner))
	}
	o := m.own(string(r.Owner))
	for _, it := range o.sets {
		if it.set.Type != r.Type {
			continue
		}
		var list [][]byte
		for rdata := range each(it.set.Data) {
			list = append(list, rdata)
		}
		it.set = newSet(r.Type, min(it.set.TTL, r.TTL), append(list, r.Data)...)
		return nil
	}
	m.add(o, newSet(r.Type, r.TTL, r.Data), byZone)
	return nil
}

// newSet makes a set of RDATAs, in canonical order and each once.
func newSet(t uint16, ttl uint32, rdatas ...[]byte) zone.RRset {
	slices.SortFunc(rdatas, func(a, b []byte) int { return bytes.Compare(zone.Canonical(t, a), zone.Canonical(t, b)) })
	rdatas = slices.CompactFunc(rdatas, bytes.Equal)
	set := zone.RRset{Type: t, TTL: ttl, Count: len(rdatas)}
	for _, r := range rdatas {
		set.Data = appendRData(set.Data, r)
	}
	return set
}

// addKeys adds the DNSKEY set and what the parent is told.
func (m *maker) addKeys() {
	apex := m.own(m.apex)
	ttl := seconds(m.Policy.TTL)
	var keys [][]byte
	for _, k := range m.State.Published() {
		keys = append(keys, k.RData())
	}
	for i, it := range apex.sets { // DNSKEYs of others (RFC 8901) join ours
		if it.set.Type == zone.TypeDNSKEY {
			for rdata := range each(it.set.Data) {
				keys = append(keys, rdata)
			}
			apex.sets = slices.Delete(apex.sets, i, i+1)
			m.items = slices.DeleteFunc(m.items, func(o *item) bool { return o == it })
			break
		}
	}
	m.add(apex, newSet(zone.TypeDNSKEY, ttl, keys...), byKeys)
	cds, cdnskey := ParentSets(m.base.Name, m.State, m.Policy)
	if len(cds) > 0 {
		m.add(apex, newSet(zone.TypeCDS, ttl, cds...), byAll)
		m.add(apex, newSet(zone.TypeCDNSKEY, ttl, cdnskey...), byAll)
	}
}

// signAll makes every signature that is missing; ZONEMD comes last, since its
// digest is over all others.
func (m *maker) signAll() error {
	if m.ZONEMD {
		m.add(m.own(m.apex), newSet(zone.TypeZONEMD, m.soaTTL(), make([]byte, 6)), byZone)
	}
	if len(m.signers) == 0 {
		return nil
	}
	run := m.Each
	if run == nil {
		run = func(n int, do func(int)) {
			for i := range n {
				do(i)
			}
		}
	}
	run(len(m.items), func(i int) { m.sign(m.items[i]) })
	var errs []error
	for _, it := range m.items {
		m.count(it)
		if it.err != nil && len(errs) < 10 {
			errs = append(errs, it.err)
		}
	}
	return errors.Join(errs...)
}

func (m *maker) count(it *item) {
	m.stats.Made += it.made
	m.stats.Kept += it.kept
	if it.expires.IsZero() {
		return
	}
	if m.stats.Expires.IsZero() || it.expires.Before(m.stats.Expires) {
		m.stats.Expires = it.expires
		m.stats.Refresh = it.expires.Add(-m.Policy.Refresh.D())
	}
}

func (m *maker) soaTTL() uint32 { return m.base.Apex().Get(zone.TypeSOA).TTL }

// sign gives a set its signatures, old ones where they will do.
func (m *maker) sign(it *item) {
	if it.by == byNone || it.set.Count == 0 {
		return
	}
	old := m.oldSigs(it)
	for i, s := range m.signers {
		zoneKey, setKey := s.key.RRSIG.published(), s.key.Role.secure() && s.key.DNSKEY.published()
		if !(it.by != byKeys && zoneKey || it.by != byZone && setKey) {
			continue
		}
		sig, expires := m.reuse(s, m.old[i], old)
		if sig != nil {
			it.kept++
		} else if sig, expires, it.err = m.make(s, it); it.err != nil {
			return
		} else {
			it.made++
		}
		it.sigs = appendRData(it.sigs, sig)
		if it.expires.IsZero() || expires.Before(it.expires) {
			it.expires = expires
		}
	}
}

// oldSigs gives the signatures that the old zone has for the very same set.
func (m *maker) oldSigs(it *item) []byte {
	if m.Old == nil {
		return nil
	}
	same := func(set *zone.RRset) bool {
		return set != nil && set.Type == it.set.Type && set.TTL == it.set.TTL && bytes.Equal(set.Data, it.set.Data)
	}
	var set *zone.RRset
	switch {
	case it.variant || len(it.lacks) > 0:
		for _, v := range m.Old.Variants(it.owner, it.set.Type) {
			if same(&v.Set) {
				return v.Set.Sigs
			}
		}
	case it.hash != "":
		if n, match := m.Old.NSEC3([]byte(it.hash)); match {
			set = &n.Set
		}
	default:
		if n := m.Old.Node([]byte(it.owner)); n != nil {
			set = n.Get(it.set.Type)
		}
	}
	if same(set) {
		return set.Sigs
	}
	return nil
}

// reuse gives an old signature of the signer's that may still be used.
func (m *maker) reuse(s *signer, known bool, old []byte) ([]byte, time.Time) {
	if !known {
		return nil, time.Time{}
	}
	now := uint32(m.Now.Unix())
	for sig := range each(old) {
		if _, ok := s.head(sig); !ok {
			continue
		}
		left := int32(binary.BigEndian.Uint32(sig[8:]) - now) // RFC 4034 section 3.1.5: serial arithmetic
		begun := int32(now - binary.BigEndian.Uint32(sig[12:]))
		expires := m.Now.Add(time.Duration(left) * time.Second)
		if begun >= 0 && expires.After(m.horizon) && time.Duration(left)*time.Second <= m.Policy.Validity.D() {
			return sig, expires
		}
	}
	return nil, time.Time{}
}

// make makes a signature. It expires up to half of the time between refreshes
// early, differently for each set, so that not all are made anew at once.
func (m *maker) make(s *signer, it *item) ([]byte, time.Time, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(it.owner))
	_, _ = h.Write([]byte{byte(it.set.Type >> 8), byte(it.set.Type), byte(s.tag >> 8), byte(s.tag)})
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(m.Now.Unix())))
	spread := uint64((m.Policy.Validity - m.Policy.Refresh).D() / time.Second / 2)
	early := time.Duration(0)
	if spread > 0 {
		early = time.Duration(h.Sum64()>>8%spread) * time.Second
	}
	expires := m.Now.Add(m.Policy.Validity.D() - early).Truncate(time.Second)
	head := binary.BigEndian.AppendUint16(nil, it.set.Type)
	head = append(head, s.key.Algorithm, labels(it.owner))
	head = binary.BigEndian.AppendUint32(head, it.set.TTL)
	head = binary.BigEndian.AppendUint32(head, uint32(expires.Unix()))
	head = binary.BigEndian.AppendUint32(head, uint32(m.Now.Add(-skew).Unix()))
	head = binary.BigEndian.AppendUint16(head, s.tag)
	head = append(head, m.apex...)
	sig, err := s.sign(signedData(head, it.owner, &it.set))
	if err != nil {
		return nil, expires, fmt.Errorf("zone %s: %w", m.base.Name, err)
	}
	return append(head, sig...), expires, nil
}
