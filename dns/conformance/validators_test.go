package conformance

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/internal/testkit"
)

// unbound runs a validating resolver that asks one server about the zones of
// a world and trusts their keys.
func unbound(t testing.TB, w world, upstream peer) peer {
	program := testkit.Program(t, "unbound")
	return start(t, "unbound", nil, func(port int) []string {
		dir := t.TempDir()
		var b strings.Builder
		fmt.Fprintf(&b, `server:
  interface: 127.0.0.1@%[2]d
  directory: "%[1]s"
  pidfile: "%[1]s/unbound.pid"
  chroot: ""
  username: ""
  do-daemonize: no
  use-syslog: no
  num-threads: 1
  do-ip6: no
  do-not-query-localhost: no
  module-config: "validator iterator"
  val-log-level: 2
  aggressive-nsec: no
  minimal-responses: no
`, dir, port)
		for _, k := range w.keys {
			if k != nil {
				fmt.Fprintf(&b, "  trust-anchor: \"%s\"\n", strings.ReplaceAll(k.String(), "\t", " "))
			}
		}
		b.WriteString("remote-control:\n  control-enable: no\n")
		for _, z := range w.zones {
			fmt.Fprintf(&b, "stub-zone:\n  name: \"%s\"\n  stub-addr: %s\n", z.name, strings.Replace(upstream.addr, ":", "@", 1))
		}
		return []string{program, "-d", "-c", writeFile(t, dir, "unbound.conf", b.String())}
	})
}

// TestValidatorsAcceptEveryAnswer asks unbound, which asks Meridian alone,
// for everything of the corpus that Meridian has the authority for: nothing
// may be bogus, and what is signed must be secure. What unbound does not take
// from NSD either (names of many asterisks) is not counted, up to one in 100.
//
// RFC 4035 §3.1.1: what is signed is answered with the signatures that a validator needs.
// RFC 4035 §3.1.3: a validator accepts every proof of absence from NSEC.
// RFC 5155 §7.2: a validator accepts every proof of absence from NSEC3.
// RFC 5155 §7.2.7: what an opt-out span covers is insecure and not bogus.
func TestValidatorsAcceptEveryAnswer(t *testing.T) {
	w := worlds(t)[0]
	for _, server := range ourselves(t, w.dir) {
		t.Run(server.name, func(t *testing.T) { validatorsAccept(t, w, server) })
	}
}

func validatorsAccept(t *testing.T, w world, server peer) {
	resolver := unbound(t, w, server)
	secure := map[string]bool{}
	for i, z := range w.zones {
		secure[z.name] = w.keys[i] != nil && !strings.HasSuffix(z.name, ".optout.") && !strings.HasSuffix(z.name, ".own3.")
	}
	queries := validated(w, askAll(server, plainly(w.queries)))
	faults, counts := judged(resolver, queries, secure)
	t.Logf("%d answers: %v", len(queries), counts)
	if len(queries) < 1000 {
		t.Errorf("only %d answers were validated", len(queries))
	}
	if len(faults) == 0 {
		return
	}
	var again []query
	for q := range faults {
		again = append(again, q)
	}
	same, _ := judged(unbound(t, w, nsd(t, w.zones)), again, secure)
	own := 0
	for q, fault := range faults {
		if same[q] == "" {
			t.Errorf("%s: %s", q.key(), fault)
		} else {
			own++
		}
	}
	t.Logf("%d answers unbound does not take from NSD either", own)
	if own > len(queries)/100 {
		t.Errorf("unbound does not take %d answers", own)
	}
}

// judged asks a validating resolver and tells what is wrong with its answers,
// by question, and how many there were of each outcome.
func judged(resolver peer, queries []query, secure map[string]bool) (map[query]string, map[string]int) {
	var mu sync.Mutex
	faults, counts := map[query]string{}, map[string]int{}
	var wg sync.WaitGroup
	const lanes = 8
	for lane := range lanes {
		wg.Go(func() {
			c := client{addr: resolver.addr, patience: 10 * time.Second}
			defer c.close()
			for i := lane; i < len(queries); i += lanes {
				q := queries[i]
				q.mode = mode{name: "tcp-rd-do", tcp: true, rd: true, do: true, size: 4096}
				m := new(dns.Msg)
				r := c.ask(q.wire(uint16(i)), true)
				err := r.err
				if err == nil {
					err = m.Unpack(r.wire)
				}
				mu.Lock()
				counts[fmt.Sprintf("%s ad=%t", dns.RcodeToString[m.Rcode], m.AuthenticatedData)]++
				switch {
				case err != nil:
					faults[queries[i]] = err.Error()
				case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
					faults[queries[i]] = dns.RcodeToString[m.Rcode]
				case secure[q.zone] && !m.AuthenticatedData:
					faults[queries[i]] = "not secure"
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return faults, counts
}

// plainly gives every question once, over TCP.
func plainly(queries []query) []query {
	seen := map[string]bool{}
	var out []query
	for _, q := range queries {
		q.name, q.mode = strings.ToLower(q.name), mode{name: "tcp-do", tcp: true, do: true, size: 4096}
		if !seen[q.key()] {
			seen[q.key()] = true
			out = append(out, q)
		}
	}
	return out
}

// validated leaves out what a resolver cannot or need not ask: what is about
// DNSSEC's own types, belongs to the parent, leads to zones that nobody
// serves, or loops.
func validated(w world, replies []normal) []query {
	queries := plainly(w.queries)
	apex := map[string]bool{}
	for _, z := range w.zones {
		apex[z.name] = true
	}
	var out []query
	for i, q := range queries {
		r := replies[i]
		odd := []uint16{dns.TypeANY, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNXNAME, dns.TypeOPT, dns.TypeMAILA, dns.TypeMAILB}
		switch {
		case slices.Contains(odd, q.qt), q.qt == dns.TypeDS && apex[q.name]:
		case !strings.Contains(r.text[aspectFlags], "aa"), r.text[aspectRcode] == "YXDOMAIN":
		case referred(r, apex) && (q.qt != dns.TypeNS || strings.Contains(r.text[aspectAnswer], "\tcname\t")):
		case q.qt == dns.TypeDNAME && strings.Contains(r.text[aspectAnswer], "\tcname\t"): // unbound takes the DNAME passed for the answer
		case q.qt == dns.TypeDS && r.text[aspectAnswer] != "":
		case starred(q, r), unserved(r, apex):
		default:
			out = append(out, q)
		}
	}
	return out
}

// referred says whether a response leads to servers that are not there.
func referred(r normal, apex map[string]bool) bool {
	for line := range r.all {
		if f := strings.Fields(line); f[3] == "ns" && !apex[f[0]] {
			return true
		}
	}
	return false
}

// starred says whether an asterisk stands inside a name of the question or of
// the response: unbound has its own ideas about these.
func starred(q query, r normal) bool {
	for line := range r.all {
		if strings.Contains(line, ".*.") {
			return true
		}
	}
	return strings.Contains(q.name, ".*.") || strings.HasPrefix(q.name, "*.") && strings.HasPrefix(q.zone, "random")
}

// unserved says whether a chain ends outside the zones, or does not end.
func unserved(r normal, apex map[string]bool) bool {
	last, hops, ends := "", 0, strings.Contains(r.text[aspectAuthority], "\tin\tsoa\t")
	lines := strings.Split(r.text[aspectAnswer], "\n")
	for _, line := range lines {
		if f := strings.Fields(line); len(f) == 5 && f[3] == "cname" {
			last = f[4]
			hops++
		}
	}
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 3 && f[0] == last && f[3] != "cname" && f[3] != "RRSIG" {
			ends = true
		}
	}
	if last == "" {
		return false
	}
	if hops > 7 {
		return true // resolvers stop early
	}
	for name := last; name != "."; name = parent(name) {
		if apex[name] {
			return !ends
		}
	}
	return true
}

// TestDelvValidates has delv follow single answers of every kind from the
// zone's own key.
//
// RFC 4035 §5.3: the signatures of plain, wildcard, alias and negative answers verify.
func TestDelvValidates(t *testing.T) {
	delv := testkit.Program(t, "delv")
	w := worlds(t)[0]
	for _, server := range ourselves(t, w.dir) {
		t.Run(server.name, func(t *testing.T) { delvValidates(t, delv, w, server) })
	}
}

func delvValidates(t *testing.T, delv string, w world, server peer) {
	host, port, _ := strings.Cut(server.addr, ":")
	for i, z := range w.zones {
		key := w.keys[i]
		kind, family, _ := strings.Cut(z.name, ".")
		if key == nil || kind != "wild" && kind != "dname" {
			continue
		}
		anchor := writeFile(t, t.TempDir(), "anchor", fmt.Sprintf("trust-anchors { \"%s\" static-key %d %d %d \"%s\"; };\n",
			z.name, key.Flags, key.Protocol, key.Algorithm, key.PublicKey))
		questions := map[string][]string{
			"wild":  {"target A", "www A", "x.sub A", "x.sub MX", "exists.sub A", "b.ent A", "x.ent A", "x.y.deep TXT", "x.two A", "x.cn A", "x.cnwild A", "nx.exists.sub A"},
			"dname": {"target A", "a.in A", "b.in A", "x.wt.in A", "nx.in A", "in TXT", "cn A", "in MX"},
		}[kind]
		for _, q := range questions {
			name, qtype, _ := strings.Cut(q, " ")
			out, err := exec.Command(delv, "@"+host, "-p", port, "-a", anchor, "+root="+z.name, name+"."+z.name, qtype).CombinedOutput()
			text := string(out)
			secure := strings.Contains(text, "fully validated") && !strings.Contains(text, "unsigned")
			open := (family == "optout." || family == "own3.") && strings.Contains(text, "unsigned answer")
			if err != nil || !secure && !open {
				t.Errorf("%s: %v\n%s", q+" in "+z.name, err, text)
			}
		}
	}
}
