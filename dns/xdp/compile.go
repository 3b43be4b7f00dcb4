package xdp

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// typeOther is the first of those for private use: what one of them gets that a
// name has not stands for all types that the name has not.
const (
	typeOther = 65280
	typeCAA   = 257
)

// aliasTypes are those that are made ready for names whose answer leads on to
// another name: what is there depends on the type.
var aliasTypes = []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS, zone.TypeCNAME, zone.TypeMX, zone.TypeTXT,
	zone.TypeNS, zone.TypeSRV, zone.TypeSOA, zone.TypeDS, typeCAA, zone.TypePTR}

// commonTypes come first where a name has more types than the program looks
// through.
var commonTypes = []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS, zone.TypeNS, zone.TypeSOA, zone.TypeMX, zone.TypeTXT, zone.TypeDNSKEY, zone.TypeDS}

// maxCuts is MAX_CUTS of the program.
const maxCuts = 10

// compiler asks a plan for all that the program may answer.
type compiler struct {
	plan *answer.Plan
	w    answer.Worker
	key  uint64
	out  [answer.PayloadUDP]byte

	arena  arena
	room   int // blocks that may be filled
	nodes  map[uint64]ref
	order  []uint64     // their hashes, as they came
	left   []fleet.Name // zones that had no room
	zones  *zoneNumbers
	zone   uint16              // number of the zone at hand
	clash  bool                // two names have one hash
	seen   map[shown]bool      // answers whose names have been looked at
	ghosts map[string]struct{} // names that do not exist, and that answers mention
	queue  []ghost
	absent map[*zone.Zone]*absence

	deciding *decider
	variants []ref             // of all faces
	faces    map[faceKey]ref   // the records of those that several names share
	direct   map[directKey]ref // likewise, before they are made
}

// shown is an answer that stands below names of a zone.
type shown struct {
	zone   *zone.Zone
	answer ref
}

// ghost is a name in a zone that does not exist.
type ghost struct {
	zone *zone.Zone
	name []byte
}

// image is what the maps hold.
type image struct {
	blocks    [][]byte
	directory *directory
	names     int
	variants  []ref
	compiler  *compiler // for what comes later
}

// zoneNumbers are what zones are counted by, for as long as counts last.
type zoneNumbers struct {
	mu      sync.Mutex
	numbers map[fleet.Name]uint16
	names   []fleet.Name // by number; 0 stands for zones that have none
}

// maxZones is MAX_ZONES of the program.
const maxZones = 1024

func newZoneNumbers() *zoneNumbers {
	return &zoneNumbers{numbers: map[fleet.Name]uint16{}, names: []fleet.Name{""}}
}

func (z *zoneNumbers) of(name fleet.Name) uint16 {
	z.mu.Lock()
	defer z.mu.Unlock()
	n, ok := z.numbers[name]
	if !ok && len(z.names) < maxZones {
		n = uint16(len(z.names))
		z.numbers[name], z.names = n, append(z.names, name)
	}
	return n
}

// list gives the names by number.
func (z *zoneNumbers) list() []fleet.Name {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.names[:len(z.names):len(z.names)]
}

// compile makes the image of a plan, of as many blocks as there is room for; key
// is the hash's.
func compile(p *answer.Plan, key uint64, zones *zoneNumbers, room int) (*image, error) {
	for {
		c := &compiler{plan: p, key: key, zones: zones, room: room, arena: arena{known: map[string]ref{}}, nodes: map[uint64]ref{},
			seen: map[shown]bool{}, absent: map[*zone.Zone]*absence{}, ghosts: map[string]struct{}{}, deciding: newDecider(p),
			faces: map[faceKey]ref{}, direct: map[directKey]ref{}}
		c.all()
		if !c.clash {
			d, err := newDirectory(key, c.nodes)
			if err == nil {
				return &image{c.arena.blocks, d, len(c.nodes), c.variants, c}, nil
			}
		}
		key = key*0x9e3779b97f4a7c15 + 1
	}
}

func (c *compiler) all() {
	c.stub(c.plan.Fast().Whoami)
	for apex := range c.plan.Unavailable() {
		c.stub([]byte(apex))
	}
	zones := slices.SortedFunc(c.plan.Zones(), func(a, b *zone.Zone) int { // so that the most of them have room
		return cmp.Or(a.Records()-b.Records(), strings.Compare(string(a.Name), string(b.Name)))
	})
	for _, z := range zones {
		c.zone = c.zones.of(z.Name)
		mark := c.mark()
		if !c.whole(z) {
			c.rewind(mark)
			c.stub([]byte(z.Apex().Name))
			c.left = append(c.left, z.Name)
		}
	}
}

// whole places all names of a zone; false where there is no room for them.
func (c *compiler) whole(z *zone.Zone) bool {
	for n := range z.Nodes() {
		if name := []byte(n.Name); c.holds(z, name) {
			c.exists(z, n, name)
		}
		if len(c.arena.blocks) > c.room {
			return false
		}
	}
	for len(c.queue) > 0 {
		g := c.queue[len(c.queue)-1]
		c.queue = c.queue[:len(c.queue)-1]
		c.missing(g.zone, g.name)
	}
	return len(c.arena.blocks) <= c.room
}

// holds says whether names at a node of a zone are that zone's, and not those
// of one below it, and whether the program knows such long ones.
func (c *compiler) holds(z *zone.Zone, name []byte) bool {
	return len(name) <= maxName && c.plan.Deepest(name) == z
}

// stub makes all at and below a name the sockets'.
func (c *compiler) stub(name []byte) {
	if name != nil && len(name) <= maxName {
		c.node(name, [2]ref{}, pad(kindsRecord(nil, [2]ref{})))
	}
}

// node places one; kinds is its record.
func (c *compiler) node(name []byte, below [2]ref, kinds []byte) {
	h := hashOf(c.key, name)
	if _, had := c.nodes[h]; had {
		c.clash = c.clash || !c.isStub(name)
		return
	}
	rec := make([]byte, 16, 16+len(name)+8+len(kinds))
	rec[0], rec[1] = byte(dnsWhatWHAT_NODE), byte(len(name))
	binary.NativeEndian.PutUint16(rec[2:], c.zone)
	binary.NativeEndian.PutUint32(rec[4:], below[0])
	binary.NativeEndian.PutUint32(rec[8:], below[1])
	c.order = append(c.order, h)
	c.nodes[h] = c.arena.put(append(pad(append(rec, name...)), kinds...))
}

// isStub says whether a name was given away before it was looked at.
func (c *compiler) isStub(name []byte) bool { return string(name) == string(c.plan.Fast().Whoami) }

// kind is what a type gets, without and with DO.
type kind struct {
	rtype uint16
	refs  [2]ref
}

// kindsRecord is struct kinds of the program.
func kindsRecord(list []kind, other [2]ref) []byte {
	ne := binary.NativeEndian
	out := []byte{byte(dnsWhatWHAT_KINDS), byte(len(list)), 0, 0}
	out = ne.AppendUint32(ne.AppendUint32(out, other[0]), other[1])
	for _, k := range list {
		out = ne.AppendUint16(ne.AppendUint16(out, k.rtype), 0)
		out = ne.AppendUint32(ne.AppendUint32(out, k.refs[0]), k.refs[1])
	}
	return pad(out)
}

// exists places a name of a zone.
func (c *compiler) exists(z *zone.Zone, n *zone.Node, name []byte) {
	asked := c.exact(z, name)
	c.node(name, c.below(z, name), c.kinds(n, asked))
}

// missing places a name that does not exist, but that an answer mentions:
// queries for it, and below it, are answered with other compression.
func (c *compiler) missing(z *zone.Zone, name []byte) {
	asked := c.exact(z, name)
	found := z.Lookup(name)
	below := c.below(z, name)
	if found.Kind == zone.Wildcard {
		c.node(name, below, c.kinds(found.Node, asked))
		return
	}
	c.node(name, below, c.kinds(nil, asked))
}

// below gives what names below one get that have no node.
func (c *compiler) below(z *zone.Zone, name []byte) (refs [2]ref) {
	probe := c.probes(z, name)
	if probe == nil {
		return refs
	}
	found := z.Lookup(probe[0])
	asked := c.varied(z, name, probe, found.Kind != zone.Delegation)
	switch found.Kind {
	case zone.Delegation:
		return asked(zone.TypeA)
	case zone.Missing:
		return c.nothing(z, name, asked)
	case zone.Wildcard:
		r := c.arena.share(c.kinds(found.Node, asked))
		refs = [2]ref{r, r}
	}
	return refs
}

// absence is what is answered below names of a zone where there is nothing.
type absence struct {
	refs  [2]ref
	names map[string]bool // in the zone that the answer mentions, and what is above them
}

// nothing gives what names below one get that do not exist: the same in all of
// a zone, but below names that the answer mentions.
func (c *compiler) nothing(z *zone.Zone, name []byte, asked asking) [2]ref {
	apex := len(z.Apex().Name)
	if a := c.absent[z]; a != nil {
		mentioned := false
		for at := name; len(at) > apex && !mentioned; at = at[1+int(at[0]):] {
			mentioned = a.names[string(at)]
		}
		if !mentioned {
			return a.refs
		}
	}
	refs := asked(zone.TypeA)
	if z.Online != nil { // there every name has an NSEC
		r := c.arena.share(kindsRecord(nil, refs))
		refs = [2]ref{r, r}
	}
	if len(name) == apex {
		a := &absence{refs, map[string]bool{}}
		soa, _ := zone.Next(z.Apex().Get(zone.TypeSOA).Data)
		mname := zone.WireLen(soa)
		for _, host := range [][]byte{soa[:mname], soa[mname : len(soa)-20]} {
			for host = lower(host); len(host) > apex; host = host[1+int(host[0]):] {
				a.names[string(host)] = true
			}
		}
		c.absent[z] = a
	}
	return refs
}

func lower(name []byte) []byte {
	name = slices.Clone(name)
	for i := range name {
		name[i] = zone.Lower(name[i])
	}
	return name
}

// asking gives the places of the answers to a type.
type asking func(rtype uint16) [2]ref

// kinds gives the record of what a name gets by type. n is where its records
// are, or nil.
func (c *compiler) kinds(n *zone.Node, ask asking) []byte {
	absent := uint16(typeOther)
	for n != nil && n.Get(absent) != nil {
		absent++
	}
	other := ask(absent)
	var types []uint16
	if n != nil {
		if n.Get(zone.TypeNS) != nil { // of an apex it is the parent's, of a delegation the zone's own
			types = append(types, zone.TypeDS)
		}
		for i := range n.Sets {
			types = append(types, n.Sets[i].Type)
		}
		if n.Steer > 0 {
			types = append(types, zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS)
		}
	}
	if c.alias(other) {
		other = [2]ref{}
		types = append(types, aliasTypes...)
	}
	slices.SortStableFunc(types, func(a, b uint16) int { return commonness(a) - commonness(b) })
	var list []kind
	for i, t := range types {
		if slices.Contains(types[:i], t) {
			continue
		}
		if refs := ask(t); refs != other || t == zone.TypeNSEC || t == zone.TypeKEY {
			list = append(list, kind{t, refs})
		}
	}
	if len(list) > maxKinds {
		list, other = list[:maxKinds], [2]ref{}
	}
	return kindsRecord(list, other)
}

func commonness(t uint16) int {
	if i := slices.Index(commonTypes, t); i >= 0 {
		return i
	}
	return len(commonTypes)
}

// alias says whether one of the answers follows an alias, or is the sockets'
// and may do so.
func (c *compiler) alias(refs [2]ref) bool {
	for _, r := range refs {
		if r == refPass || c.arena.alias(r) {
			return true
		}
	}
	return false
}

// exact asks for a name itself.
func (c *compiler) exact(z *zone.Zone, name []byte) asking {
	return c.asking(questions{zone: z, names: [][]byte{name}}, false)
}

// varied asks for names below one that differ in length: only what is the same
// for all, but for places, is answered by the program. proven says that a
// signed zone's answer holds proofs about the name itself.
func (c *compiler) varied(z *zone.Zone, encloser []byte, probe [][]byte, proven bool) asking {
	return c.asking(questions{zone: z, names: probe, labels: labels(encloser) + maxCuts}, proven && z.Signed)
}

func (c *compiler) asking(q questions, proven bool) asking {
	return func(rtype uint16) (refs [2]ref) {
		q.rtype, q.do = rtype, false
		refs[0] = c.answer(&q)
		switch {
		case proven:
		case !q.zone.Signed && rtype != zone.TypeDS && refs[0] != refPass && !c.arena.alias(refs[0]):
			refs[1] = refs[0] // DO asks for what the zone has not; an alias may lead to one that has, and DS is the parent's
		default:
			q.do = true
			refs[1] = c.answer(&q)
		}
		return refs
	}
}

// questions are those whose answers are one record: for a name, or for several
// that stand for all below another.
type questions struct {
	zone   *zone.Zone
	names  [][]byte
	labels int // that the names may have; 0 for one name
	rtype  uint16
	do     bool
}

// answer gives the record of what is answered, or refPass.
func (c *compiler) answer(q *questions) ref {
	t := c.ask(q.names[0], q.rtype, q.do)
	if by, ok := c.w.Steered(); ok {
		return c.steered(q, by)
	}
	if t == nil || !c.w.Constant() {
		return refPass
	}
	return c.constant(q, t)
}

// constant places an answer that is the same for all clients.
func (c *compiler) constant(q *questions, t *template) ref {
	if !t.fits() || q.labels > 0 && t.labels+q.labels > maxCompressed {
		return refPass
	}
	r := c.arena.share(t.record())
	if t.alias {
		c.arena.noteAlias(r)
	}
	if q.labels == 0 || c.seen[shown{q.zone, r}] {
		return r
	}
	for _, name := range q.names[1:] {
		if o := c.ask(name, q.rtype, q.do); o == nil || !o.same(t) {
			return refPass
		}
	}
	c.seen[shown{q.zone, r}] = true
	c.mentioned(q.zone, t)
	return r
}

// maxCompressed is how many names dns/answer remembers to compress against.
const maxCompressed = 64

// mentioned notes names in an answer that do not exist: a query for one of
// them would be compressed against.
func (c *compiler) mentioned(z *zone.Zone, t *template) {
	for _, name := range t.names {
		for len(name) > 1 && len(name) <= maxName && c.plan.Deepest(name) == z && z.Node(name) == nil {
			if _, had := c.ghosts[string(name)]; had {
				break
			}
			c.ghosts[string(name)] = struct{}{}
			c.queue = append(c.queue, ghost{z, name})
			name = name[1+int(name[0]):]
		}
	}
}

// probeLabels begin the names that are asked for below a name.
var probeLabels = [...]string{"\x09\xfemeridian", "\x03\xfeno\x09\xfemeridian", "\x01\xfe\x0e\xfemeridian-long"}

// probes gives names right below one, or deeper, that do not exist; nil where
// they do, or are too long.
func (c *compiler) probes(z *zone.Zone, name []byte) [][]byte {
	var out [][]byte
	for _, l := range probeLabels {
		p := append([]byte(l), name...)
		if len(p) > 255 || z.Node(p[len(p)-len(name)-1-9:]) != nil {
			return nil
		}
		out = append(out, p)
	}
	return out
}

func labels(name []byte) int {
	n := 0
	for ; name[0] != 0; name = name[1+int(name[0]):] {
		n++
	}
	return n
}

// nobody is who asks while the image is made: the answers do not depend on it.
var nobody = answer.Client{Addr: netip.AddrFrom4([4]byte{192, 0, 2, 0})}

// ask gives the answer to a question as a template; nil where the sockets are
// to give it.
func (c *compiler) ask(name []byte, rtype uint16, do bool) *template {
	q := question(name, rtype, do)
	n, o := c.plan.Answer(&c.w, q, nobody, c.out[:])
	if n == 0 || o.Zone == nil || c.out[2]&0x02 != 0 {
		return nil
	}
	t, err := readTemplate(c.out[:n], len(name))
	if err != nil {
		return nil
	}
	return t
}

// question makes a query with EDNS.
func question(name []byte, rtype uint16, do bool) []byte {
	q := make([]byte, headerLen, headerLen+len(name)+15)
	q[5], q[11] = 1, 1
	q = append(q, name...)
	q = binary.BigEndian.AppendUint16(q, rtype)
	q = append(q, 0, 1, 0, 0, typeOPT, 0xff, 0xff, 0, 0, 0, 0, 0, 0)
	if do {
		q[len(q)-4] = 0x80
	}
	return q
}
