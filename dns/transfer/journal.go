package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"meridian/dns/zone"
)

// A journal is the history of one zone: the differences between the versions
// that were served, oldest first. On disk it is a file of its own:
//
//	magic, then for each step: length and CRC-32C of what follows (4 octets
//	each), and the step: serials from and to, digest of the zone after it, and
//	its changes.
//
// A step that was not written whole is cut off when the file is read. The
// digest tells whether the history leads to the zone that is served.

const (
	journalMagic = "\x00gslb journal 1\n"
	stepHeader   = 8  // length and checksum
	stepFixed    = 16 // serials and digest
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// step is one difference between two versions.
type step struct {
	from, to uint32
	digest   uint64        // of the zone after the step
	changes  []zone.Change // deletions first, then additions; the SOA is the first of each
}

// place is where a step is.
type place struct {
	from, to uint32
	digest   uint64
	at, size int64 // in the file or in memory, header included
}

// journal is one zone's. Its owner guards it.
type journal struct {
	path  string // "": kept in memory
	data  []byte // in memory only
	steps []place
	size  int64
}

// openJournal reads what a journal holds; path "" is for one in memory. A
// file that is no journal or is broken from some step on is cut there.
func openJournal(path string) (*journal, error) {
	j := &journal{path: path, size: int64(len(journalMagic))}
	if path == "" {
		j.data = []byte(journalMagic)
		return j, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var end int64
	if j.steps, end = scanJournal(data); end < int64(len(data)) {
		if err := os.Truncate(path, end); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	j.size = max(end, j.size)
	return j, nil
}

// scanJournal finds the steps of a journal and where the last whole one ends.
// A step that does not follow on the one before it begins the history anew.
func scanJournal(data []byte) (steps []place, end int64) {
	if !bytes.HasPrefix(data, []byte(journalMagic)) {
		return nil, 0
	}
	at := int64(len(journalMagic))
	for {
		body, ok := stepAt(data[at:])
		if !ok {
			return steps, at
		}
		p := place{binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:]), binary.BigEndian.Uint64(body[8:]), at, stepHeader + int64(len(body))}
		if n := len(steps); n > 0 && steps[n-1].to != p.from {
			steps = nil
		}
		steps = append(steps, p)
		at += p.size
	}
}

// stepAt gives the body of the step that b begins with.
func stepAt(b []byte) ([]byte, bool) {
	if len(b) < stepHeader {
		return nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n < stepFixed || n > int64(len(b)-stepHeader) {
		return nil, false
	}
	body := b[stepHeader : stepHeader+n]
	return body, crc32.Checksum(body, castagnoli) == binary.BigEndian.Uint32(b[4:])
}

func (s *step) encode() []byte {
	b := make([]byte, stepHeader, 64*len(s.changes)+stepHeader+stepFixed)
	b = binary.BigEndian.AppendUint32(b, s.from)
	b = binary.BigEndian.AppendUint32(b, s.to)
	b = binary.BigEndian.AppendUint64(b, s.digest)
	for _, c := range s.changes {
		flag := byte(0)
		if c.Delete {
			flag = 1
		}
		b = append(b, flag)
		b = append(b, c.Owner...) // a name tells its own length
		b = binary.BigEndian.AppendUint16(b, c.Type)
		b = binary.BigEndian.AppendUint32(b, c.TTL)
		b = binary.BigEndian.AppendUint16(b, uint16(len(c.Data)))
		b = append(b, c.Data...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-stepHeader))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[stepHeader:], castagnoli))
	return b
}

var errJournal = errors.New("journal: a step is not well formed")

// decodeStep reads the changes of a step's body.
func decodeStep(body []byte) ([]zone.Change, error) {
	var out []zone.Change
	for b := body[stepFixed:]; len(b) > 0; {
		n := zone.WireLen(b[1:])
		if b[0] > 1 || n == 0 || len(b) < 1+n+8 {
			return nil, errJournal
		}
		c := zone.Change{Delete: b[0] == 1, Owner: b[1 : 1+n]}
		b = b[1+n:]
		c.Type, c.TTL = binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:])
		size := int(binary.BigEndian.Uint16(b[6:]))
		if len(b) < 8+size {
			return nil, errJournal
		}
		c.Data, b = b[8:8+size], b[8+size:]
		if zone.CheckRDATA(c.Type, c.Data) != nil {
			return nil, errJournal
		}
		out = append(out, c)
	}
	return out, nil
}

// tail is the last step, or nil.
func (j *journal) tail() *place {
	if len(j.steps) == 0 {
		return nil
	}
	return &j.steps[len(j.steps)-1]
}

// rewind drops the steps after the version with that serial and digest; all of
// them where it is not in the history.
func (j *journal) rewind(serial uint32, digest uint64) error {
	n := len(j.steps)
	for n > 0 && (j.steps[n-1].to != serial || j.steps[n-1].digest != digest) {
		n--
	}
	if n == len(j.steps) {
		return nil
	}
	if n == 0 {
		return j.reset()
	}
	end := j.steps[n-1].at + j.steps[n-1].size
	j.steps, j.size = j.steps[:n], end
	if j.path == "" {
		j.data = j.data[:end]
		return nil
	}
	if err := os.Truncate(j.path, end); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// reset forgets the history.
func (j *journal) reset() error {
	j.steps, j.size = nil, int64(len(journalMagic))
	if j.path == "" {
		j.data = []byte(journalMagic)
		return nil
	}
	if err := os.Remove(j.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// add appends a step, and drops the oldest where the journal would be longer
// than limit, in octets: down to three quarters, so that it is not rewritten
// each time. A step that alone is longer ends the history.
func (j *journal) add(s step, limit int64) error {
	b := s.encode()
	if t := j.tail(); t != nil && t.to != s.from || int64(len(b)+len(journalMagic)) > limit {
		if err := j.reset(); err != nil || int64(len(b)+len(journalMagic)) > limit {
			return err
		}
	}
	if j.size+int64(len(b)) > limit {
		if err := j.trim(limit*3/4 - int64(len(b))); err != nil {
			return err
		}
	}
	err := j.write(b)
	if errors.Is(err, os.ErrNotExist) { // removed with its zone, which is back
		if err = j.reset(); err == nil {
			err = j.write(b)
		}
	}
	if err != nil {
		return err
	}
	j.steps = append(j.steps, place{s.from, s.to, s.digest, j.size, int64(len(b))})
	j.size += int64(len(b))
	return nil
}

func (j *journal) write(b []byte) error {
	if j.path == "" {
		j.data = append(j.data, b...)
		return nil
	}
	if j.size == int64(len(journalMagic)) {
		return writeFile(j.path, append([]byte(journalMagic), b...))
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = f.WriteAt(b, j.size)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// trim drops the oldest steps until what is left takes no more than size.
func (j *journal) trim(size int64) error {
	n := 0
	for n < len(j.steps) && j.size-j.steps[n].at > size {
		n++
	}
	if n == len(j.steps) {
		return j.reset()
	}
	data, err := j.read(j.steps[n].at, j.size)
	if err != nil {
		return err
	}
	data = append([]byte(journalMagic), data...)
	if j.path == "" {
		j.data = data
	} else if err := writeFile(j.path, data); err != nil {
		return err
	}
	shift := j.steps[n].at - int64(len(journalMagic))
	j.steps = append([]place(nil), j.steps[n:]...)
	for i := range j.steps {
		j.steps[i].at -= shift
	}
	j.size -= shift
	return nil
}

func (j *journal) read(from, to int64) ([]byte, error) {
	if j.path == "" {
		return j.data[from:to], nil
	}
	f, err := os.Open(j.path)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	b := make([]byte, to-from)
	if _, err := f.ReadAt(b, from); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return b, nil
}

// since gives the changes from the version with that serial to the last one,
// joined to one step; false where the history does not reach back so far, or
// where it would take more than most octets of it.
func (j *journal) since(serial uint32, most int64) ([]zone.Change, bool, error) {
	first := -1
	for i := len(j.steps) - 1; i >= 0; i-- {
		if j.steps[i].from == serial {
			first = i
			break
		}
	}
	if first < 0 || j.size-j.steps[first].at > most {
		return nil, false, nil
	}
	data, err := j.read(j.steps[first].at, j.size)
	if err != nil {
		return nil, false, err
	}
	var all []zone.Change
	for range j.steps[first:] {
		body, ok := stepAt(data)
		if !ok {
			return nil, false, errJournal
		}
		changes, err := decodeStep(body)
		if err != nil {
			return nil, false, err
		}
		all = append(all, changes...)
		data = data[stepHeader+len(body):]
	}
	return condense(all), true, nil
}

// digest tells versions of a zone apart: a sum over its records, so that a
// step changes it by its own records alone.
func digest(z *zone.Zone) uint64 {
	sum := recordDigest(soaOf(z))
	for r := range records(z) {
		sum += recordDigest(r)
	}
	return sum
}

// recordDigest is FNV-1a over a record.
func recordDigest(r record) uint64 {
	h := uint64(14695981039346656037)
	octet := func(c byte) { h = (h ^ uint64(c)) * 1099511628211 }
	for i := range len(r.owner) {
		octet(r.owner[i])
	}
	for _, c := range [6]byte{byte(r.rtype >> 8), byte(r.rtype), byte(r.ttl >> 24), byte(r.ttl >> 16), byte(r.ttl >> 8), byte(r.ttl)} {
		octet(c)
	}
	for _, c := range r.data {
		octet(c)
	}
	return h
}

// between makes the step from one version to the next; before is the digest
// of the first.
func between(old, new *zone.Zone, before uint64) step {
	s := step{from: old.Serial, to: new.Serial, digest: before, changes: zone.Diff(old, new)}
	for _, c := range s.changes {
		d := recordDigest(record{string(c.Owner), c.Type, c.TTL, c.Data})
		if c.Delete {
			s.digest -= d
		} else {
			s.digest += d
		}
	}
	return s
}
