package zone

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// parser reads one master file, and those that it includes, into a Builder.
type parser struct {
	scanner
	b      *Builder
	fsys   fs.FS  // of $INCLUDE; nil refuses it
	path   string // of the file, in fsys
	dir    string // what messages put before paths
	file   uint16 // into b.report.files
	nested int    // of $INCLUDE

	origin []byte
	owner  []byte // of the last record; empty before the first
	ended  bool   // the entry's end has been taken
	ttl    struct{ def, last, now times }
	made   *int // records that $GENERATE has made

	rdata, gather []byte // scratch
	types         []uint16
	lastType      struct {
		tok   []byte
		rtype uint16
	}
}

// times is a TTL that may be known.
type times struct {
	known bool
	v     uint32
}

const (
	maxNested    = 16      // $INCLUDE in $INCLUDE
	maxGenerated = 1 << 20 // records of all $GENERATE of a zone
	defaultTTL   = 3600    // where nothing tells one; NSD and Knot take the same
)

// read reads master-file text. Errors of the text are in the report.
func (p *parser) read(data []byte) {
	p.data, p.line = data, 1
	p.b.recs = slices.Grow(p.b.recs, min(bytes.Count(data, []byte{'\n'}), len(data)/8))
	for p.at < len(p.data) {
		line := p.line
		p.ended = false
		if err := p.entry(); err != nil {
			p.b.report.failAt(p.file, max(line, min(p.tokLine, p.line)), "%v", err)
			if !p.ended {
				p.skip()
			}
			p.depth = 0
		}
	}
}

// entry reads one entry: a record, a directive, or nothing.
func (p *parser) entry() error {
	start := p.at
	p.depth = 0
	more, err := p.next()
	if err != nil || !more {
		p.ended = err == nil
		return err
	}
	line := p.tokLine
	if octets[p.data[start]] == blank {
		if len(p.owner) == 0 {
			return errors.New("no owner stands here or before")
		}
	} else if p.data[start] == '$' {
		return p.directive()
	} else {
		if p.quoted || p.inner {
			return errInner
		}
		if p.owner, err = appendName(p.owner[:0], p.tok, p.origin); err != nil {
			p.owner = p.owner[:0]
			return fmt.Errorf("%q: %w", p.tok, err)
		}
		if err := p.need(); err != nil {
			return fmt.Errorf("%s: %w", Text(p.owner), err)
		}
	}
	return p.record(line)
}

// record reads TTL, class, type and RDATA; the token is the first of these.
func (p *parser) record(line uint32) error {
	t, err := p.head()
	if err != nil {
		return fmt.Errorf("%s: %w", Text(p.owner), err)
	}
	p.rdata, err = p.readRDATA(p.rdata[:0], t)
	if err == nil {
		err = CheckRDATA(t, p.rdata)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", Text(p.owner), TypeName(t), err)
	}
	switch err := p.b.add(p.owner, t, p.timeOf(t, line), p.rdata, p.file, line); {
	case errors.Is(err, ErrOutOfZone): // as BIND and Knot do
		p.b.report.warnAt(p.file, line, "%s is out of zone %s and left out", Text(p.owner), p.b.name)
	case err != nil:
		return err
	}
	return nil
}

// head reads TTL and class, in either order, and the type.
func (p *parser) head() (t uint16, err error) {
	p.ttl.now = times{}
	for class := false; ; {
		if p.quoted || p.inner {
			return 0, errInner
		}
		tok := p.tok
		if v, ok := parseTTL(tok); ok && !p.ttl.now.known {
			if v > 1<<31-1 {
				v = 0 // RFC 2181 section 8
			}
			p.ttl.now = times{true, v}
		} else if t, ok := p.typeOf(tok); ok {
			return t, nil
		} else if name, ok := classOf(tok); ok && !class {
			if name != "IN" {
				return 0, fmt.Errorf("class %s is not IN", name)
			}
			class = true
		} else {
			return 0, fmt.Errorf("%q is not a type", tok)
		}
		if err := p.need(); err != nil {
			return 0, err
		}
	}
}

// timeOf is the TTL of the record just read (RFC 1035 section 5.1, RFC 2308
// section 4): its own, else that of $TTL, else the last one given, else, for
// the SOA, its MINIMUM, which then holds for all.
func (p *parser) timeOf(t uint16, line uint32) uint32 {
	switch {
	case p.ttl.now.known:
		p.ttl.last = p.ttl.now
	case p.ttl.def.known:
		return p.ttl.def.v
	case p.ttl.last.known:
	case t == TypeSOA:
		p.ttl.def = times{true, min(binary.BigEndian.Uint32(p.rdata[len(p.rdata)-4:]), 1<<31-1)}
		return p.ttl.def.v
	default:
		p.b.report.warnAt(p.file, line, "%s: no TTL is given; %d is taken", Text(p.owner), defaultTTL)
		p.ttl.last = times{true, defaultTTL}
	}
	return p.ttl.last.v
}

// typeOf reads the mnemonic of a type.
func (p *parser) typeOf(tok []byte) (uint16, bool) {
	if bytes.Equal(tok, p.lastType.tok) && len(tok) > 0 {
		return p.lastType.rtype, true
	}
	var buf [12]byte
	if len(tok) > len(buf) {
		return 0, false
	}
	up := buf[:copy(buf[:], tok)]
	for i, c := range up {
		if 'a' <= c && c <= 'z' {
			up[i] = c - 'a' + 'A'
		}
	}
	t, ok := dns.StringToType[string(up)]
	if !ok && bytes.HasPrefix(up, []byte("TYPE")) {
		v, isNumber := number(up[4:], 65535)
		t, ok = uint16(v), isNumber
	}
	if ok {
		p.lastType.tok, p.lastType.rtype = append(p.lastType.tok[:0], tok...), t
	}
	return t, ok
}

// classOf reads the mnemonic of a class.
func classOf(tok []byte) (string, bool) {
	switch s := strings.ToUpper(string(tok)); s {
	case "IN", "CLASS1":
		return "IN", true
	case "CH", "HS", "CS":
		return s, true
	default:
		n, ok := strings.CutPrefix(s, "CLASS")
		if _, isNumber := number([]byte(n), 65535); ok && isNumber {
			return s, true
		}
		return "", false
	}
}

// directive follows an entry that begins with a dollar sign.
func (p *parser) directive() error {
	switch name := strings.ToUpper(string(p.tok)); name {
	case "$ORIGIN":
		if err := p.need(); err != nil {
			return fmt.Errorf("$ORIGIN: %w", err)
		}
		origin, err := appendName(nil, p.tok, p.origin)
		if err != nil {
			return fmt.Errorf("$ORIGIN: %w", err)
		}
		p.origin = origin
		return p.end()
	case "$TTL":
		if err := p.need(); err != nil {
			return fmt.Errorf("$TTL: %w", err)
		}
		v, ok := parseTTL(p.tok)
		if !ok {
			return fmt.Errorf("$TTL: %q is not a time in seconds", p.tok)
		}
		if v > 1<<31-1 {
			v = 0
		}
		p.ttl.def = times{true, v}
		return p.end()
	case "$INCLUDE":
		return p.include()
	case "$GENERATE":
		return p.generate()
	default:
		return fmt.Errorf("%s is no directive", name)
	}
}

// include reads another file. Its origin is its own: that of this file stays
// as it was (RFC 1035 section 5.1), and so does the owner.
func (p *parser) include() error {
	line := p.tokLine
	if p.fsys == nil {
		return errors.New("$INCLUDE is not allowed here: the zone must be whole")
	}
	if err := p.need(); err != nil {
		return fmt.Errorf("$INCLUDE: %w", err)
	}
	name, err := appendOctets(nil, p.tok)
	if err != nil {
		return fmt.Errorf("$INCLUDE: %w", err)
	}
	origin := p.origin
	more, err := p.next()
	if err != nil {
		return err
	}
	if more {
		if origin, err = appendName(nil, p.tok, p.origin); err != nil {
			return fmt.Errorf("$INCLUDE: %w", err)
		}
		if err := p.end(); err != nil {
			return err
		}
	}
	p.ended = true
	p.tokLine = line
	if p.nested == maxNested || len(p.b.report.files) == 1<<16-1 {
		return fmt.Errorf("$INCLUDE: more than %d files in one another", maxNested)
	}
	at, err := p.inside(string(name))
	if err != nil {
		return err
	}
	data, err := readFile(p.fsys, at, p.dir)
	if err != nil {
		return fmt.Errorf("$INCLUDE: %w", err)
	}
	in := parser{b: p.b, fsys: p.fsys, path: at, dir: p.dir, nested: p.nested + 1, origin: origin, ttl: p.ttl,
		owner: bytes.Clone(p.owner), made: p.made, file: uint16(len(p.b.report.files))}
	p.b.report.files = append(p.b.report.files, path.Join(p.dir, at))
	in.read(data)
	p.ttl = in.ttl
	return nil
}

// inside gives the place in fsys of a file to include: relative to the
// including file, or a path from the root that leads into the folder.
func (p *parser) inside(name string) (string, error) {
	at := path.Join(path.Dir(p.path), name)
	if path.IsAbs(name) {
		at, _ = strings.CutPrefix(path.Clean(name), path.Clean(p.dir)+"/")
	}
	if !fs.ValidPath(at) {
		return "", fmt.Errorf("$INCLUDE %q is outside of %s, where zone files may be", name, path.Clean(p.dir))
	}
	return at, nil
}

// loadText makes a zone of master-file text.
func loadText(name fleet.Name, data []byte, file string, fsys fs.FS, at, dir string) (*Zone, error) {
	b := NewBuilder(name)
	b.report.files = []string{file}
	made := 0
	p := parser{b: b, fsys: fsys, path: at, dir: dir, origin: b.apex, made: &made}
	p.read(data)
	z, err := b.Build()
	if err != nil {
		return nil, err
	}
	z.source = sourceOf(data)
	return z, nil
}
