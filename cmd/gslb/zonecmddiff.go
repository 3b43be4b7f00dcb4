package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// transferFlags say from which nameserver to transfer a zone, and by which key.
type transferFlags struct {
	server string
	key    string
}

func (t *transferFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&t.server, "axfr", "", "`ADDR[:PORT]` of a nameserver to transfer the zone from, in place of the admin API")
	fs.StringVar(&t.key, "key", "", "TSIG key of the transfer as `[ALGORITHM:]NAME:FILE`, with the secret in base64 in FILE")
}

// transferLimit bounds a transfer's steps.
const transferLimit = 30 * time.Second

// transfer brings a zone by AXFR (RFC 5936).
func (t *transferFlags) transfer(ctx context.Context, name fleet.Name) (*zone.Zone, error) {
	addr := t.server
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), "53")
	}
	m := new(dns.Msg)
	m.SetAxfr(string(name))
	conn, err := (&net.Dialer{Timeout: transferLimit}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("transfer of %s: %w", name, err)
	}
	defer conn.Close()
	tr := &dns.Transfer{Conn: &dns.Conn{Conn: conn}, ReadTimeout: transferLimit, WriteTimeout: transferLimit}
	if t.key != "" {
		if err := t.sign(tr, m); err != nil {
			return nil, err
		}
	}
	in, err := tr.In(m, addr)
	if err != nil {
		return nil, fmt.Errorf("transfer of %s from %s: %w", name, addr, err)
	}
	b := zone.NewBuilder(name)
	records := 0
	for e := range in {
		if e.Error != nil {
			return nil, fmt.Errorf("transfer of %s from %s: %w", name, addr, e.Error)
		}
		for _, rr := range e.RR {
			if _, soa := rr.(*dns.SOA); soa && records > 0 {
				continue // the closing one
			}
			owner, rdata, err := wireOf(rr)
			if err == nil {
				err = b.Add(owner, rr.Header().Rrtype, rr.Header().Ttl, rdata)
			}
			if err != nil {
				return nil, fmt.Errorf("transfer of %s from %s: %s: %w", name, addr, rr.Header().Name, err)
			}
			records++
		}
	}
	return b.Build()
}

// sign adds the key to a transfer.
func (t *transferFlags) sign(tr *dns.Transfer, m *dns.Msg) error {
	parts := strings.Split(t.key, ":")
	algorithm := "hmac-sha256"
	if len(parts) == 3 {
		algorithm, parts = parts[0], parts[1:]
	}
	if len(parts) != 2 {
		return fmt.Errorf("--key: expected [ALGORITHM:]NAME:FILE")
	}
	secret, err := os.ReadFile(parts[1])
	if err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	name := dns.CanonicalName(parts[0])
	tr.TsigSecret = map[string]string{name: strings.TrimSpace(string(secret))}
	m.SetTsig(name, dns.Fqdn(algorithm), 300, time.Now().Unix())
	return nil
}

// wireOf gives a record's owner and data in wire form, uncompressed.
func wireOf(rr dns.RR) (owner, rdata []byte, err error) {
	buf := make([]byte, dns.Len(rr)+256)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		buf = make([]byte, 1<<17)
		if n, err = dns.PackRR(rr, buf, 0, nil, false); err != nil {
			return nil, nil, err
		}
	}
	k := zone.WireLen(buf[:n])
	if k == 0 || n < k+10 {
		return nil, nil, fmt.Errorf("is not a record")
	}
	return buf[:k:k], buf[k+10 : n : n], nil
}

// side gives one side of a comparison: a file, or the name of a zone that is
// served.
func (z *zoneFlags) side(ctx context.Context, arg, other string) (*zone.Zone, error) {
	if info, err := os.Stat(arg); err == nil && !info.IsDir() {
		name, err := zoneOfFile(arg)
		if n, nerr := fleet.ParseName(other); nerr == nil {
			if _, serr := os.Stat(other); serr != nil {
				name, err = n, nil // compared with the zone of that name
			}
		}
		if err != nil {
			return nil, err
		}
		return loadFile(name, arg)
	}
	name, err := fleet.ParseName(arg)
	if err != nil {
		return nil, fmt.Errorf("%q is neither a file nor a zone: %w", arg, err)
	}
	return z.fetch(ctx, name)
}

// difference is one record that only one side has.
type difference struct {
	Change string `json:"change"` // + or -
	Name   string `json:"name"`
	TTL    uint32 `json:"ttl"`
	Type   string `json:"type"`
	Data   string `json:"data"`
}

// diffZones ends with an error, and so with code 1, where the zones differ, as
// diff does.
func diffZones(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 2, 2); err != nil {
		return err
	}
	old, err := z.side(ctx, rest[0], rest[1])
	if err != nil {
		return err
	}
	next, err := z.side(ctx, rest[1], rest[0])
	if err != nil {
		return err
	}
	if old.Name != next.Name {
		return fmt.Errorf("%s and %s are different zones", old.Name, next.Name)
	}
	out := []difference{}
	for _, c := range zone.Diff(old, next) {
		d := difference{"+", string(zone.Text(c.Owner)), c.TTL, zone.TypeName(c.Type), zone.RDATAText(c.Type, c.Data)}
		if c.Delete {
			d.Change = "-"
		}
		out = append(out, d)
	}
	if err := z.adminFlags.show(os.Stdout, out, func(w io.Writer) {
		for _, d := range out {
			fmt.Fprintf(w, "%s %s\t%d\tIN\t%s\t%s\n", d.Change, d.Name, d.TTL, d.Type, d.Data)
		}
	}); err != nil {
		return err
	}
	if len(out) > 0 {
		return errDiffer
	}
	return nil
}

// patch replaces one RRset by the admin API.
func (z *zoneFlags) patch(ctx context.Context, name fleet.Name, set rules.RRset) error {
	body, err := json.Marshal([]rules.RRset{set})
	if err != nil {
		return err
	}
	return z.change(ctx, http.MethodPatch, name, body)
}

func decodeInto(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("admin API: answer: %w", err)
	}
	return nil
}

// parseTTL reads seconds, or a duration as 5m.
func parseTTL(s string) (uint32, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return uint32(n), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d.Seconds() > 1<<31-1 {
		return 0, fmt.Errorf("TTL %q is neither seconds nor a duration as 5m", s)
	}
	return uint32(d.Seconds()), nil
}
