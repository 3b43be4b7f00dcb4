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
	asJSON := fs.Bool("json", false, "print as JSON how many there were")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 || *out == "" || *length <= 0 || want.Rate < 1 || want.PerSecond < 1 {
		return cli.Usagef(fs, "edge capture: expected --out FILE, and positive numbers")
	}
	if *asJSON && *out == "-" {
		return cli.Usagef(fs, "edge capture: --json and --out - exclude each other")
	}
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	file := &lateFile{name: *out}
	n, err := capture(ctx, &c, want, *reason, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("edge capture: %w", err)
	}
	if *asJSON {
		return show(true, map[string]any{"file": *out, "packets": n}, nil)
	}
	fmt.Fprintf(os.Stderr, "%d packets\n", n)
	return nil
}

// lateFile is a file that is made when it is first written to; - is the standard
// output.
type lateFile struct {
	name string
	file *os.File
}

func (f *lateFile) Write(b []byte) (int, error) {
	if f.file == nil {
		f.file = os.Stdout
		if f.name != "-" {
			file, err := os.Create(f.name)
			if err != nil {
				return 0, err
			}
			f.file = file
		}
	}
	return f.file.Write(b)
}

func (f *lateFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// capture writes samples to w until ctx ends; nothing where no node runs.
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
	if err = errors.Join(err, wrote); err != nil && n == 0 {
		return 0, err
	}
	return n, errors.Join(err, b.Flush())
}

func packetOf(s *xdp.Sample) pcap.Packet {
	return pcap.Packet{Time: s.Time, Length: s.Length, Data: s.Head}
}
