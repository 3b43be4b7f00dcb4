package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"meridian/dns/zone"
)

// trickle sends an endless zone with a message of some records after each
// wait, until the other side hangs up.
func trickle(t *testing.T, c net.Conn, records int, wait time.Duration, messages int) {
	defer c.Close()
	body := rrs(t, "SOA 1\nexample.test. 300 NS ns1.example.test.\n")
	query := request("example.test.", typeAXFR, nil)
	binary.BigEndian.PutUint16(query, 7)
	for i := 0; i < messages; i++ {
		p := newPacker(hardLimit, 0)
		p.begin(query, false)
		for _, r := range body {
			p.put(r)
		}
		for k := range records {
			p.put(record{fmt.Sprintf("\x08%08d", i*records+k) + "\x07example\x04test\x00", zone.TypeA, 1, []byte{1, 2, 3, 4}})
		}
		if body = nil; i == messages-1 {
			p.put(rrs(t, "SOA 1\n")[0])
		}
		msg := p.message()
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
			return
		}
		<-time.After(wait)
	}
}

// Bad input: a primary that sends a little now and then does not hold a
// transfer for as long as it likes; one that is merely slow is waited for.
func TestTricklingPrimary(t *testing.T) {
	for name, c := range map[string]struct {
		records, messages int
		wait, atMost      time.Duration
		want              error
	}{
		"a record each 20 s":     {1, 1000, 20 * time.Second, paceTime + 20*time.Second, errTrickle},
		"then nothing":           {1, 1000, readTimeout + time.Second, readTimeout, errSilent},
		"500 records each 20 s":  {500, 30, 20 * time.Second, time.Hour, nil},
		"small, and soon at end": {1, 5, 10 * time.Second, time.Minute, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				var primary sync.WaitGroup
				primary.Go(func() { trickle(t, theirs, c.records, c.wait, c.messages) })
				defer primary.Wait()
				defer ours.Close()
				in := newIncoming("example.test.", 7, nil, false, limits{1 << 30, 1 << 30})
				began := time.Now()
				err := in.receive(t.Context(), ours, nil)
				if took := time.Since(began); took > c.atMost {
					t.Errorf("held for %s", took)
				}
				switch c.want {
				case nil:
					if err != nil {
						t.Error(err)
					}
				case errSilent:
					if !isSilence(err) {
						t.Error(err)
					}
				default:
					if !errors.Is(err, c.want) || !isSilence(err) {
						t.Error(err)
					}
				}
			})
		})
	}
	tr, _ := direct(t, "zones: []")
	tr.metrics.transferred("in", fmt.Errorf("after 7 records: %w", errTrickle))
	if got := counter(t, &node{Transfer: tr}, "meridian_dns_transfers_total", "in", "slow"); got != 1 {
		t.Errorf("%v slow transfers counted", got)
	}
}

var errSilent = errors.New("says nothing")
