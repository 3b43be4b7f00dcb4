package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"meridian/edge/sflow"
	"meridian/edge/xdp"
	"meridian/fleet"
)

// flushAfter is how long a sampled packet waits for others at most.
const flushAfter = time.Second

// exportFlows sends what layer 4 samples to an sFlow collector until ctx ends.
// What is sampled is for the Spec to say.
func exportFlows(ctx context.Context, x *xdp.Layer4, agent netip.Addr, collector string, log *slog.Logger) error {
	conn := reach(ctx, collector, log)
	if conn == nil {
		return nil
	}
	defer conn.Close()
	packets := make(chan *xdp.Sample, 256)
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		x.Samples(ctx, fleet.PacketSampling{}, func(s *xdp.Sample) bool {
			select {
			case packets <- s:
			case <-ctx.Done():
			}
			return true
		})
	})
	e := sflow.New(agent, time.Now())
	tick := time.NewTicker(flushAfter)
	defer tick.Stop()
	failing := false
	send := func(b []byte) {
		if b == nil {
			return
		}
		_, err := conn.Write(b)
		if err != nil && !failing {
			log.Warn("sFlow datagrams do not leave", "collector", collector, "error", err)
		}
		failing = err != nil
	}
	var seen, lost uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if t, err := x.Traffic(); err == nil {
				seen, lost = t.Seen, t.Lost
			}
			send(e.Flush(time.Now()))
		case s := <-packets:
			send(e.Add(&sflow.Packet{Head: s.Head, Length: s.Length, Rate: s.Rate, Input: s.Device, Output: outputOf(s), Seen: seen, Lost: lost}, time.Now()))
		}
	}
}

// reachAgain is how long a collector that cannot be found is left alone.
const reachAgain = 10 * time.Second

// reach gives a socket to the collector, as soon as its name is known; nil where
// ctx ended before.
func reach(ctx context.Context, collector string, log *slog.Logger) net.Conn {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", collector)
		if err == nil {
			return conn
		}
		log.Warn("sFlow collector not found", "collector", collector, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reachAgain):
		}
	}
}

// outputOf says where a sampled packet went.
func outputOf(s *xdp.Sample) sflow.Output {
	verdict, reason, _ := strings.Cut(s.Reason, "_")
	switch {
	case verdict == "pass" || reason == "reply":
		return sflow.OutputHere
	case verdict == "tx":
		return sflow.Output(s.Device)
	case s.Defended:
		return sflow.OutputDenied
	}
	return sflow.OutputDropped
}
