package main

import (
	"context"
	"fmt"
	"path/filepath"

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

func detach(_ context.Context, args []string) error {
	fs := cli.Flags("edge detach --node NAME [flags]", "edge detach --node fra-edge-1")
	node := fs.String("node", "", "`NAME` of the node")
	folder := fs.String("pins", defaultPins, "the `FOLDER` that edge run was given")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 || *node == "" || *folder == "" || *node != filepath.Base(*node) || *node == ".." || *node == "." {
		return cli.Usagef(fs, "edge detach: expected --node NAME and a folder")
	}
	if err := xdp.Detach(pinsOf(*folder, *node)); err != nil {
		return fmt.Errorf("edge detach: %w", err)
	}
	return nil
}
