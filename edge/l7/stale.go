package l7

import (
	"bytes"
	"container/list"
	"net/http"
	"strconv"
	"sync"
	"time"

	"meridian/edge/l7/wire"
)

// staleStore keeps answers of a service to be used when no endpoint answers (RFC
// 5861 section 4): those used last, within a bound. It is not a cache in front
// of endpoints: while they answer, each is asked. It is safe for concurrent use.
type staleStore struct {
	size int

	mu    sync.Mutex // guards below
	used  int
	byKey map[string]*list.Element
	order *list.List // of *keeping, the last used first
}

// keeping is one answer that is kept, or on its way to be.
type keeping struct {
	key   string
	head  wire.Head
	body  []byte
	limit int           // of the body
	lasts time.Duration // from when it came
	since moment
	age   time.Duration // that it had
}

// overhead is what an answer costs beside its octets, roughly.
const overhead = 512

func (k *keeping) cost() int {
	n := overhead + len(k.key) + cap(k.body)
	for i := range k.head.Fields {
		n += len(k.head.Fields[i].Name) + len(k.head.Fields[i].Value)
	}
	return n
}

// add keeps a piece of the body; false: it is too long.
func (k *keeping) add(p []byte) bool {
	if len(k.body)+len(p) > k.limit {
		return false
	}
	k.body = append(k.body, p...)
	return true
}

func newStaleStore(size int) *staleStore {
	return &staleStore{size: size, byKey: map[string]*list.Element{}, order: list.New()}
}

func (s *staleStore) put(k *keeping) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byKey[k.key]; e != nil {
		s.drop(e)
	}
	if k.cost() > s.size {
		return
	}
	s.byKey[k.key] = s.order.PushFront(k)
	s.used += k.cost()
	for s.used > s.size {
		s.drop(s.order.Back())
	}
}

func (s *staleStore) drop(e *list.Element) {
	k := s.order.Remove(e).(*keeping)
	delete(s.byKey, k.key)
	s.used -= k.cost()
}

// get gives an answer that may still be used at a moment; nobody writes to it.
func (s *staleStore) get(key string, now moment) *keeping {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[key]
	if e == nil {
		return nil
	}
	k := e.Value.(*keeping)
	if time.Duration(now-k.since)+k.age > k.lasts {
		s.drop(e)
		return nil
	}
	s.order.MoveToFront(e)
	return k
}

// staleKey names an answer; false: the request is one client's own, or not for
// the whole of what is asked for.
func (x *exchange) staleKey() (string, bool) {
	if x.method != http.MethodGet && x.method != http.MethodHead {
		return "", false
	}
	if x.shaped.personal || len(x.to.adds) > 0 {
		return "", false
	}
	return strconv.Itoa(x.way.Index) + " " + x.scheme() + " " + x.host + " " + string(x.h.Target) + " " + string(x.h.Get(wire.AcceptEncoding)), true
}

// personal says whether the request, as the client sent it, is one client's own,
// or for a part: what filters take from it and tell endpoints does not change
// that. Of one from another region it cannot be known any more.
func (x *exchange) personal() bool {
	h, cs := x.h, x.sess.tls
	return x.foreign || h.Get(wire.Authorization) != nil || h.Get(wire.Cookie) != nil || h.Find("Range", 0) >= 0 ||
		cs != nil && len(cs.VerifiedChains) > 0 && x.gen.tls.auth[x.index] != nil
}

// begunKeeping begins to keep the answer, if it is one to keep: a whole 200 to
// GET, for everyone (RFC 9111 section 3), that varies by Accept-Encoding at most.
// One that ends with its connection may have been cut short (RFC 9112 section 8).
func (x *exchange) begunKeeping() {
	key, ok := x.staleKey()
	a, spec := &x.ans, x.way.set.Stale
	endless := a.Version <= wire.HTTP11 && a.Length < 0 && !a.Chunked
	if !ok || endless || a.Status != http.StatusOK || x.method != http.MethodGet || a.Length > int64(spec.MaxBody) || a.Get(wire.SetCookie) != nil {
		return
	}
	lasts, age, ok := staleLife(a, spec.For.D())
	if !ok {
		return
	}
	k := &keeping{key: key, limit: spec.MaxBody, lasts: lasts, age: age, since: x.g.now()}
	for i := range a.Fields {
		f := &a.Fields[i]
		if f.ID == wire.XRequestID || f.ID == wire.Trailer || f.ID == wire.ContentLength || wire.EqualFold(f.Name, "age") {
			continue
		}
		k.head.Add(view(f.Name), view(f.Value))
	}
	if a.Length > 0 {
		k.body = make([]byte, 0, a.Length)
	}
	x.shaped.keep = k
}

// staleLife says how long, from when it was made, an answer may be used: while
// it is fresh, and then for so long as the Spec says, or the answer's own
// stale-if-error, if that is less.
func staleLife(a *wire.Head, most time.Duration) (lasts, age time.Duration, ok bool) {
	fresh := time.Duration(0)
	shared := false
	for i := range a.Fields {
		f := &a.Fields[i]
		switch {
		case f.ID == wire.Vary:
			for part := range bytes.SplitSeq(f.Value, []byte{','}) {
				if p := bytes.TrimSpace(part); len(p) > 0 && !wire.EqualFold(p, "accept-encoding") {
					return 0, 0, false
				}
			}
		case wire.EqualFold(f.Name, "age"):
			age = seconds(f.Value)
		case f.ID == wire.CacheControl:
			for part := range bytes.SplitSeq(f.Value, []byte{','}) {
				name, value, _ := bytes.Cut(bytes.TrimSpace(part), []byte{'='})
				switch {
				case wire.EqualFold(name, "no-store"), wire.EqualFold(name, "private"), wire.EqualFold(name, "no-cache"),
					wire.EqualFold(name, "must-revalidate"), wire.EqualFold(name, "proxy-revalidate"):
					return 0, 0, false
				case wire.EqualFold(name, "s-maxage"):
					fresh, shared = seconds(value), true
				case wire.EqualFold(name, "max-age") && !shared:
					fresh = seconds(value)
				case wire.EqualFold(name, "stale-if-error"):
					most = min(most, seconds(value))
				}
			}
		}
	}
	return fresh + most, age, true
}

func seconds(b []byte) time.Duration {
	n, err := strconv.ParseUint(string(bytes.Trim(b, "\" ")), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// answerStale answers from memory; false: there is nothing to answer by.
func (x *exchange) answerStale() bool {
	if x.way == nil || x.way.stale == nil || x.answered {
		return false
	}
	key, ok := x.staleKey()
	if !ok {
		return false
	}
	k := x.way.stale.get(key, x.g.now())
	if k == nil {
		return false
	}
	a := &x.ans
	a.Reset()
	a.Fields = append(a.Fields, k.head.Fields...)
	a.Add("Age", strconv.Itoa(int((time.Duration(x.g.now()-k.since) + k.age).Seconds())))
	a.Add("Cache-Status", "meridian; hit; detail=stale-if-error") // RFC 9211
	x.note("stale_if_error", "answered from memory", "")
	x.g.metrics.filters.stale.WithLabelValues(x.service.spec.Service).Inc()
	x.sayAs(http.StatusOK, "", view(k.body))
	return true
}
