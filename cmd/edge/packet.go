package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"meridian/cli"
	"meridian/edge/pcap"
	"meridian/edge/quiclb"
	"meridian/edge/xdp"
	"meridian/fleet"
	"meridian/geo"
	"meridian/geo/mmdb"
)

// packetFlags are those of edge packet.
type packetFlags struct {
	spec, node, in, out, fleetKey string
	down, geo                     cli.List
	mtu, flows                    int
	json                          bool
}

func runPacket(_ context.Context, args []string) error {
	fs := cli.Flags("edge packet --spec FILE --node NAME --in CAPTURE [--out CAPTURE] [flags]",
		"edge packet --spec fleet.yaml --node fra-edge-1 --in a.pcap --out b.pcap --json")
	var f packetFlags
	fs.StringVar(&f.spec, "spec", "", "the fleet's Spec in `FILE`")
	fs.StringVar(&f.node, "node", "", "`NAME` of the node that gets the packets")
	fs.StringVar(&f.in, "in", "", "`CAPTURE` of Ethernet, pcap or pcapng, with the packets as they come to the node; - for standard input")
	fs.StringVar(&f.out, "out", "", "write the packets that would leave to `CAPTURE`, as pcap")
	fs.StringVar(&f.fleetKey, "fleet-key", "", "`FILE` of the fleet's key: with it flows fall on the slots that they have in the fleet, and connection ids are read")
	fs.Var(&f.down, "down", "as if the gateway `NAME`, or the endpoint ADDRESS:PORT, were down; repeatable")
	fs.Var(&f.geo, "geo", "geo database `FILE` (GeoIP2 schema) for the Spec's defence, repeatable (default the embedded country database)")
	fs.IntVar(&f.mtu, "mtu", 1500, "`MTU` of the way to every endpoint")
	fs.IntVar(&f.flows, "flows", 1<<16, "`N` flows to remember")
	fs.BoolVar(&f.json, "json", false, "print a line of JSON for each packet")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "edge packet: unexpected argument %q", rest[0])
	}
	if f.spec == "" || f.node == "" || f.in == "" {
		return cli.Usagef(fs, "edge packet: --spec, --node and --in are needed")
	}
	if f.flows < 4 || f.flows > xdp.MaxFlows {
		return cli.Usagef(fs, "edge packet: --flows: expected 4 to %d", xdp.MaxFlows)
	}
	return f.run(os.Stdout)
}

// packetLine is what is said of one packet.
type packetLine struct {
	Packet int       `json:"packet"` // its number in the capture, from 1
	Time   time.Time `json:"time"`
	Name   string    `json:"name,omitempty"` // its comment in a pcapng capture
	Flow   string    `json:"flow"`           // by its outermost headers
	Length int       `json:"length"`         // octets
	xdp.Outcome
	OutPacket int    `json:"out_packet,omitempty"` // its number in --out
	OutLength int    `json:"out_length,omitempty"`
	Error     string `json:"error,omitempty"` // why it was not run
}

func (f *packetFlags) run(stdout io.Writer) (err error) {
	in, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := pcap.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", f.in, err)
	}
	o, err := f.offline()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	out, err := f.create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	lines := bufio.NewWriter(stdout)
	defer func() { err = errors.Join(err, lines.Flush()) }()
	return f.each(r, o, out, lines)
}

func (f *packetFlags) open() (io.ReadCloser, error) {
	if f.in == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(f.in)
}

// offline makes layer 4 as the node has it.
func (f *packetFlags) offline() (*xdp.Offline, error) {
	world, _, err := readSpec(f.spec)
	if err != nil {
		return nil, err
	}
	id, err := fleetOf(f.fleetKey)
	if err != nil {
		return nil, err
	}
	n := world.Snapshot.Node(f.node)
	if n == nil {
		return nil, fmt.Errorf("--node: %q is not in the Spec", f.node)
	}
	roles := xdp.Roles{L4: n.Has(fleet.RoleL4), L7: n.Has(fleet.RoleL7)}
	if !roles.L4 && !roles.L7 {
		return nil, fmt.Errorf("--node: %q has neither role l4 nor role l7", f.node)
	}
	cfg := xdp.OfflineConfig{World: world, Node: f.node, Roles: roles, Flows: f.flows, MTU: f.mtu, Down: f.down, Geo: mmdb.Default}
	if len(f.geo) > 0 {
		cfg.Geo = func() (geo.Source, error) { return mmdb.Open(f.geo...) }
	}
	cfg.CookieKey = func(int, int64) xdp.Key { return xdp.Key{} }
	if id != nil {
		cfg.Key, cfg.QUIC = xdp.Key(id.FlowKey(n.Region)), []quiclb.Config{quiclb.ForFleet(id.QUICKey())}
		cfg.CookieKey = func(generation int, epoch int64) xdp.Key {
			return xdp.Key(id.SYNCookieKey(n.Region, generation, epoch))
		}
	}
	return xdp.NewOffline(cfg)
}

// output is where packets that leave go; without --out nowhere.
type output struct {
	file   *os.File
	buffer *bufio.Writer
	w      *pcap.Writer
	n      int
}

func (f *packetFlags) create() (*output, error) {
	if f.out == "" {
		return &output{}, nil
	}
	in, ierr := os.Stat(f.in)
	out, oerr := os.Stat(f.out)
	if ierr == nil && oerr == nil && os.SameFile(in, out) {
		return nil, fmt.Errorf("--out: %s is what is read", f.out)
	}
	file, err := os.Create(f.out)
	if err != nil {
		return nil, err
	}
	c := &output{file: file, buffer: bufio.NewWriter(file)}
	c.w, err = pcap.NewWriter(c.buffer)
	return c, err
}

// add writes a packet and gives its number; 0: nowhere.
func (c *output) add(p pcap.Packet) (int, error) {
	if c.w == nil {
		return 0, nil
	}
	c.n++
	return c.n, c.w.Write(p)
}

func (c *output) close() error {
	if c.file == nil {
		return nil
	}
	return errors.Join(c.buffer.Flush(), c.file.Close())
}

// each runs the packets in their order.
func (f *packetFlags) each(r *pcap.Reader, o *xdp.Offline, out *output, lines io.Writer) error {
	for n := 1; ; n++ {
		p, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.in, err)
		}
		line := packetLine{Packet: n, Time: p.Time, Name: p.Comment, Length: len(p.Data)}
		line.Flow, _, _ = xdp.Summary(p.Data)
		if len(p.Data) < p.Length {
			line.Error = fmt.Sprintf("captured %d octets of %d", len(p.Data), p.Length)
		} else if err := line.run(o, out, p); err != nil {
			return err
		}
		if err := f.print(lines, &line); err != nil {
			return err
		}
	}
}

// run runs one packet. A frame that the kernel cannot run offline is none of the
// errors that it gives.
func (line *packetLine) run(o *xdp.Offline, out *output, p pcap.Packet) error {
	got, err := o.Run(p.Data)
	if errors.Is(err, xdp.ErrNotRun) {
		line.Error = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	line.Outcome = got
	if !got.Leaves() {
		return nil
	}
	line.OutLength = len(got.Out)
	line.OutPacket, err = out.add(pcap.Packet{Time: p.Time, Data: got.Out})
	return err
}

func (f *packetFlags) print(w io.Writer, line *packetLine) error {
	if f.json {
		return json.NewEncoder(w).Encode(line)
	}
	what := line.Verdict + " " + line.Reason
	if line.Error != "" {
		what = "not run: " + line.Error
	}
	if line.Endpoint != "" {
		what += " to " + line.Endpoint
	}
	if len(line.Counted) > 0 {
		what += " (" + strings.Join(line.Counted, ", ") + ")"
	}
	name := line.Flow
	if line.Name != "" {
		name = line.Name + ": " + name
	}
	_, err := fmt.Fprintf(w, "%d  %s  %s\n", line.Packet, name, what)
	return err
}
