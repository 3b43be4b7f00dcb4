package hop

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"meridian/edge/l7/wire"
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
	ID     string        // by which both gateways know it, whatever X-Request-ID tells endpoints
	Draw   uint64        // that has picked the pool, where the route splits requests
	Sent   time.Time     // to the millisecond
	Left   time.Duration // until the client's deadline, to the millisecond; 0: it has none
}

// What is wrong with a mark.
var (
	ErrMark = errors.New("the mark is malformed")
	ErrSign = errors.New("the mark is not signed by this fleet")
	ErrOld  = errors.New("the mark is of another time")
)

// Append adds the mark's text to b. It is good for the request with the head h alone.
func (k Key) Append(b []byte, m Mark, h *wire.Head) []byte {
	start := len(b)
	b = append(b, '2', ' ')
	b = append(append(b, m.From...), ' ')
	b = append(m.Client.AppendTo(b), ' ')
	b = append(append(b, m.ID...), ' ')
	b = append(strconv.AppendUint(b, m.Draw, 16), ' ')
	b = append(strconv.AppendInt(b, m.Sent.UnixMilli(), 10), ' ')
	b = strconv.AppendInt(b, m.Left.Milliseconds(), 10)
	sum := k.sum(b[start:], h)
	return base64.RawURLEncoding.AppendEncode(append(b, ' '), sum)
}

// Read verifies a mark's text at a moment, with the head that it came with.
func (k Key) Read(text []byte, h *wire.Head, now time.Time) (Mark, error) {
	if len(k) == 0 || len(text) > 512 {
		return Mark{}, ErrMark
	}
	part := strings.Split(string(text), " ")
	if len(part) != 8 || part[0] != "2" {
		return Mark{}, ErrMark
	}
	sum := k.sum(text[:len(text)-len(part[7])-1], h)
	if !hmac.Equal([]byte(part[7]), base64.RawURLEncoding.AppendEncode(nil, sum)) {
		return Mark{}, ErrSign
	}
	client, err1 := netip.ParseAddr(part[2])
	draw, err2 := strconv.ParseUint(part[4], 16, 64)
	sent, err3 := strconv.ParseInt(part[5], 10, 64)
	left, err4 := strconv.ParseInt(part[6], 10, 48)
	if errors.Join(err1, err2, err3, err4) != nil {
		return Mark{}, ErrMark
	}
	m := Mark{From: part[1], Client: client, ID: part[3], Draw: draw, Sent: time.UnixMilli(sent), Left: time.Duration(left) * time.Millisecond}
	if age := now.Sub(m.Sent); age < -Skew || age > Skew+m.Left {
		return Mark{}, ErrOld
	}
	return m, nil
}

// sum is over each part with its length, so that none can run into the next: the
// text, and all of the head that does not belong to the connection.
func (k Key) sum(text []byte, h *wire.Head) []byte {
	m := hmac.New(sha256.New, k)
	part := func(p []byte) {
		m.Write(strconv.AppendInt(nil, int64(len(p)), 10))
		m.Write([]byte{':'})
		m.Write(p)
	}
	for _, p := range [...][]byte{text, h.Method, h.Authority, h.Target} {
		part(p)
	}
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.ID.HopByHop() || f.ID == wire.Host || f.ID == wire.ContentLength || f.ID == wire.Expect || wire.EqualFold(f.Name, Field) {
			continue
		}
		part(f.Name)
		part(bytes.Trim(f.Value, " \t")) // as a parser gives it
	}
	return m.Sum(nil)
}
