package zone

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// Load reads a zone from a master file (RFC 1035 section 5; also $TTL and
// $GENERATE), or from what Encode gave. file is its name in messages; ""
// stands for records written inline. $INCLUDE is refused: an object must be
// whole. Errors name file and line, and all are given at once, up to
// maxErrors.
func Load(name fleet.Name, data []byte, file string) (*Zone, error) {
	if Encoded(data) {
		return Decode(name, data)
	}
	return loadText(name, data, cmp.Or(file, "records"), nil, "", "")
}

// LoadFS reads a zone from a master file in a file system, where $INCLUDE is
// followed relative to the including file and inside of fsys. dir is what
// messages put before paths.
func LoadFS(name fleet.Name, fsys fs.FS, file, dir string) (*Zone, error) {
	data, err := readFile(fsys, file, dir)
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, err)
	}
	if Encoded(data) {
		return Decode(name, data)
	}
	return loadText(name, data, path.Join(dir, file), fsys, file, dir)
}

// readFile tells in errors where the file is for people.
func readFile(fsys fs.FS, file, dir string) ([]byte, error) {
	data, err := fs.ReadFile(fsys, file)
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = &fs.PathError{Op: pe.Op, Path: path.Join(dir, file), Err: pe.Err}
	}
	return data, err
}

// syntaxForm is the form of the errors of miekg's parser.
var syntaxForm = regexp.MustCompile(`dns: (.*) at line: \d+:\d+$`)

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
	if end == n+10 && rr.Header().Rrtype != dns.TypeAPL {
		return nil, nil, errShort
	}
	if end-n-10 > 65535 {
		return nil, nil, errors.New("the data is longer than 65535 octets")
	}
	return buf[:n:n], buf[n+10 : end : end], nil
}
