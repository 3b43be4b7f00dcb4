package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"meridian/controlplane/store"
	"meridian/fleet"
	"meridian/identity"
)

// delayed relays TCP to target with a delay in each direction, as a link
// between continents has.
func delayed(b *testing.B, target string, delay time.Duration) (addr string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			go carry(in, out, delay)
			go carry(out, in, delay)
		}
	}()
	return l.Addr().String()
}

// carry copies from a to b, each piece after the delay.
func carry(a, b net.Conn, delay time.Duration) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 4096)
	go func() {
		defer b.Close()
		for p := range pieces {
			<-time.After(time.Until(p.due))
			if _, err := b.Write(p.data); err != nil {
				a.Close()
			}
		}
	}()
	defer close(pieces)
	for {
		buf := make([]byte, 32<<10)
		n, err := a.Read(buf)
		if n > 0 {
			pieces <- piece{time.Now().Add(delay), buf[:n]}
		}
		if err != nil {
			return
		}
	}
}

// BenchmarkAcceptedToAcknowledged measures a change of the Spec from the
// store's acceptance to the ACK of every node, with 240 ms of round trip
// between the store's members and the ticks of a real cluster.
func BenchmarkAcceptedToAcknowledged(b *testing.B) {
	key, _ := identity.NewKey(rand.Reader)
	id, err := identity.New(key)
	if err != nil {
		b.Fatal(err)
	}
	names := []string{"fra-1", "nrt-1", "iad-1"}
	var peers []store.Member
	var listen []string
	for _, name := range names {
		l := freeAddress(b, "127.0.0.1")
		listen = append(listen, l)
		peers = append(peers, store.Member{Name: name, Address: delayed(b, l, 120*time.Millisecond)})
	}
	var ms []*machine
	for i, name := range names {
		m := &machine{t: b, name: name, dir: b.TempDir(), id: id, peers: peers, listen: listen[i], tick: 300, etcd: freeAddress(b, "127.0.0.1"), xds: freeAddress(b, "127.0.0.1")}
		ms = append(ms, m)
		m.startStore()
		m.start()
	}
	dir := b.TempDir()
	for i, name := range []string{"fra-1", "nrt-1", "nrt-2"} {
		join(b, id, name, dir, ms[min(i, 1)].xds)
	}
	objects := []fleet.Object{zoneObject()}
	ctx := context.Background()
	rev := uint64(0)
	submit := func(i int) (accepted time.Time, ok bool) {
		res, err := ms[i%3].api.Submit(ctx, edited(fmt.Sprintf("Tokyo%d", i)), objects, nil, false)
		if err != nil {
			return accepted, false
		}
		rev = res.Revision
		return res.Accepted, true
	}
	acked := func() (last time.Time, ok bool) {
		st, err := ms[0].api.Status(ctx)
		if err != nil || len(st.Nodes) == 0 {
			return last, false
		}
		for _, n := range st.Nodes {
			if n.Applied < rev {
				return last, false
			}
			if n.At.After(last) {
				last = n.At
			}
		}
		return last, true
	}
	until(b, "the first revision", func() bool { _, ok := submit(0); return ok })
	until(b, "its ACKs", func() bool { _, ok := acked(); return ok })
	var took []time.Duration
	i := 0
	for b.Loop() {
		i++
		var accepted, last time.Time
		until(b, "acceptance", func() (ok bool) { accepted, ok = submit(i); return ok })
		until(b, "ACKs", func() (ok bool) { last, ok = acked(); return ok })
		took = append(took, last.Sub(accepted))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "max-ms")
}
