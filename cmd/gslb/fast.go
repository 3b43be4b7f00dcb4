package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/server"
	"meridian/dns/xdp"
)

// checkXDP checks the flags of answers in the kernel.
func (f *serveFlags) checkXDP() error {
	if f.XDP == "" && (f.XDPMode != "auto" || f.XDPMemory != xdp.DefaultMemory>>20) {
		return errors.New("--xdp-mode and --xdp-memory go with --xdp")
	}
	switch f.XDPMode {
	case "auto", string(xdp.Native), string(xdp.Generic):
	default:
		return fmt.Errorf("--xdp-mode: %q: expected native, generic or auto", f.XDPMode)
	}
	if most := xdp.MaxMemory >> 20; f.XDPMemory < 1 || f.XDPMemory > most {
		return fmt.Errorf("--xdp-memory: %d: expected 1 to %d", f.XDPMemory, most)
	}
	return nil
}

// fastPath makes what answers queries in the kernel at the device of --xdp; nil
// without.
func (f *serveFlags) fastPath(log *slog.Logger) (fast server.Fast, register func(prometheus.Registerer), err error) {
	if f.XDP == "" {
		return nil, nil, nil
	}
	mode := xdp.Mode(f.XDPMode)
	if f.XDPMode == "auto" {
		mode = xdp.Auto
	}
	path, err := xdp.New(xdp.Config{Device: f.XDP, Mode: mode, Memory: f.XDPMemory << 20, Log: log})
	if err != nil {
		return nil, nil, err
	}
	return path, path.Register, nil
}
