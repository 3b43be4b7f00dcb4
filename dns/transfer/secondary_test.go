package transfer

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// primary is a node of ours that serves example.test to all of loopback.
func primary(t testing.TB, text string) (*node, func(text string)) {
	t.Helper()
	world := func(text string) *fleet.World {
		return makeWorld(t, "zones: [{zone: example.test, file: f, transfer: [127.0.0.0/8]}]",
			map[fleet.ObjectKey]string{{Kind: fleet.ObjectZone, ID: "example.test."}: text})
	}
	n := serve(t, "", 0, world(text))
	return n, func(text string) { t.Helper(); n.apply(t, world(text)) }
}

func secondaryOf(t testing.TB, addrs ...netip.AddrPort) *fleet.World {
	var list []string
	for _, a := range addrs {
		list = append(list, fmt.Sprintf("{address: %q}", a))
	}
	return makeWorld(t, fmt.Sprintf("zones: [{zone: example.test, primaries: [%s], transfer: [127.0.0.1]}]", strings.Join(list, ", ")), nil)
}

func timers(serial, expire int) string {
	return fmt.Sprintf("$ORIGIN example.test.\n$TTL 300\n@ SOA ns1 admin %d 3600 2 %d 60\n@ NS ns1\nns1 A 192.0.2.53\n", serial, expire)
}

// RFC 1034 §4.3.5: primaries are asked in order until one has the zone; one that is dead is passed over.
// RFC 1982 §3.2: a primary whose serial is older than our copy's is not followed; the copy stays, and a log line says so.
func TestRFC1034Refresh(t *testing.T) {
	p, set := primary(t, timers(10, 86400))
	dead := netip.AddrPortFrom(p.addr.Addr(), testkit.FreePort(t, "127.0.0.1"))
	n := serve(t, "", 0, secondaryOf(t, dead, p.addr))
	eventually(t, "the second primary is used", func() bool { return serialAt(n.addr, "example.test.") == 10 })
	if s := n.Status()[0]; s.Primary != p.addr || s.State != Current || s.Serial != 10 || !s.Expires.After(time.Now().Add(80000*time.Second)) {
		t.Errorf("status %+v", s)
	}
	set(timers(5, 86400))
	if err := n.Refresh("example.test."); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the older serial is told of", func() bool {
		return n.Status()[0].State == Stale && strings.Contains(n.Status()[0].Error, "its serial is older than ours: 5, not 10")
	})
	if got := serialAt(n.addr, "example.test."); got != 10 {
		t.Errorf("we serve serial %d", got)
	}
	if err := n.Retransfer("example.test."); err != nil {
		t.Fatal(err)
	}
	eventually(t, "told to, we take it nevertheless", func() bool { return serialAt(n.addr, "example.test.") == 5 })
	if n.Refresh("other.test.") == nil || n.Retransfer("other.test.") == nil || n.Notify("other.test.") == nil {
		t.Error("other zones can be refreshed")
	}
}

// RFC 1035 §3.3.13: after its expire time a copy that no primary confirms is served no longer, also across a restart; it comes back when a primary confirms it.
func TestRFC1035Expire(t *testing.T) {
	p, _ := primary(t, timers(1, 1000))
	dir := t.TempDir()
	n := serve(t, dir, 0, secondaryOf(t, p.addr))
	eventually(t, "the zone is there", func() bool { return serialAt(n.addr, "example.test.") == 1 })
	n.stop()
	dead := netip.AddrPortFrom(p.addr.Addr(), testkit.FreePort(t, "127.0.0.1"))
	d := disk{dir}

	n = serve(t, dir, 0, secondaryOf(t, dead))
	if st := n.Status()[0].State; n.srv.Zone("example.test.") == nil || st != Current && st != Stale {
		t.Fatalf("it is not served at once after a restart: %+v", n.Status())
	}
	n.stop()
	if err := d.confirm("example.test.", time.Now().Add(-995*time.Second)); err != nil {
		t.Fatal(err)
	}
	n = serve(t, dir, 0, secondaryOf(t, dead))
	if n.srv.Zone("example.test.") == nil {
		t.Fatal("it is not served in the last seconds")
	}
	eventually(t, "it expires", func() bool { return rcodeAt(t, n.addr, "example.test.") == dns.RcodeServerFailure })
	if s := n.Status()[0]; s.State != Expired || s.Serial != 1 {
		t.Errorf("status %+v", s)
	}
	n.stop()
	n = serve(t, dir, 0, secondaryOf(t, dead))
	if n.srv.Zone("example.test.") != nil {
		t.Error("an expired copy is served after a restart")
	}
	n.apply(t, secondaryOf(t, p.addr))
	eventually(t, "the primary confirms it", func() bool { return serialAt(n.addr, "example.test.") == 1 })
	n.apply(t, makeWorld(t, "zones: []", nil))
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	if n.srv.Zone("example.test.") != nil || len(files) != 0 {
		t.Errorf("of a zone that is no longer ours stays %v", files)
	}
}

func rcodeAt(t testing.TB, addr netip.AddrPort, name string) int {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeSOA)
	c := dns.Client{Timeout: 10 * time.Second}
	r, _, err := c.Exchange(m, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return r.Rcode
}

// RFC 8976 §4: a copy that is not what its ZONEMD says is refused, and the old one stays.
func TestRFC8976BadCopy(t *testing.T) {
	p, set := primary(t, timers(1, 86400))
	n := serve(t, "", 0, secondaryOf(t, p.addr))
	eventually(t, "the zone is there", func() bool { return serialAt(n.addr, "example.test.") == 1 })
	set(timers(2, 86400) + "@ ZONEMD 2 1 1 " + strings.Repeat("ab", 48) + "\n")
	if err := n.Refresh("example.test."); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is refused", func() bool { return strings.Contains(n.Status()[0].Error, "serial 2 is refused") })
	if got := serialAt(n.addr, "example.test."); got != 1 {
		t.Errorf("we serve serial %d", got)
	}
}

// RFC 1996 §3.10: NOTIFY is heeded from primaries alone; from others it is refused and counted.
// RFC 1996 §3.11: a NOTIFY leads to a question for the serial, unless it tells one that we have.
// RFC 1996 §4.7: the answer has the ID, opcode, question and QR and AA set.
func TestRFC1996Incoming(t *testing.T) {
	tr, _ := direct(t, `
dns: {keys: [{name: k.test, secret: "env:K"}, {name: other.test, secret: "env:O"}]}
zones: [{zone: example.test, primaries: [{address: "192.0.2.1:53", key: k.test}, {address: "192.0.2.2:53"}]}, {zone: mine.test, records: "@ 1 SOA a. b. 1 2 3 4 5\n@ 1 NS a.\n"}]
`)
	s := tr.secondaries["example.test."]
	s.zone = load(t, timers(10, 86400))
	notify := func(name, client, key string, serial uint32) (int, bool) {
		tr.attempts.put(&s.attempt, time.Now().Add(time.Hour))
		s.tried = time.Time{}
		m := new(dns.Msg)
		m.SetNotify(name)
		if serial > 0 {
			m.Answer = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: ".", Serial: serial}}
		}
		msg := pack(t, m)
		if key != "" {
			msg, _ = tr.intent.keys[fleet.Name(key)].Request(msg, time.Now())
		}
		got := tr.ask1(msg, client, false)
		if len(got) != 1 || got[0].Id != m.Id || got[0].Opcode != dns.OpcodeNotify || !got[0].Response || len(got[0].Question) != 1 {
			t.Fatalf("answer %v", got)
		}
		if got[0].Rcode == 0 && !got[0].Authoritative {
			t.Error("AA is not set")
		}
		return got[0].Rcode, time.Until(s.attempt.at) < time.Minute
	}
	for _, c := range []struct {
		name, client, key string
		serial            uint32
		rcode             int
		asks              bool
	}{
		{"example.test.", "192.0.2.1", "", 0, 0, true},
		{"example.test.", "192.0.2.2", "", 11, 0, true},
		{"example.test.", "192.0.2.2", "", 10, 0, false},
		{"example.test.", "192.0.2.2", "", 9, 0, false},
		{"example.test.", "198.51.100.1", "", 11, dns.RcodeRefused, false},
		{"example.test.", "198.51.100.1", "k.test.", 11, 0, true},
		{"example.test.", "198.51.100.1", "other.test.", 11, dns.RcodeRefused, false},
		{"mine.test.", "192.0.2.1", "", 11, dns.RcodeNotAuth, false},
	} {
		if rcode, asks := notify(c.name, c.client, c.key, c.serial); rcode != c.rcode || asks != c.asks {
			t.Errorf("%+v: RCODE %d, asks %v", c, rcode, asks)
		}
	}
	if s.hint != netip.MustParseAddrPort("192.0.2.1:53") {
		t.Errorf("%s is asked first", s.hint)
	}
	if got := counter(t, &node{Transfer: tr}, "meridian_dns_notifies_total", "in", "refused"); got != 2 {
		t.Errorf("%v refused", got)
	}
}

// RFC 1996 §3.6: NOTIFY is sent again until it is acknowledged, by the zone's secondaries and no others.
func TestRFC1996Outgoing(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	doc := fmt.Sprintf("zones: [{zone: example.test, file: f, notify: [{address: %q, source: 127.0.0.1}]}]", conn.LocalAddr())
	n := serve(t, "", 0, makeWorld(t, doc, map[fleet.ObjectKey]string{{Kind: fleet.ObjectZone, ID: "example.test."}: timers(7, 86400)}))
	buf := make([]byte, 1500)
	for i := range 2 {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:size]); err != nil || m.Opcode != dns.OpcodeNotify || !m.Authoritative || len(m.Answer) != 1 || m.Answer[0].(*dns.SOA).Serial != 7 {
			t.Fatalf("NOTIFY %v: %v", m, err)
		}
		if i == 0 {
			continue // let it be sent again
		}
		r := new(dns.Msg)
		r.SetReply(m)
		if _, err := conn.WriteTo(pack(t, r), from); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it is acknowledged", func() bool { return counter(t, n, "meridian_dns_notifies_total", "out", "ok") == 1 })
	n.notifier.mu.Lock()
	defer n.notifier.mu.Unlock()
	if len(n.notifier.notices)+len(n.notifier.byID)+len(n.notifier.due.h) != 0 {
		t.Error("an acknowledged notice is kept")
	}
}

// Bad input: a primary that says nothing, or goes on for ever, holds up no
// other zone and is given up.
func TestHostilePrimary(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // one endless zone
				defer c.Close()
				query, err := readMessage(c, time.Second)
				if err != nil {
					return
				}
				body := rrs(t, "SOA 1\nexample.test. 300 NS ns1.example.test.\n")
				for i := 0; ; i++ {
					p := newPacker(hardLimit, 0)
					p.begin(query, false)
					for _, r := range body {
						p.put(r)
					}
					for k := range 100 {
						p.put(record{fmt.Sprintf("\x08%08d", (i*100+k)%1e8) + "\x07example\x04test\x00", zone.TypeA, 1, []byte{1, 2, 3, 4}})
					}
					body = nil
					msg := p.message()
					if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
						return
					}
				}
			}()
		}
	}()
	tr, _ := direct(t, "zones: []")
	tr.cfg.MaxRecords = 5000
	addr := netip.MustParseAddrPort(l.Addr().String())
	_, err = tr.fetch(context.Background(), "example.test.", &peer{Peer: fleet.Peer{Address: addr}}, nil, false)
	if err == nil || !strings.Contains(err.Error(), "larger than the limit") {
		t.Errorf("an endless zone: %v", err)
	}
	tr.cfg.MaxRecords, tr.cfg.MaxTime = 1<<40, 200*time.Millisecond
	begin := time.Now()
	if _, err = tr.fetch(context.Background(), "example.test.", &peer{Peer: fleet.Peer{Address: addr}}, nil, false); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("beyond its time: %v after %v", err, time.Since(begin))
	}
}

// A copy on disk that is broken is told of and transferred anew.
func TestBrokenCopy(t *testing.T) {
	p, _ := primary(t, timers(1, 1000))
	dir := t.TempDir()
	d := disk{dir}
	if err := d.make(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.file("zones", "example.test."), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := serve(t, dir, 0, secondaryOf(t, p.addr))
	eventually(t, "the zone is there", func() bool { return serialAt(n.addr, "example.test.") == 1 })
	n.stop()
	if z, _, err := d.load("example.test."); err != nil || z.Serial != 1 {
		t.Errorf("on disk: %v", err)
	}
}

// Names of files are safe whatever the zone is called.
func TestFiles(t *testing.T) {
	d := disk{"/d"}
	seen := map[string]bool{}
	for _, n := range []fleet.Name{".", "a.", "a/b.test.", "..%2f.test.", `\000x.test.`, fleet.Name(strings.Repeat(strings.Repeat("a", 62)+".", 4)), fleet.Name(strings.Repeat(strings.Repeat("b", 62)+".", 4))} {
		f := d.file("zones", n)
		if filepath.Dir(f) != "/d/zones" || len(filepath.Base(f)) > 255 || seen[f] || strings.HasPrefix(filepath.Base(f), ".new-") {
			t.Errorf("%s is kept in %s", n, f)
		}
		seen[f] = true
	}
}

// What strangers send as NOTIFY or update, or anything else, is answered or
// dropped, and no more than once.
func FuzzNotify(f *testing.F) {
	tr, _ := direct(f, `
dns: {keys: [{name: k.test, secret: "env:K"}]}
zones: [{zone: example.test, primaries: [{address: "192.0.2.1:53", key: k.test}]}]
`)
	s := tr.secondaries["example.test."]
	s.zone = load(f, timers(10, 86400))
	m := new(dns.Msg)
	m.SetNotify("example.test.")
	f.Add(pack(f, m), false)
	m.Answer = rrOf(f, "example.test. 1 SOA a. b. 11 1 1 1 1")
	f.Add(pack(f, m), false)
	m.SetUpdate("example.test.")
	f.Add(pack(f, m), false)
	f.Add(ixfrQuery(f, 1, 1232), false)
	f.Add(pack(f, m), true)
	f.Add(ixfrQuery(f, 1, 1232), true)
	f.Fuzz(func(t *testing.T, msg []byte, sign bool) {
		if sign && len(msg) >= headerLen { // and given another ID on the way (RFC 8945 section 5.5)
			msg, _ = tr.intent.keys["k.test."].Request(msg, time.Now())
			msg[0] ^= 0x14
		}
		replies := 0
		tr.Handle(context.Background(), &Request{Message: msg, Client: netip.MustParseAddrPort("192.0.2.1:53"),
			Answer: func(q []byte) []byte { return answerTo(q, rcodeOK, true) },
			Reply: func(b []byte) error {
				replies++
				if len(b) < headerLen || b[2]&0x80 == 0 || b[0] != msg[0] || b[1] != msg[1] {
					t.Fatalf("%x is answered %x", msg, b)
				}
				if err := new(dns.Msg).Unpack(b); err != nil {
					t.Fatalf("%x is answered %x: %v", msg, b, err)
				}
				return nil
			}})
		if replies > 1 {
			t.Fatalf("%d answers", replies)
		}
	})
}

func rrOf(t testing.TB, text string) []dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return []dns.RR{r}
}
