package zone

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// Load reads a zone from a master file (RFC 1035 section 5; also $TTL and
// $GENERATE), or from what Encode gave. file is its name in messages; ""
// stands for records written inline. $INCLUDE is refused: an object must be
// whole. Errors name file and line, and all that break rules of zones are
// given at once.
func Load(name fleet.Name, data []byte, file string) (*Zone, error) {
	if Encoded(data) {
		return Decode(name, data)
	}
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
	if Encoded(data) {
		return Decode(name, data)
	}
	return load(name, data, path.Join(dir, file), &include{fsys, file})
}

type include struct {
	fsys fs.FS
	file string // as the file system knows the file
}

func load(name fleet.Name, data []byte, file string, inc *include) (*Zone, error) {
	b := NewBuilder(name)
	b.report.files = []string{cmp.Or(file, "records")}
	if err := b.read(data, inc); err != nil {
		return nil, err
	}
	z, err := b.Build()
	if err != nil {
		return nil, err
	}
	z.source = sourceOf(data)
	return z, nil
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

func (b *Builder) read(data []byte, inc *include) error {
	lines := &counter{data: data, line: 1}
	parser := dns.NewZoneParser(lines, string(b.name), b.report.files[0])
	if inc != nil {
		parser = dns.NewZoneParser(lines, string(b.name), inc.file)
		parser.SetIncludeAllowed(true)
		parser.SetIncludeFS(inc.fsys)
	}
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		b.addRR(rr, uint32(lines.line))
	}
	if err := parser.Err(); err != nil {
		return b.syntax(err, inc)
	}
	return nil
}

var syntaxForm = regexp.MustCompile(`^(?:(.*): )?dns: (.*) at line: (\d+):\d+$`)

// syntax puts file and line first in the parser's error.
func (b *Builder) syntax(err error, inc *include) error {
	file := b.report.files[0]
	m := syntaxForm.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if inc != nil && m[1] != "" && m[1] != inc.file {
		file = m[1]
	}
	return fmt.Errorf("%s:%s: %s", file, m[3], strings.TrimSuffix(m[2], `: ""`))
}

func (b *Builder) addRR(rr dns.RR, line uint32) {
	h := rr.Header()
	if h.Class != dns.ClassINET {
		b.report.failAt(0, line, "%s: class %s is not IN", h.Name, dns.Class(h.Class))
		return
	}
	owner, rdata, err := pack(rr)
	if err == nil {
		err = CheckRDATA(h.Rrtype, rdata)
	}
	if err != nil {
		b.report.failAt(0, line, "%s %s: %v", h.Name, TypeName(h.Rrtype), err)
		return
	}
	switch err := b.add(owner, h.Rrtype, h.Ttl, rdata, 0, line); {
	case errors.Is(err, ErrOutOfZone):
		b.report.failAt(0, line, "%s is out of zone %s", h.Name, b.name)
	case err != nil:
		b.report.failAt(0, line, "%v", err)
	}
}

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
