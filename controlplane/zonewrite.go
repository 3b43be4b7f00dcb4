package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"sync"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// Bases of a write other than an ETag.
const (
	AnyBase = ""  // whatever there is, or nothing
	Exists  = "*" // whatever there is, but something
	Absent  = "-" // only where there is nothing yet
)

// WriteZone changes a zone that the admin API and updates write, or makes one:
// it reads it, has it edited, derives what nameservers get of it, stores both
// by compare-and-swap and waits until it is served here. Where somebody else
// writes meanwhile it starts again with what they wrote. base is what the
// caller has seen: an ETag, or AnyBase, Exists or Absent. A content whose
// serial is not above the one before gets the next one. Errors: ErrOtherWriter,
// ErrChanged, ErrZone around what is wrong, ErrRefused, ErrStoreAway, and
// edit's own.
func (c *ControlPlane) WriteZone(ctx context.Context, name fleet.Name, base string, edit Edit) (ZoneInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	turn, err := c.takeTurn(ctx, name)
	if err != nil {
		return ZoneInfo{}, err
	}
	defer turn()
	for {
		info, err := c.writeZone(ctx, name, base, edit)
		if !c.overtaken(ctx, err) {
			return info, err
		}
	}
}

// takeTurn waits until nobody else on this replica writes the zone, so that
// they need not all start again after each other. The function ends the turn.
func (c *ControlPlane) takeTurn(ctx context.Context, name fleet.Name) (func(), error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	turn := c.turns[h.Sum32()%uint32(len(c.turns))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("zone %s: others are writing it: %w", name, ctx.Err())
	}
}

// DeleteZone takes a zone away that the admin API and updates write. Its keys
// are kept, in case it comes back.
func (c *ControlPlane) DeleteZone(ctx context.Context, name fleet.Name, base string) error {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	turn, err := c.takeTurn(ctx, name)
	if err != nil {
		return err
	}
	defer turn()
	for {
		if err := c.deleteZone(ctx, name, base); !c.overtaken(ctx, err) {
			return err
		}
	}
}

// present is a zone as a write finds it.
type present struct {
	world *fleet.World
	st    Stored
	spec  *fleet.Zone // its entry in the Spec, or what stands for one
	cur   *zone.Zone  // nil where there is none yet
	etag  string      // of the stored content; "" where nothing is stored
}

// find looks for a zone that is to be written.
func (c *ControlPlane) find(name fleet.Name, base string) (*present, error) {
	c.mu.Lock()
	p := &present{world: c.world, st: c.stored}
	c.mu.Unlock()
	if p.world == nil {
		return nil, fmt.Errorf("%w: there is no Spec yet", ErrRefused)
	}
	if p.spec = p.world.Snapshot.Spec.Zone(name); p.spec == nil {
		p.spec = p.world.Snapshot.Spec.Unnamed(name)
		if len(p.world.Snapshot.Spec.Settings(p.spec).Primaries) > 0 {
			return nil, fmt.Errorf("%w: template %s, which such zones have, names primaries", ErrOtherWriter, p.spec.Template)
		}
	}
	if !p.spec.Dynamic {
		return nil, fmt.Errorf("%w: the Spec has it from its %s", ErrOtherWriter, sourceOf(p.world.Snapshot.Spec, p.spec))
	}
	o, ok := p.st.Zones.Get(name)
	if !ok { // the Spec may have its first content
		if o, ok = p.world.Objects[zoneKey(name)]; ok {
			o.Version = rules.ContentVersion(o.Data)
		}
	} else {
		p.etag = o.Version
	}
	switch {
	case base == Absent && ok, base == Exists && !ok, base != AnyBase && base != Absent && base != Exists && base != o.Version:
		return nil, fmt.Errorf("%w: its ETag is %q", ErrChanged, o.Version)
	}
	if ok {
		var err error
		if p.cur, err = c.parsed.zone(name, o); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (c *ControlPlane) writeZone(ctx context.Context, name fleet.Name, base string, edit Edit) (ZoneInfo, error) {
	p, err := c.find(name, base)
	if err != nil {
		return ZoneInfo{}, err
	}
	next, err := edit(p.cur)
	if err != nil {
		return ZoneInfo{}, err
	}
	if next == p.cur {
		return c.ZoneInfo(name)
	}
	o, err := checkedContent(p, next)
	if err != nil {
		return ZoneInfo{}, err
	}
	if p.etag != "" && o.Version == p.etag {
		return c.ZoneInfo(name)
	}
	contents := p.st.Zones.With([]fleet.Object{o}, nil)
	items, _, err := c.derive(ctx, p.world, contents, p.st.Derived)
	if err != nil {
		return ZoneInfo{}, fmt.Errorf("%w: %w", ErrZone, err)
	}
	own, others := itemsOf(name, items)
	own = append(own, ItemWrite{Kind: ZoneItem, Name: name, Data: o.Data, Expect: p.etag})
	if err := c.put(ctx, own, others); err != nil {
		return ZoneInfo{}, err
	}
	err = c.await(ctx, func() bool { return c.beyond(name, p.etag) })
	if err != nil {
		return ZoneInfo{}, fmt.Errorf("zone %s is stored and not yet served here: %w", name, err)
	}
	return c.ZoneInfo(name)
}

func (c *ControlPlane) deleteZone(ctx context.Context, name fleet.Name, base string) error {
	p, err := c.find(name, base)
	switch {
	case err != nil:
		return err
	case p.cur == nil:
		return fmt.Errorf("%w: %s", ErrNoZone, name)
	case p.etag == "" || p.spec.File != "" || p.spec.Records != "":
		return fmt.Errorf("%w: the Spec gives its first content; take it out of the Spec", ErrOtherWriter)
	}
	contents := p.st.Zones.With(nil, []fleet.Name{name})
	items, _, err := c.derive(ctx, p.world, contents, p.st.Derived)
	if err != nil {
		return err
	}
	own, others := itemsOf(name, items)
	if have, ok := p.st.Derived.Get(name); ok && len(own) == 0 {
		own = append(own, ItemWrite{Kind: DerivedItem, Name: name, Expect: have.Version})
	}
	own = append(own, ItemWrite{Kind: ZoneItem, Name: name, Expect: p.etag})
	if err := c.put(ctx, own, others); err != nil {
		return err
	}
	return c.await(ctx, func() bool { return c.beyond(name, p.etag) })
}

// put stores a zone's items together, then what the Deriver made of other
// zones on the occasion, which somebody else may have done.
func (c *ControlPlane) put(ctx context.Context, own, others []ItemWrite) error {
	if err := c.cfg.Store.WriteItems(ctx, own); err != nil {
		return err
	}
	c.metrics.zoneWrites.Inc()
	if err := c.writeEach(ctx, others); err != nil { // the leader's timer does it again
		c.log.Warn("derived zones not stored", "error", err)
	}
	return nil
}

// itemsOf parts the items of one zone from the others.
func itemsOf(name fleet.Name, items []ItemWrite) (own, others []ItemWrite) {
	for _, it := range items {
		if it.Name == name {
			own = append(own, it)
		} else {
			others = append(others, it)
		}
	}
	return own, others
}

// beyond says whether the state that is published here has another content of
// the zone than etag.
func (c *ControlPlane) beyond(name fleet.Name, etag string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, _ := c.shown.Zones.Get(name)
	return o.Version != etag
}

// checkedContent gives the object of a zone's next content, with a serial
// above the one before.
func checkedContent(p *present, next *zone.Zone) (fleet.Object, error) {
	if next == nil || next.Name != p.spec.Zone {
		return fleet.Object{}, fmt.Errorf("%w: it is another zone", ErrZone)
	}
	text, err := textOf(next)
	if err != nil {
		return fleet.Object{}, err
	}
	if p.cur != nil && rules.ContentVersion(text) != p.etag && int32(next.Serial-p.cur.Serial) <= 0 { // RFC 1982
		if next, err = rules.WithSerial(next, p.cur.Serial+1); err != nil {
			return fleet.Object{}, fmt.Errorf("%w: %w", ErrZone, err)
		}
		if text, err = textOf(next); err != nil {
			return fleet.Object{}, err
		}
	}
	// What was written must read, and suit the names that the Spec steers.
	content, err := zone.Reload(nil, p.spec, text, "")
	if err == nil {
		err = rules.CheckContent(p.world.Snapshot.Spec, p.spec, content)
	}
	if err != nil {
		return fleet.Object{}, fmt.Errorf("%w: %w", ErrZone, err)
	}
	return rules.ZoneObject(next.Name, text), nil
}

func textOf(z *zone.Zone) ([]byte, error) {
	var b bytes.Buffer
	if err := z.WriteText(&b); err != nil {
		return nil, fmt.Errorf("zone %s: %w", z.Name, err)
	}
	return b.Bytes(), nil
}

// parsedZones keeps the zones that were read last, so that a series of small
// changes does not read the whole zone each time.
type parsedZones struct {
	mu    sync.Mutex
	zones map[fleet.Name]parsedZone
}

type parsedZone struct {
	version string
	zone    *zone.Zone
}

const maxParsed = 64

func (p *parsedZones) zone(name fleet.Name, o fleet.Object) (*zone.Zone, error) {
	p.mu.Lock()
	have, ok := p.zones[name]
	p.mu.Unlock()
	if ok && have.version == o.Version {
		return have.zone, nil
	}
	z, err := zone.Load(name, o.Data, o.File)
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.zones) >= maxParsed || p.zones == nil {
		p.zones = map[fleet.Name]parsedZone{}
	}
	p.zones[name] = parsedZone{o.Version, z}
	return z, nil
}
