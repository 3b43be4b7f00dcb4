package garden_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/edge/l7/garden"
)

// walk is one hostile request on its way to one origin, and what came of it.
type walk struct {
	name    string
	want    garden.Want
	seen    []garden.Seen
	origin  *origin
	id      string
	got     string   // what the client was told
	status  int      // of the first answer, 0 for none
	says    []string // the origin's marks in the answers
	streams bool     // one and two came by streams, which may overtake each other
	canary  string   // why the canary behind it did not fare well
	sings   []string // the ids of its canaries
}

// workers walk at a time to each origin; few, so that the connections that a
// desync would leave behind are used again soon.
const workers = 4

var only = flag.String("garden", "", "send only requests whose names hold `WORD`")

// Nothing that a client sends makes an origin see two requests for one, another
// body, or another client's request changed; and no answer goes to another.
func TestHostileRequestsAreReadByAllAlikeOrRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests; the race detector has seen their like")
	}
	list := origins(t)
	gw := startGateway(t, list)
	var walks []*walk
	requests := slices.DeleteFunc(garden.All(), func(r garden.Request) bool { return !strings.Contains(r.Name, *only) })
	for _, o := range list {
		for _, r := range requests {
			w := &walk{name: r.Name, want: r.Want, seen: r.Seen, origin: o, id: fmt.Sprintf("%06d", len(walks))}
			walks = append(walks, w)
		}
	}
	send(t, gw, list, walks, func(i int, w *walk) {
		r := requests[i%len(requests)]
		w.got = talk(t, gw.plain, r.Octets.For(hostOf(w.origin), w.id), r)
	})
	for _, w := range walks {
		w.read()
	}
	judge(t, list, walks)
}

// send runs all walks, each followed by a canary over another connection.
func send(t *testing.T, gw *gateway, list []*origin, walks []*walk, walk func(int, *walk)) {
	t.Helper()
	began := time.Now()
	var all sync.WaitGroup
	per := len(walks) / len(list)
	for k, o := range list {
		next := make(chan int, per)
		for i := range per {
			next <- k*per + i
		}
		close(next)
		for range workers {
			c := canaries(gw)
			all.Go(func() {
				defer c.CloseIdleConnections()
				for i := range next {
					walk(i, walks[i])
					walks[i].sing(c, o, i)
				}
			})
		}
	}
	all.Wait()
	t.Logf("%d requests and a canary behind each in %v", len(walks), time.Since(began).Round(time.Millisecond))
}

// talk sends octets and gives all that comes back. It leaves where all that was
// awaited has come, the gateway has closed, or nothing comes any more.
func talk(t *testing.T, address, octets string, r garden.Request) string {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Errorf("%s: %v", r.Name, err)
		return ""
	}
	defer c.Close()
	limit, quiet := time.Now().Add(20*time.Second), 10*time.Second
	if r.Starves {
		quiet = 150 * time.Millisecond
	} else if r.Want != garden.Pass {
		quiet = 400 * time.Millisecond
	}
	c.SetWriteDeadline(limit)
	go io.WriteString(c, octets) // the gateway may answer, and close, before it has all
	var got []byte
	buf := make([]byte, 64<<10)
	for time.Now().Before(limit) {
		c.SetReadDeadline(time.Now().Add(quiet))
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil || r.Want != garden.Refuse && len(said.FindAll(got, -1)) >= len(r.Seen) {
			break
		}
	}
	return string(got)
}

var said = regexp.MustCompile(`(?i)\r\nX-Seen: (\S+)`)

// read takes the answers apart.
func (w *walk) read() {
	fmt.Sscanf(w.got, "HTTP/1.1 %d", &w.status)
	for _, m := range said.FindAllStringSubmatch(w.got, -1) {
		w.says = append(w.says, m[1])
	}
}

// canaries gives a client whose connections are its own.
func canaries(gw *gateway) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, gw.plain)
		}, DisableCompression: true}}
}

// sing sends a canary: a plain request that must come to the origin as it is,
// and whose answer must be its own. A connection that the origin has closed
// meanwhile is no fault of the gateway's, so it sings up to three times.
func (w *walk) sing(c *http.Client, o *origin, i int) {
	for try := range 3 {
		id := fmt.Sprintf("%06d", 100000*(try+1)+i)
		body := "canary " + id + " sings"
		q, _ := http.NewRequest("PUT", "http://"+hostOf(o)+"/canary-"+id, strings.NewReader(body))
		w.sings = append(w.sings, id)
		res, err := c.Do(q)
		if err != nil {
			w.canary = err.Error()
			return
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		w.canary = ""
		if res.StatusCode == 502 || res.StatusCode == 503 {
			w.canary = fmt.Sprintf("status %d, %q", res.StatusCode, b)
			continue
		}
		if mark := res.Header.Get("X-Seen"); err != nil || res.StatusCode != 200 || mark != "canary-"+id || string(b) != digest(body)+"\n" {
			w.canary = fmt.Sprintf("status %d, seen %q, body %q, %v", res.StatusCode, mark, b, err)
		}
		return
	}
}

// judge compares what was seen with what may be.
func judge(t *testing.T, list []*origin, walks []*walk) {
	t.Helper()
	passed := map[string]int{}
	for _, w := range walks {
		why := w.verdict()
		if why == "" {
			why = w.verdictOnCanary()
		}
		if slices.ContainsFunc(w.origin.ledger.of(w.id), func(r record) bool { mark, _ := r.mark(); return mark == "one" }) {
			passed[w.origin.name]++
		}
		if why != "" {
			t.Errorf("%s to %s (%s): %s; the client was told %.120q", w.name, w.origin.name, w.id, why, w.got)
		}
	}
	for _, o := range list {
		o.readLog(t)
		for _, s := range o.ledger.odd {
			t.Errorf("%s has seen what nobody has sent: %s", o.name, s)
		}
		for _, s := range o.ledger.no {
			if why := blame(s, walks); why != "" && !strings.Contains(s, "OPTIONS *") {
				t.Errorf("%s has refused %.300q: %s", o.name, s, why)
			}
		}
		t.Logf("%s: %d of %d came through, %d of them it refused itself", o.name, passed[o.name], len(walks)/len(list), len(o.ledger.no))
		if passed[o.name] == 0 {
			t.Errorf("nothing came through to %s", o.name)
		}
	}
}

// blame says why an origin should not have had to refuse something.
func blame(line string, walks []*walk) string {
	m := marked.FindStringSubmatch(line)
	if m == nil {
		return "it names no request"
	}
	i := slices.IndexFunc(walks, func(w *walk) bool { return w.id == m[2] })
	switch {
	case i < 0:
		return "a canary was hurt"
	case m[1] != "one" && walks[i].want == garden.Refuse:
		return "the gateway had to refuse it"
	}
	return ""
}

func (w *walk) verdict() string {
	records := w.origin.ledger.of(w.id)
	if w.streams {
		slices.SortStableFunc(records, func(a, b record) int {
			m, _ := a.mark()
			n, _ := b.mark()
			return strings.Compare(m, n) // one, two
		})
	}
	at := 0
	for _, r := range records {
		mark, _ := r.mark()
		if mark == "smuggled" {
			return "the origin sees the smuggled request"
		}
		for at < len(w.seen) && w.seen[at].Mark != mark {
			at++
		}
		if at == len(w.seen) {
			return fmt.Sprintf("the origin sees %s %.100q, which it should not, or not again", r.Method, r.Target)
		}
		if want := w.seen[at]; r.Method != want.Method || r.Digest != digest(want.Body) {
			return fmt.Sprintf("the origin sees %s %s with body %s, expected %s with %s", r.Method, mark, r.Digest, want.Method, digest(want.Body))
		}
		if why := w.fields(r); why != "" {
			return why
		}
		at++
	}
	if w.want == garden.Pass && len(records) != len(w.seen) {
		return fmt.Sprintf("the origin sees %d requests, expected %d", len(records), len(w.seen))
	}
	if w.want == garden.Refuse && (w.status != 0 && w.status != 100 && w.status < 400 || len(w.says) > 0) {
		return fmt.Sprintf("status %d, expected it refused", w.status)
	}
	return w.answers()
}

// answers: each is the request's own, in its order.
func (w *walk) answers() string {
	at := 0
	for _, s := range w.says {
		mark, id, _ := strings.Cut(s, "-")
		if id != w.id && s != "-" {
			return fmt.Sprintf("an answer to %s came to this client", s)
		}
		for at < len(w.seen) && w.seen[at].Mark != mark && s != "-" {
			at++
		}
		if at == len(w.seen) {
			return fmt.Sprintf("answers %v came twice or in another order", w.says)
		}
		at++
	}
	if w.want == garden.Pass && len(w.says) != len(w.seen) {
		return fmt.Sprintf("%d answers came, expected %d", len(w.says), len(w.seen))
	}
	return ""
}

// fields: nothing in a request's head is of the client's making that is the
// gateway's to say, and the framing is single.
func (w *walk) fields(r record) string {
	count := map[string]int{}
	for _, f := range r.Fields {
		name := strings.ReplaceAll(strings.ToLower(f[0]), "_", "-")
		count[name]++
		switch {
		case name == "host":
			if h := strings.TrimSuffix(strings.ToLower(strings.SplitN(f[1], ":", 2)[0]), "."); h != hostOf(w.origin) {
				return fmt.Sprintf("the origin sees host %q", f[1])
			}
		case name == "injected", name == "forwarded", strings.HasPrefix(name, "x-forwarded-"), name == "x-real-ip", name == "x-request-id":
			if strings.Contains(f[1], "spoofed ") || name != "x-request-id" && strings.Contains(f[1], "spoofed") {
				return fmt.Sprintf("the origin sees %s: %s", f[0], f[1])
			}
		}
	}
	if count["host"] != 1 || count["x-request-id"] > 1 {
		return fmt.Sprintf("the origin sees %d hosts and %d ids", count["host"], count["x-request-id"])
	}
	return ""
}

func (w *walk) verdictOnCanary() string {
	if w.canary != "" {
		return "its canary: " + w.canary
	}
	for _, id := range w.sings {
		records := w.origin.ledger.of(id)
		if last := id == w.sings[len(w.sings)-1]; len(records) > 1 || last && len(records) == 0 {
			return fmt.Sprintf("the origin sees its canary %d times", len(records))
		}
		for _, r := range records {
			if mark, _ := r.mark(); mark != "canary" || r.Method != "PUT" || r.Target != "/canary-"+id || r.Digest != digest("canary "+id+" sings") {
				return fmt.Sprintf("the origin sees its canary as %s %s with body %s", r.Method, r.Target, r.Digest)
			}
			if why := w.fields(r); why != "" {
				return "its canary: " + why
			}
		}
	}
	return ""
}
