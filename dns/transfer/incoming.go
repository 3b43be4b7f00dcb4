package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Errors of an incoming transfer for which another way may do.
var (
	errGap      = errors.New("the differences do not fit the zone that we have")
	errOversize = errors.New("the zone is larger than the limit")
)

// rcodeError is an answer that refuses.
type rcodeError int

func (e rcodeError) Error() string {
	if n, ok := map[rcodeError]string{1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH"}[e]; ok {
		return "the server says " + n
	}
	return fmt.Sprintf("the server says RCODE %d", int(e))
}

// stage is where a transfer is.
type stage uint8

const (
	atFirst  stage = iota // the first SOA is awaited
	atSecond              // AXFR or differences?
	inZone                // AXFR: records of the zone
	inDelete              // IXFR: what is gone
	inAdd                 // IXFR: what is new
	atEnd
)

// incoming takes the messages of one transfer (RFC 5936 section 2.2, RFC 1995
// section 4) and makes a zone of them. It is a plain state machine: no
// message can make it wait, and what it keeps is bounded by limits.
type incoming struct {
	name     fleet.Name
	apex     string
	old      *zone.Zone // what differences are against; nil for AXFR
	limit    limits
	id       uint16
	ixfr     bool // differences may come
	force    bool // take the zone whatever its serial
	stage    stage
	seen     int
	octets   int64 // of the messages
	plain    int64 // of the records, their names without compression
	builder  *zone.Builder
	soa      record // of the new zone
	serial   uint32 // in soa
	step     uint32 // IXFR: serial that the last step led to
	changes  []zone.Change
	upToDate bool // the zone that we have is current
}

// limits bound what is kept of one transfer.
type limits struct {
	octets  int64 // without compression, which could make little on the wire much in memory
	records int
}

// newIncoming awaits the answer to a request; differences where ixfr is true
// and old is there.
func newIncoming(name fleet.Name, id uint16, old *zone.Zone, ixfr bool, limit limits) *incoming {
	return &incoming{name: name, apex: string(zone.Wire(name)), id: id, old: old, ixfr: ixfr && old != nil, limit: limit}
}

// done says whether the transfer is complete.
func (in *incoming) done() bool { return in.stage == atEnd }

// message takes the next message.
func (in *incoming) message(wire []byte) error {
	m, questions, err := parse(wire)
	switch {
	case err != nil:
		return err
	case m.id != in.id || !m.answer() || m.opcode() != opQuery:
		return errors.New("a message is no answer to the request")
	case m.rcode() != rcodeOK:
		return rcodeError(m.rcode())
	case m.truncated():
		return errors.New("a message is truncated")
	case len(questions) == 1 && string(questions[0].name) != in.apex:
		return errors.New("a message answers another question")
	case m.counts[1] == 0:
		return errors.New("a message holds no records")
	}
	in.octets += int64(len(wire))
	r := reader{msg: &m, at: m.at}
	for range m.counts[1] {
		if err := r.next(); err != nil {
			return err
		}
		if in.done() {
			return errors.New("records follow the last SOA")
		}
		if err := in.record(&r); err != nil {
			return err
		}
	}
	return nil
}

func (in *incoming) record(r *reader) error {
	in.seen++
	in.plain += int64(len(r.owner) + 10 + len(r.data))
	if in.seen > in.limit.records || in.plain > in.limit.octets {
		return errOversize
	}
	owner := func() fleet.Name { return zone.Text(r.owner) }
	switch {
	case r.class != classIN:
		return fmt.Errorf("%s: class %d is not IN", owner(), r.class)
	case !zone.Below(r.owner, in.apex):
		return fmt.Errorf("%s is out of the zone", owner())
	case r.rtype == 0 || r.rtype == typeOPT || r.rtype >= 128 && r.rtype <= 255:
		return fmt.Errorf("%s: type %d is no data", owner(), r.rtype)
	}
	if err := zone.CheckRDATA(r.rtype, r.data); err != nil {
		return fmt.Errorf("%s type %d: %w", owner(), r.rtype, err)
	}
	if r.rtype == zone.TypeSOA {
		if string(r.owner) != in.apex {
			return fmt.Errorf("%s: SOA below the apex", owner())
		}
		return in.boundary(r)
	}
	switch in.stage {
	case atFirst:
		return errors.New("the first record is not the SOA")
	case atSecond:
		in.beginZone()
		fallthrough
	case inZone:
		return in.add(r.owner, r.rtype, r.ttl, r.data)
	}
	return in.change(in.stage == inDelete, r)
}

func (in *incoming) add(owner []byte, t uint16, ttl uint32, data []byte) error {
	if err := in.builder.Add(owner, t, ttl, data); err != nil {
		return fmt.Errorf("%s type %d: %w", zone.Text(owner), t, err)
	}
	return nil
}

func (in *incoming) beginZone() {
	in.stage, in.builder = inZone, zone.NewBuilder(in.name)
}

func (in *incoming) change(del bool, r *reader) error {
	in.changes = append(in.changes, zone.Change{Delete: del, Owner: bytes.Clone(r.owner), Type: r.rtype, TTL: r.ttl, Data: bytes.Clone(r.data)})
	return nil
}

// boundary takes a SOA, which begins or ends a part of the transfer.
func (in *incoming) boundary(r *reader) error {
	serial := binary.BigEndian.Uint32(r.data[len(r.data)-20:])
	switch in.stage {
	case atFirst:
		in.soa = record{in.apex, zone.TypeSOA, r.ttl, bytes.Clone(r.data)}
		in.serial = serial
		in.stage = atSecond
		if in.old != nil && !in.force && !newer(serial, in.old.Serial) {
			in.upToDate = serial == in.old.Serial
			if in.ixfr { // the SOA alone: nothing newer (RFC 1995 section 2)
				in.stage = atEnd
			}
		}
	case atSecond:
		if !in.ixfr || serial == in.serial {
			in.beginZone()
			return in.boundary(r)
		}
		if serial != in.old.Serial {
			return errGap
		}
		in.stage, in.step = inDelete, serial
	case inZone:
		if serial != in.serial {
			return fmt.Errorf("serial %d in the last SOA, %d in the first: the zone changed meanwhile", serial, in.serial)
		}
		in.stage = atEnd
	case inDelete:
		in.stage, in.step = inAdd, serial
	case inAdd:
		switch {
		case in.step == in.serial && serial == in.serial:
			in.stage = atEnd
		case serial == in.step:
			in.stage = inDelete
		default:
			return errGap
		}
	}
	return nil
}

// result gives the zone; only once done. It is nil where there is nothing
// newer than what we have.
func (in *incoming) result() (*zone.Zone, error) {
	if in.builder == nil && in.changes == nil && in.step == 0 && in.ixfr && !newer(in.serial, in.old.Serial) {
		return nil, nil
	}
	if in.builder != nil {
		if err := in.add([]byte(in.apex), zone.TypeSOA, in.soa.ttl, in.soa.data); err != nil {
			return nil, err
		}
		z, err := in.builder.Build()
		if err != nil {
			return nil, fmt.Errorf("what came is no zone: %w", err)
		}
		return z, nil
	}
	return in.patch()
}

// patch applies differences, which must fit exactly: each record that goes
// was there, and each that comes was not.
func (in *incoming) patch() (*zone.Zone, error) {
	net := condense(in.changes)
	grow := 0
	for _, c := range net {
		if c.Delete {
			grow--
		} else {
			grow++
		}
	}
	was := soaOf(in.old)
	net = append(net,
		zone.Change{Delete: true, Owner: []byte(in.apex), Type: zone.TypeSOA, TTL: was.ttl, Data: was.data},
		zone.Change{Owner: []byte(in.apex), Type: zone.TypeSOA, TTL: in.soa.ttl, Data: in.soa.data})
	z, err := in.old.With(net)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGap, err)
	}
	if z.Records() != in.old.Records()+grow || z.Serial != in.serial {
		return nil, errGap
	}
	return z, nil
}

// condense joins the changes of several steps to one: what came and went again
// is left out (RFC 1995 section 6). Deletions come first; within each kind
// records are in order of first mention.
func condense(changes []zone.Change) []zone.Change {
	type state struct{ first, at int } // whether its first change deletes is told by changes[first]
	last := make(map[string]state, len(changes))
	order := make([]string, 0, len(changes))
	var key []byte
	for i, c := range changes {
		key = append(key[:0], c.Owner...)
		key = binary.BigEndian.AppendUint16(key, c.Type)
		key = binary.BigEndian.AppendUint32(key, c.TTL)
		key = append(key, c.Data...)
		s, ok := last[string(key)]
		if !ok {
			s.first = i
			order = append(order, string(key))
		}
		s.at = i
		last[string(key)] = s
	}
	out := make([]zone.Change, 0, len(order))
	for _, del := range []bool{true, false} {
		for _, k := range order {
			s := last[k]
			// A record that was there and ends there, or was not and ends not, has not changed.
			if c := changes[s.at]; c.Delete == del && changes[s.first].Delete == c.Delete {
				out = append(out, c)
			}
		}
	}
	return out
}
