package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/server"
	"meridian/dns/xdp"
)

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
