package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"

	"meridian/cli"
	"meridian/edge/xdp"
)

// defaultPins is where layer 4 outlives the process unless --pins says otherwise.
const defaultPins = "/sys/fs/bpf/meridian"

// pinsOf gives a node's own folder; empty: nothing outlives.
func pinsOf(folder, node string) string {
	if folder == "" {
		return ""
	}
	return filepath.Join(folder, node)
}

// detached is what edge detach did.
type detached struct {
	Folder string `json:"folder"`
	Device string `json:"device,omitempty"` // that a program was taken off; empty: there was none
}

func detach(_ context.Context, args []string) error {
	fs := cli.Flags("edge detach --node NAME [flags]", "edge detach --node fra-edge-1 --pins /run/meridian-bpf")
	node := fs.String("node", "", "`NAME` of the node")
	folder := fs.String("pins", defaultPins, "the `FOLDER` that edge run was given")
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 || *node == "" || *folder == "" || *node != filepath.Base(*node) || *node == ".." || *node == "." {
		return cli.Usagef(fs, "edge detach: expected --node NAME and a folder")
	}
	d := detached{Folder: pinsOf(*folder, *node)}
	index, err := xdp.Detach(d.Folder)
	if err != nil {
		return fmt.Errorf("edge detach: %w", err)
	}
	if index != 0 {
		d.Device = "number " + strconv.Itoa(index)
		if dev, err := net.InterfaceByIndex(index); err == nil {
			d.Device = dev.Name
		}
	}
	return show(*asJSON, d, func(w io.Writer) {
		if d.Device == "" {
			fmt.Fprintf(w, "no program was kept in %s\n", d.Folder)
			return
		}
		fmt.Fprintf(w, "layer 4 is off device %s\n", d.Device)
	})
}
