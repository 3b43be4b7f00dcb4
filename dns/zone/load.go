package zone

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// Load reads a zone from a master file (RFC 1035 section 5; also $TTL and
// $GENERATE). file is its name in messages; "" stands for records written
// inline. $INCLUDE is refused: an object must be whole. Errors name file and
// line, and all that break rules of zones are given at once.
func Load(name fleet.Name, data []byte, file string) (*Zone, error) {
	return load(name, data, file, nil)
}

// LoadFS reads a zone from a master file in a file system, where $INCLUDE is
// followed relative to the file and inside of fsys. dir is what messages put
// before the path.
func LoadFS(name fleet.Name, fsys fs.FS, file, dir string) (*Zone, error) {
	data, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, err)
	}
	return load(name, data, path.Join(dir, file), &include{fsys, file})
}

type include struct {
	fsys fs.FS
	file string // as the file system knows the file
}

func load(name fleet.Name, data []byte, file string, inc *include) (*Zone, error) {
	b := &builder{file: cmp.Or(file, "records"), apex: Wire(name),
		zone: &Zone{Name: name, nodes: map[string]*Node{}, source: data}, line: map[setKey]int{}}
	if err := b.read(data, inc); err != nil {
		return nil, err
	}
	b.checkApex()
	b.zone.link()
	b.checkNodes()
	if b.more > 0 {
		b.errs = append(b.errs, fmt.Errorf("%s: and %d more errors", b.file, b.more))
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	return b.zone, nil
}

// builder collects the records of one zone and what is wrong with them.
type builder struct {
	file string
	apex []byte
	zone *Zone
	line map[setKey]int // where each RRset begins
	errs []error
	more int // errors beyond maxErrors
}

type setKey struct {
	owner string
	rtype uint16
}

// maxErrors bounds how many errors of one zone are told.
const maxErrors = 20

func (b *builder) failf(line int, format string, args ...any) {
	if len(b.errs) >= maxErrors {
		b.more++
		return
	}
	b.errs = append(b.errs, fmt.Errorf("%s:%d: %s", b.file, line, fmt.Sprintf(format, args...)))
}

func (b *builder) warnf(line int, format string, args ...any) {
	b.zone.Warnings = append(b.zone.Warnings, fmt.Sprintf("%s:%d: %s", b.file, line, fmt.Sprintf(format, args...)))
}

// counter counts the lines that the parser has taken. It gives single octets,
// so that the parser takes no more than it needs.
type counter struct {
	data []byte
	at   int
	line int
	last byte
}

func (c *counter) ReadByte() (byte, error) {
	if c.at == len(c.data) {
		return 0, io.EOF
	}
	if c.last == '\n' {
		c.line++
	}
	c.last = c.data[c.at]
	c.at++
	return c.last, nil
}

func (c *counter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	v, err := c.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = v
	return 1, nil
}

func (b *builder) read(data []byte, inc *include) error {
	lines := &counter{data: data, line: 1}
	parser := dns.NewZoneParser(lines, string(b.zone.Name), b.file)
	if inc != nil {
		parser = dns.NewZoneParser(lines, string(b.zone.Name), inc.file)
		parser.SetIncludeAllowed(true)
		parser.SetIncludeFS(inc.fsys)
	}
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		b.add(rr, lines.line)
	}
	if err := parser.Err(); err != nil {
		return b.syntax(err, inc)
	}
	return nil
}

var syntaxForm = regexp.MustCompile(`^(?:(.*): )?dns: (.*) at line: (\d+):\d+$`)

// syntax puts file and line first in the parser's error.
func (b *builder) syntax(err error, inc *include) error {
	m := syntaxForm.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%s: %w", b.file, err)
	}
	file := b.file
	if inc != nil && m[1] != "" && m[1] != inc.file {
		file = m[1]
	}
	return fmt.Errorf("%s:%s: %s", file, m[3], strings.TrimSuffix(m[2], `: ""`))
}

func (b *builder) add(rr dns.RR, line int) {
	h := rr.Header()
	if h.Class != dns.ClassINET {
		b.failf(line, "%s: class %s is not IN", h.Name, dns.Class(h.Class))
		return
	}
	owner, rdata, err := pack(rr)
	if err != nil {
		b.failf(line, "%s %s: %v", h.Name, dns.Type(h.Rrtype), err)
		return
	}
	name := string(lowerWire(owner))
	if !Below(owner, string(b.apex)) {
		b.failf(line, "%s is out of zone %s", h.Name, b.zone.Name)
		return
	}
	n := b.zone.nodes[name]
	if n == nil {
		n = &Node{Name: name}
		b.zone.nodes[name] = n
	}
	b.addTo(n, h, rdata, line)
}

// addTo adds a record to its RRset: a record given twice counts once, and
// TTLs that differ become the least (RFC 2181 section 5).
func (b *builder) addTo(n *Node, h *dns.RR_Header, rdata []byte, line int) {
	ttl := h.Ttl
	if ttl > 1<<31-1 {
		ttl = 0 // RFC 2181 section 8
	}
	at, ok := slices.BinarySearchFunc(n.Sets, h.Rrtype, func(s RRset, t uint16) int { return cmp.Compare(s.Type, t) })
	if !ok {
		n.Sets = slices.Insert(n.Sets, at, RRset{Type: h.Rrtype, TTL: ttl})
		b.line[setKey{n.Name, h.Rrtype}] = line
	}
	set := &n.Sets[at]
	if len(set.Data)+len(rdata) > maxSet {
		b.failf(line, "%s %s: more records than fit into a message", h.Name, dns.Type(h.Rrtype))
		return
	}
	for rest := set.Data; len(rest) > 0; {
		var have []byte
		if have, rest = Next(rest); bytes.Equal(have, rdata) {
			return
		}
	}
	if ttl != set.TTL {
		b.warnf(line, "%s %s: TTLs differ; the least is served", h.Name, dns.Type(h.Rrtype))
		set.TTL = min(set.TTL, ttl)
	}
	if set.Count == 1 && (h.Rrtype == TypeCNAME || h.Rrtype == TypeDNAME || h.Rrtype == TypeSOA) {
		b.failf(line, "%s: more than one %s", h.Name, dns.Type(h.Rrtype))
		return
	}
	set.Count++
	set.Data = append(append(set.Data, byte(len(rdata)>>8), byte(len(rdata))), rdata...)
	b.zone.records++
}

// maxSet bounds the data of one RRset, in octets: more fits into no message.
const maxSet = 65000

// pack gives owner and RDATA in wire form, uncompressed.
func pack(rr dns.RR) (owner, rdata []byte, err error) {
	buf := make([]byte, dns.Len(rr)+16)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		buf = make([]byte, 1<<17)
		if end, err = dns.PackRR(rr, buf, 0, nil, false); err != nil {
			return nil, nil, fmt.Errorf("cannot be a record: %w", err)
		}
	}
	n := WireLen(buf[:end])
	if n == 0 || end < n+10 {
		return nil, nil, errors.New("the owner is not a domain name")
	}
	if _, unknown := rr.(*dns.RFC3597); end == n+10 && !unknown && rr.Header().Rrtype != dns.TypeAPL {
		return nil, nil, errors.New("has no data")
	}
	if end-n-10 > 65535 {
		return nil, nil, errors.New("the data is longer than 65535 octets")
	}
	return buf[:n:n], buf[n+10 : end : end], nil
}
