package server

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/answer"
)

// Tap takes copies of messages for a query log; dns/tap implements it.
type Tap interface {
	// Share is the share of queries that it wants, from 0 (none) to 1.
	Share() float64
	// Take takes one query and its answer (empty: none was sent). It does not
	// block and does not keep the slices.
	Take(query, answer []byte, client netip.AddrPort, t Transport, at time.Time)
}

// fate is what became of an answer after the plan gave it.
type fate uint8

const (
	answered fate = iota
	limited       // dropped by the rate limit
	slipped       // truncated by the rate limit
)

func (f fate) String() string { return [...]string{"answered", "limited", "truncated"}[f] }

// observed is one query and its answer, as it is noted.
type observed struct {
	query, answer []byte
	client        netip.AddrPort
	transport     Transport
	outcome       answer.Outcome
	fate          fate
}

// QueryRecord is a query that was answered not long ago.
type QueryRecord struct {
	Time      time.Time      `json:"time"`
	Client    netip.AddrPort `json:"client"`
	Transport string         `json:"transport"`
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Rcode     string         `json:"rcode"`       // "" where it got no answer
	Fate      string         `json:"fate"`        // answered, limited, truncated
	Revision  uint64         `json:"revision"`    // of the Snapshot that it was answered by
	View      uint64         `json:"view"`        // revision of the View
	Query     []byte         `json:"query"`       // the message, its first 512 octets
	Size      int            `json:"size"`        // of the answer, in octets
	Hash      uint64         `json:"hash,string"` // of the answer: AnswerHash
}

// RecentFilter chooses among records; zero fields choose all.
type RecentFilter struct {
	Name   string       // the queried name, or any below *.NAME
	Client netip.Prefix // that the query came from
	Most   int          // records, the newest; 0 for 100
}

const (
	ringSize     = 256 // records of one socket
	ringRate     = 64  // records that it takes a second: all of a quiet socket's, the first of a busy one's
	recordedSize = 512
)

// ring holds the last records of one socket.
type ring struct {
	mu      sync.Mutex
	records [ringSize]ringRecord
	n       uint64
}

type ringRecord struct {
	at             time.Time
	client         netip.AddrPort
	transport      Transport
	outcome        answer.Outcome
	fate           fate
	revision, view uint64
	query          [recordedSize]byte
	length, size   int
	hash           uint64
}

// due says whether a record is to be kept of a query at this second.
func (st *stats) due(second int64) bool {
	if st.second.Load() != second {
		st.second.Store(second)
		st.noted.Store(0)
	}
	return st.noted.Load() < ringRate && st.noted.Add(1) <= ringRate
}

// tapped says whether the Tap gets this query.
func (s *Server) tapped(st *stats) bool {
	if s.cfg.Tap == nil {
		return false
	}
	share := s.cfg.Tap.Share()
	return share >= 1 || share > 0 && st.draw() < share
}

// tap gives the Tap a query.
func (s *Server) tap(o *observed, now time.Time) {
	s.cfg.Tap.Take(o.query, o.answer, o.client, o.transport, now)
}

// draw gives the next of a sequence of numbers that fills 0 to 1 evenly
// (multiples of the golden ratio), to sample by.
func (st *stats) draw() float64 {
	return float64(st.drawn.Add(0x9e3779b97f4a7c15)>>11) / (1 << 53)
}

// try is add for a loop that cannot wait: where another is at the ring, the
// record is left out.
func (r *ring) try(p *moment, o *observed, now time.Time) {
	if r.mu.TryLock() {
		r.put(p, o, now)
		r.mu.Unlock()
	}
}

// add keeps one record.
func (r *ring) add(p *moment, o *observed, now time.Time) {
	r.mu.Lock()
	r.put(p, o, now)
	r.mu.Unlock()
}

func (r *ring) put(p *moment, o *observed, now time.Time) {
	e := &r.records[r.n%ringSize]
	r.n++
	e.at, e.client, e.transport, e.outcome, e.fate = now, o.client, o.transport, o.outcome, o.fate
	e.outcome.Zone = nil // not to hold on to it
	e.revision, e.view = p.revision, p.view
	e.length = copy(e.query[:], o.query)
	e.size, e.hash = len(o.answer), AnswerHash(o.answer)
}

// AnswerHash is FNV-1a of 64 bits over an answer.
func AnswerHash(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// Recent gives records of queries, the newest first. Each socket keeps its last
// 256, of which it takes at most 64 a second; so does what answers ahead of them.
func (s *Server) Recent(f RecentFilter) []QueryRecord {
	if f.Most == 0 {
		f.Most = 100
	}
	s.opening.Lock()
	all := slices.Clone(s.stats)
	s.opening.Unlock()
	out := append([]QueryRecord{}, s.fastRing.list(f)...)
	for _, st := range all {
		out = append(out, st.ring.list(f)...)
	}
	slices.SortStableFunc(out, func(a, b QueryRecord) int { return b.Time.Compare(a.Time) })
	return out[:min(len(out), f.Most)]
}

func (r *ring) list(f RecentFilter) (out []QueryRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range min(r.n, ringSize) {
		e := &r.records[(r.n-1-i)%ringSize]
		rec := QueryRecord{Time: e.at, Client: e.client, Transport: e.transport.String(), Fate: e.fate.String(),
			Revision: e.revision, View: e.view, Query: slices.Clone(e.query[:e.length]), Size: e.size, Hash: e.hash}
		if e.outcome.Drop == answer.Answered {
			rec.Rcode = dns.RcodeToString[int(e.outcome.Rcode)]
			rec.Type = dns.Type(e.outcome.Type).String()
		}
		rec.Name, _, _ = dns.UnpackDomainName(rec.Query, headerLen)
		if f.has(&rec) {
			out = append(out, rec)
		}
	}
	return out
}

func (f *RecentFilter) has(r *QueryRecord) bool {
	if f.Client.IsValid() && !f.Client.Contains(r.Client.Addr()) {
		return false
	}
	if f.Name == "" {
		return true
	}
	name := strings.ToLower(dns.Fqdn(f.Name))
	if below, ok := strings.CutPrefix(name, "*"); ok {
		return strings.HasSuffix(strings.ToLower(r.Name), below)
	}
	return strings.ToLower(r.Name) == name
}
