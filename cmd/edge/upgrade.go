package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"meridian/cli"
	"meridian/daemon"
	"meridian/handover"
	"meridian/serving"
)

// upgraded is what the node answers when another process has its place.
type upgraded struct {
	Process int `json:"process"`
}

// runUpgrade asks the node on this machine to upgrade, and waits until it has.
func runUpgrade(ctx context.Context, args []string) error {
	fs := cli.Flags("edge upgrade [flags]", "edge upgrade --data /var/lib/edge")
	var c client
	c.register(fs)
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "edge upgrade: unexpected argument %q", rest[0])
	}
	var got upgraded
	if err := c.ask(ctx, "POST", "/upgrade", nil, &got); err != nil {
		return fmt.Errorf("not upgraded, the node goes on as it was: %w", err)
	}
	fmt.Printf("process %d serves; the former one finishes its requests\n", got.Process)
	return nil
}

// upgrade starts the program that is now at this one's path, with the same
// arguments, and gives it this process's place.
func (f *flags) upgrade(d *daemon.Daemon, s *serving.Server) (pid int, err error) {
	log := f.admin.log
	path, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("the program's file: %w", err)
	}
	log.Info("upgrade: starting the program anew", "file", path)
	err = d.Upgrade(func() (*handover.Next, error) {
		ways, err := f.ways()
		if err != nil {
			return nil, err
		}
		return f.sockets.Start(path, os.Args, ways)
	}, func(n *handover.Next) {
		pid = n.Pid()
		s.HandOver(pid)
	})
	if err != nil {
		log.Error("upgrade: this process goes on", "error", err)
		return 0, err
	}
	log.Info("upgrade: another process serves; finishing what is under way", "process", pid)
	return pid, nil
}

// quicWays begins the names of what leads packets to former processes.
const quicWays = "quic "

// ways are how packets of connections over QUIC find the processes that have
// them, when another reads the sockets.
func (f *flags) ways() (map[string]syscall.Conn, error) {
	c := f.carrier.Load()
	if c == nil {
		return nil, nil
	}
	list, err := c.HandOver()
	if err != nil {
		return nil, fmt.Errorf("connections over QUIC: %w", err)
	}
	out := map[string]syscall.Conn{}
	for name, w := range list {
		out[quicWays+name] = w
	}
	return out, nil
}
