package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"meridian/cli"
	"meridian/edge/pcap"
	"meridian/edge/xdp"
	"meridian/fleet"
)

func runCapture(ctx context.Context, args []string) error {
	fs := cli.Flags("edge capture --out FILE [flags]", "edge capture --out drops.pcap --for 10s --rate 1 --reason drop_")
	var c client
	c.register(fs)
	out := fs.String("out", "", "`FILE` to write, in pcap format; - for the standard output")
	length := fs.Duration("for", 10*time.Second, "how long")
	var want fleet.PacketSampling
	fs.IntVar(&want.Rate, "rate", 100, "take one in `N` packets, whatever becomes of them")
	fs.IntVar(&want.PerSecond, "per-second", 10_000, "take at most `N` packets a second")
	reason := fs.String("reason", "", "write only packets of which this became: a `PREFIX` of a reason, as drop_ or drop_rule")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 || *out == "" || *length <= 0 || want.Rate < 1 || want.PerSecond < 1 {
		return cli.Usagef(fs, "edge capture: expected --out FILE, and positive numbers")
	}
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	file := os.Stdout
	if *out != "-" {
		if file, err = os.Create(*out); err != nil {
			return err
		}
	}
	n, err := capture(ctx, &c, want, *reason, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("edge capture: %w", err)
	}
	fmt.Fprintf(os.Stderr, "%d packets\n", n)
	return nil
}

// capture writes samples to w until ctx ends.
func capture(ctx context.Context, c *client, want fleet.PacketSampling, reason string, w io.Writer) (n int, err error) {
	b := bufio.NewWriter(w)
	out, err := pcap.NewWriter(b)
	if err != nil {
		return 0, err
	}
	var wrote error
	err = c.samples(ctx, want, func(s *xdp.Sample) bool {
		if !strings.HasPrefix(s.Reason, reason) {
			return true
		}
		n++
		wrote = out.Write(packetOf(s))
		return wrote == nil
	})
	return n, errors.Join(err, wrote, b.Flush())
}

func packetOf(s *xdp.Sample) pcap.Packet {
	return pcap.Packet{Time: s.Time, Length: s.Length, Data: s.Head}
}
