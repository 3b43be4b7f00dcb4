package hop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Field is the name of the header field that holds a Mark.
const Field = "Meridian-Hop"

// Skew is how far the clocks of two gateways may be apart; a mark older than that,
// beside the time that the request has left, is not believed.
const Skew = time.Minute

// Key signs marks; every gateway of the fleet has the same one. None marks and
// believes nothing.
type Key []byte

// Mark is what one region's gateway tells another's of a request that it passes on.
type Mark struct {
	From   string        // the region that it comes from
	Client netip.Addr    // whose request it is
	Sent   time.Time     // to the millisecond
	Left   time.Duration // until the client's deadline, to the millisecond; 0: it has none
}

// About is the request that a mark is for, as it is on the wire: a mark is good for
// no other.
type About struct{ Method, Host, Target, ID []byte }

// What is wrong with a mark.
var (
	ErrMark = errors.New("the mark is malformed")
	ErrSign = errors.New("the mark is not signed by this fleet")
	ErrOld  = errors.New("the mark is of another time")
)

// Append adds the mark's text to b.
func (k Key) Append(b []byte, m Mark, a About) []byte {
	start := len(b)
	b = append(b, '1', ' ')
	b = append(append(b, m.From...), ' ')
	b = append(m.Client.AppendTo(b), ' ')
	b = append(strconv.AppendInt(b, m.Sent.UnixMilli(), 10), ' ')
	b = strconv.AppendInt(b, m.Left.Milliseconds(), 10)
	sum := k.sum(b[start:], a)
	return base64.RawURLEncoding.AppendEncode(append(b, ' '), sum)
}

// Read verifies a mark's text at a moment.
func (k Key) Read(text []byte, a About, now time.Time) (Mark, error) {
	if len(k) == 0 || len(text) > 512 {
		return Mark{}, ErrMark
	}
	part := strings.Split(string(text), " ")
	if len(part) != 6 || part[0] != "1" {
		return Mark{}, ErrMark
	}
	sum := k.sum(text[:len(text)-len(part[5])-1], a)
	if !hmac.Equal([]byte(part[5]), base64.RawURLEncoding.AppendEncode(nil, sum)) {
		return Mark{}, ErrSign
	}
	client, err1 := netip.ParseAddr(part[2])
	sent, err2 := strconv.ParseInt(part[3], 10, 64)
	left, err3 := strconv.ParseInt(part[4], 10, 48)
	if errors.Join(err1, err2, err3) != nil {
		return Mark{}, ErrMark
	}
	m := Mark{From: part[1], Client: client, Sent: time.UnixMilli(sent), Left: time.Duration(left) * time.Millisecond}
	if age := now.Sub(m.Sent); age < -Skew || age > Skew+m.Left {
		return Mark{}, ErrOld
	}
	return m, nil
}

// sum is over each part with its length, so that none can run into the next.
func (k Key) sum(text []byte, a About) []byte {
	h := hmac.New(sha256.New, k)
	for _, p := range [][]byte{text, a.Method, a.Host, a.Target, a.ID} {
		h.Write(strconv.AppendInt(nil, int64(len(p)), 10))
		h.Write([]byte{':'})
		h.Write(p)
	}
	return h.Sum(nil)
}
