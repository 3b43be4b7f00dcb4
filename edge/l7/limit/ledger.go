package limit

import (
	"slices"
	"time"
)

// Ledger is one member's view of a quota that several hold together, without
// anybody in the middle: gateways of a region, or regions. Each member owns a
// part, may use that and no more, and gives of it to others by demand. What a
// member has ever given is a row of numbers that it alone writes and that only
// grow, so that views may be exchanged in any order, twice or not at all (a
// bounded counter: Balegas et al., "Extending Eventually Consistent Cloud
// Databases for Enforcing Numeric Invariants", 2015).
//
// So what all members may use together is never more than the quota, however
// messages are lost and the fleet is split: a member that is cut off keeps its
// last share. One thing alone may exceed it: Allowance lends the shares of
// members that are long unheard to those who still are most; see there.
//
// It is not safe for concurrent use.
type Ledger struct {
	epoch   uint64
	quota   int64
	lapse   time.Duration
	members []string
	self    int
	rows    []Row
	heard   []time.Duration // when a row last had something new
	known   []bool          // heard of at all
	made    time.Duration
}

// Row is what one member says.
type Row struct {
	Seq    uint64  `json:"seq"`    // counts its reports
	Demand int64   `json:"demand"` // what it could use, in the quota's unit
	Given  []int64 `json:"given"`  // to each member, ever
}

// Report is what members send each other: all that the sender knows. So a
// member that begins anew learns what it gave before.
type Report struct {
	Epoch uint64 `json:"epoch"`
	Rows  []Row  `json:"rows"` // by member, in order of name
}

// NewLedger begins with the quota in equal parts. The epoch stands for quota and
// members: with another of either a new ledger begins, and reports of the old
// are none of it. The self is one of the members, which differ. A member that is
// unheard for lapse is lent out.
func NewLedger(epoch uint64, quota int64, members []string, self string, lapse, now time.Duration) *Ledger {
	members = slices.Sorted(slices.Values(members))
	l := &Ledger{epoch: epoch, quota: quota, lapse: lapse, members: members, made: now,
		self: slices.Index(members, self), rows: make([]Row, len(members)),
		heard: make([]time.Duration, len(members)), known: make([]bool, len(members))}
	for i := range l.rows {
		l.rows[i].Given = make([]int64, len(members))
		l.heard[i] = now
	}
	return l
}

// owns is the part that a member owns, as far as is known here: of the own part
// never more than it is.
func (l *Ledger) owns(i int) int64 {
	n := int64(len(l.members))
	own := l.quota / n
	if int64(i) < l.quota%n {
		own++
	}
	for j := range l.rows {
		own += l.rows[j].Given[i] - l.rows[i].Given[j]
	}
	return own
}

// Share is what this member owns. One that has just begun, and may have given
// away in an earlier life what it does not remember, owns a tenth of an equal
// part until it has heard of all others, or for the time of a lapse.
func (l *Ledger) Share(now time.Duration) int64 {
	own := max(l.owns(l.self), 0)
	if !l.settled(now) {
		return min(own, l.quota/int64(10*len(l.members)))
	}
	return own
}

func (l *Ledger) settled(now time.Duration) bool {
	if now-l.made >= l.lapse {
		return true
	}
	for i, known := range l.known {
		if i != l.self && !known {
			return false
		}
	}
	return true
}

// Allowance is what this member may use: its share, and while it hears more
// than half of the members (itself counted) an equal part of what those own
// that it has not heard for the lapse. If these are dead, their part of the
// quota is not lost; if they are only cut off they go on using their shares, and
// all together use up to what those cut off own more than the quota: never more
// than twice the quota.
func (l *Ledger) Allowance(now time.Duration) int64 {
	share := l.Share(now)
	alive, lost := int64(0), int64(0)
	for i := range l.members {
		if l.fresh(i, now) {
			alive++
		} else {
			lost += max(l.owns(i), 0)
		}
	}
	if 2*alive <= int64(len(l.members)) || !l.settled(now) {
		return share
	}
	return share + min(lost, l.quota)/alive
}

func (l *Ledger) fresh(i int, now time.Duration) bool {
	return i == l.self || now-l.heard[i] < l.lapse
}

// Report notes this member's demand, gives of its share to those that want more
// than they own, and says what to send to the others, to any or all of them. It
// is called each second or so.
func (l *Ledger) Report(now time.Duration, demand int64) Report {
	me := &l.rows[l.self]
	me.Seq++
	me.Demand = max(demand, 0)
	if l.settled(now) {
		l.give(now)
	}
	out := Report{Epoch: l.epoch, Rows: make([]Row, len(l.rows))}
	for i, r := range l.rows {
		out.Rows[i] = Row{r.Seq, r.Demand, slices.Clone(r.Given)}
	}
	return out
}

// give hands what this member has above its due to those below theirs. Members
// that are unheard keep what they own, and get nothing.
func (l *Ledger) give(now time.Duration) {
	quota, demand := l.quota, map[string]int64{}
	for i, name := range l.members {
		if l.fresh(i, now) {
			demand[name] = l.rows[i].Demand
		} else {
			quota -= max(l.owns(i), 0)
		}
	}
	due := Shares(demand, max(quota, 0))
	spare, missing := l.owns(l.self)-due[l.members[l.self]], int64(0)
	lacks := make([]int64, len(l.members))
	for i, name := range l.members {
		if i != l.self && l.fresh(i, now) {
			lacks[i] = max(due[name]-l.owns(i), 0)
			missing += lacks[i]
		}
	}
	if spare <= 0 || missing == 0 {
		return
	}
	spare = min(spare, missing)
	for i, lack := range lacks {
		if lack == 0 {
			continue
		}
		part := mulDiv(lack, spare, missing)
		l.rows[l.self].Given[i] += part
		spare -= part
		missing -= lack
	}
}

// mulDiv gives a*b/c, rounded down, where a is at most c.
func mulDiv(a, b, c int64) int64 {
	return int64(float64(a) / float64(c) * float64(b))
}

// Merge takes what another member knows; false says that the report is of
// another epoch, or not one of this ledger's form.
func (l *Ledger) Merge(now time.Duration, r Report) bool {
	if r.Epoch != l.epoch || len(r.Rows) != len(l.rows) {
		return false
	}
	for _, row := range r.Rows {
		if len(row.Given) != len(l.rows) || slices.ContainsFunc(row.Given, func(n int64) bool { return n < 0 }) {
			return false
		}
	}
	for i, row := range r.Rows {
		mine := &l.rows[i]
		for j, n := range row.Given {
			mine.Given[j] = max(mine.Given[j], n)
		}
		if row.Seq > mine.Seq {
			mine.Seq, l.known[i] = row.Seq, true
			if i != l.self {
				mine.Demand, l.heard[i] = row.Demand, now
			}
		}
	}
	return true
}
