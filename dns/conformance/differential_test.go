package conformance

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestDifferential asks Meridian, BIND, NSD and Knot the same questions about
// the same zones. Aspect by aspect Meridian must say what at least two of the
// three say; where all three differ, what one of them says; or else the
// difference must be in differences.txt with the clause that decides it, and
// what is listed there must occur.
func TestDifferential(t *testing.T) {
	list := readDifferences(t).without(aspectFile, aspectOdd)
	total := 0
	for _, w := range worlds(t) {
		t.Run(w.name, func(t *testing.T) { total += differential(t, w, list) })
	}
	if total < 5000 && !t.Failed() {
		t.Errorf("the corpus has %d questions, and must have 5000", total)
	}
	if !t.Failed() {
		list.unused(t)
	}
	t.Logf("%d questions", total)
}

// world is a set of zones served together.
type world struct {
	name    string
	dir     string
	zones   []zoneFile
	keys    []*dns.DNSKEY // by zone; nil where it is not signed
	queries []query
}

// worlds makes the zone files of the corpus: all kinds as they are and signed
// in three ways on one server, and root zones on others.
func worlds(t *testing.T) []world {
	t.Helper()
	w := world{name: "zones", dir: t.TempDir()}
	kinds := templates(t, "zones")
	for _, f := range families {
		ds := "" // of the child, which sorts before its parent
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			text := strings.ReplaceAll(kinds[kind], "@S@", f.name)
			if kind == "parent" {
				text += ds
			}
			key := w.add(t, kind+"."+f.name+".", text, f.sign)
			if kind == "child.parent" && key != nil {
				ds = key.ToDS(dns.SHA256).String() + "\n"
			}
		}
	}
	out := []world{w}
	for _, f := range families {
		r := world{name: "root-" + f.name, dir: t.TempDir()}
		r.add(t, ".", templates(t, "root")["root"], f.sign)
		out = append(out, r)
	}
	return out
}

// add makes a zone's file and its questions, and gives the key that it is
// signed with, if it is.
func (w *world) add(t testing.TB, name, text string, sign func(origin, key string) []string) *dns.DNSKEY {
	t.Helper()
	text = "$ORIGIN " + name + "\n" + text
	var key *dns.DNSKEY
	served := text
	if sign != nil {
		served, key = signed(t, name, text, sign)
	}
	file := strings.TrimSuffix(name, ".")
	if name == "." {
		file = "root"
	}
	w.zones = append(w.zones, zoneFile{name, writeFile(t, w.dir, file+".zone", served)})
	w.queries = append(w.queries, ask(name, text, sign != nil)...)
	w.keys = append(w.keys, key)
	return key
}

// differential runs the servers and judges Meridian by the others.
func differential(t *testing.T, w world, list *differences) int {
	servers := [4]peer{meridian(t, w.dir), bind(t, w.zones), nsd(t, w.zones), knot(t, w.zones)}
	var wg sync.WaitGroup
	replies := make([][]normal, len(servers))
	for i, s := range servers {
		wg.Go(func() { replies[i] = askAll(s, w.queries) })
	}
	wg.Wait()
	sum := summary{}
	for i, q := range w.queries {
		var by [4]normal
		for s := range servers {
			by[s] = replies[s][i]
		}
		for _, d := range judge(by) {
			clause := list.find(d, q, by)
			sum.count(q.zone, d.aspect, clause != "")
			if clause == "" {
				report(t, q, d, by)
			}
		}
		sum.asked(q.zone)
	}
	t.Log("\n" + sum.String())
	return len(w.queries)
}

// peers in the order of responses.
var peers = []string{"meridian", "bind", "nsd", "knot"}

// difference is one aspect in which Meridian stands alone.
type difference struct{ aspect, ours, theirs string }

// judge compares the first response, Meridian's, with those of the others.
func judge(by [4]normal) []difference {
	var out []difference
	tc := 0
	for _, n := range by {
		if n.tc {
			tc++
		}
	}
	for _, a := range aspects {
		if tc > 0 && slices.Contains([]string{aspectAnswer, aspectAuthority, aspectGlue, aspectAdditional}, a) {
			continue // the flags tell whether truncation itself was right
		}
		if a == aspectAdditional {
			out = append(out, judgeExtra(by)...)
			continue
		}
		ours := by[0].text[a]
		agree := 0
		var theirs []string
		for _, n := range by[1:] {
			if n.text[a] == ours {
				agree++
			}
			theirs = append(theirs, n.text[a])
		}
		allDiffer := theirs[0] != theirs[1] && theirs[1] != theirs[2] && theirs[0] != theirs[2]
		if agree >= 2 || allDiffer && agree == 1 {
			continue
		}
		out = append(out, difference{a, ours, "bind: " + theirs[0] + "\nnsd:  " + theirs[1] + "\nknot: " + theirs[2]})
	}
	return out
}

// judgeExtra holds Meridian to optional additional data that all give, and to
// none that nobody gives.
func judgeExtra(by [4]normal) []difference {
	var missing, invented []string
	for r := range by[1].extra {
		if by[2].extra[r] && by[3].extra[r] && !by[0].all[r] {
			missing = append(missing, r)
		}
	}
	for r := range by[0].extra {
		if strings.Contains(r, "\tRRSIG\t") {
			continue // goes with its set; who has less room leaves it out first
		}
		if !by[1].all[r] && !by[2].all[r] && !by[3].all[r] {
			invented = append(invented, r)
		}
	}
	if len(missing)+len(invented) == 0 {
		return nil
	}
	slices.Sort(missing)
	slices.Sort(invented)
	return []difference{{aspectAdditional, "alone gives " + strings.Join(invented, "\n"), "all give " + strings.Join(missing, "\n")}}
}

var reportMu sync.Mutex

func report(t *testing.T, q query, d difference, by [4]normal) {
	reportMu.Lock()
	defer reportMu.Unlock()
	t.Errorf("%s %s (%d, %d, %d, %d octets)\nours: %s\n%s", d.aspect, q.key(), by[0].size, by[1].size, by[2].size, by[3].size, d.ours, d.theirs)
}

// askAll asks a server everything, some questions at a time.
func askAll(p peer, queries []query) []normal {
	out := make([]normal, len(queries))
	var wg sync.WaitGroup
	const lanes = 4
	for lane := range lanes {
		wg.Go(func() {
			c := client{addr: p.addr}
			defer c.close()
			for i := lane; i < len(queries); i += lanes {
				wire, err := c.ask(queries[i].wire(uint16(i)), queries[i].mode.tcp)
				out[i] = normalise(wire, err, queries[i].qt)
			}
		})
	}
	wg.Wait()
	return out
}

// client keeps one UDP socket and one TCP connection to a server.
type client struct {
	addr     string
	patience time.Duration // how long to wait for a reply; 0: 2s, and once more
	udp, tcp net.Conn
	buf      [65535]byte
}

func (c *client) close() {
	for _, conn := range []net.Conn{c.udp, c.tcp} {
		if conn != nil {
			conn.Close()
		}
	}
}

// silence is how long no reply has to last to count as none.
const silence = 300 * time.Millisecond

var errNone = errors.New("no reply")

// ask sends a query and gives the reply with the same id; what gets lost is
// sent again once.
func (c *client) ask(q []byte, tcp bool) ([]byte, error) {
	tries := 2
	if c.patience > 0 {
		tries = 1
	}
	for range tries {
		var r []byte
		var err error
		if tcp {
			r, err = c.askTCP(q)
		} else {
			r, err = c.askUDP(q)
		}
		if err == nil {
			return r, nil
		}
	}
	return nil, errNone
}

func (c *client) askUDP(q []byte) ([]byte, error) {
	if c.udp == nil {
		conn, err := net.Dial("udp", c.addr)
		if err != nil {
			return nil, err
		}
		c.udp = conn
	}
	if _, err := c.udp.Write(q); err != nil {
		return nil, err
	}
	if err := c.udp.SetReadDeadline(time.Now().Add(cmp.Or(c.patience, 2*time.Second))); err != nil {
		return nil, err
	}
	for {
		n, err := c.udp.Read(c.buf[:])
		if err != nil {
			return nil, err
		}
		if n >= 2 && c.buf[0] == q[0] && c.buf[1] == q[1] {
			return slices.Clone(c.buf[:n]), nil
		}
	}
}

func (c *client) askTCP(q []byte) (_ []byte, err error) {
	if c.tcp == nil {
		if c.tcp, err = net.Dial("tcp", c.addr); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			c.tcp.Close()
			c.tcp = nil
		}
	}()
	if err = c.tcp.SetDeadline(time.Now().Add(cmp.Or(c.patience, 2*time.Second))); err != nil {
		return nil, err
	}
	if _, err = c.tcp.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return nil, err
	}
	if _, err = io.ReadFull(c.tcp, c.buf[:2]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(c.buf[:2]))
	if _, err = io.ReadFull(c.tcp, c.buf[:n]); err != nil {
		return nil, err
	}
	return slices.Clone(c.buf[:n]), nil
}

// summary counts by zone.
type summary map[string]*[3]int // asked, differences listed, differences not listed

func (s summary) row(zone string) *[3]int {
	if s[zone] == nil {
		s[zone] = new([3]int)
	}
	return s[zone]
}

func (s summary) asked(zone string) { s.row(zone)[0]++ }

func (s summary) count(zone, _ string, listed bool) {
	if listed {
		s.row(zone)[1]++
	} else {
		s.row(zone)[2]++
	}
}

func (s summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %8s %8s %8s\n", "zone", "asked", "listed", "unlisted")
	for _, zone := range slices.Sorted(maps.Keys(s)) {
		r := s[zone]
		fmt.Fprintf(&b, "%-28s %8d %8d %8d\n", zone, r[0], r[1], r[2])
	}
	return b.String()
}

// differences is the committed list of what Meridian does otherwise.
type differences struct {
	rows []*listed
}

type listed struct {
	line   int
	aspect string
	name   string
	qtype  string
	mode   string
	peer   string // the one that Meridian agrees with; "-": none
	clause string
	used   bool
}

// readDifferences reads differences.txt: aspect, name, type and mode, each a
// pattern as of a shell; the peer that Meridian agrees with; and the clause
// that decides.
func readDifferences(t *testing.T) *differences {
	t.Helper()
	text, err := os.ReadFile("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := &differences{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 7 || f[5] != "RFC" {
			t.Fatalf("differences.txt:%d: want ASPECT NAME TYPE MODE PEER RFC n §s: why", n)
		}
		out.rows = append(out.rows, &listed{n, f[0], f[1], f[2], f[3], f[4], strings.Join(f[5:], " "), false})
	}
	return out
}

// only keeps the rows about one aspect.
func (d *differences) only(aspect string) *differences {
	return &differences{slices.DeleteFunc(slices.Clone(d.rows), func(r *listed) bool { return r.aspect != aspect })}
}

// without leaves the rows about some aspects out.
func (d *differences) without(aspects ...string) *differences {
	return &differences{slices.DeleteFunc(slices.Clone(d.rows), func(r *listed) bool { return slices.Contains(aspects, r.aspect) })}
}

// find gives the clause of the first row that matches, or "".
func (d *differences) find(diff difference, q query, by [4]normal) string {
	f := strings.Fields(q.key())
	for _, r := range d.rows {
		if i := slices.Index(peers, r.peer); i > 0 && diff.aspect != aspectAdditional && by[i].text[diff.aspect] != diff.ours {
			continue
		}
		if matchAny(r.aspect, diff.aspect) && matchAny(r.name, f[0]) && match(r.qtype, f[1]) && match(r.mode, f[2]) {
			r.used = true
			return r.clause
		}
	}
	return ""
}

func match(pattern, s string) bool {
	ok, err := filepath.Match(pattern, strings.ReplaceAll(s, "/", "_"))
	return err == nil && ok
}

// unused fails the test for what is listed and no longer occurs.
func (d *differences) unused(t *testing.T) {
	for _, r := range d.rows {
		if !r.used {
			t.Errorf("differences.txt:%d: this difference no longer occurs: %s %s %s %s", r.line, r.aspect, r.name, r.qtype, r.mode)
		}
	}
}

// matchAny takes several patterns with commas between.
func matchAny(patterns, s string) bool {
	return slices.ContainsFunc(strings.Split(patterns, ","), func(p string) bool { return match(p, s) })
}
