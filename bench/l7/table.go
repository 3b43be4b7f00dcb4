//go:build ignore

// Table prints the figures of bench/l7.sh: for each case the median, least and most of
// each proxy, Meridian's ratio to each, and what it must reach.
package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// figures is what one case compares, with what Meridian must reach against a
// peer (as a ratio of medians, at most) or on its own.
var figures = []struct {
	name, key, unit string
	most            map[string]float64
}{
	{"plain", "cpu_us", "CPU us/request", map[string]float64{"haproxy": 1, "nginx": 1, "caddy": 0.25}},
	{"p99", "p99_us", "p99 us at 70 % load", map[string]float64{"haproxy": 1.2}},
	{"tls", "cpu_us", "CPU us/request", map[string]float64{"haproxy": 1, "nginx": 1.15}},
	{"handshake", "cpu_us", "CPU us/handshake", map[string]float64{"nginx": 1}},
	{"h2", "cpu_us", "CPU us/request", map[string]float64{"haproxy": 1.5, "caddy": 0.2}},
	{"h3", "cpu_us", "CPU us/request", map[string]float64{"caddy": 0.5}},
	{"body", "cpu_us", "CPU us/MiB", map[string]float64{"nginx": 1}},
	{"bodytls", "cpu_us", "CPU us/MiB", map[string]float64{"nginx": 1}},
	{"idle10k", "mb", "MB of 10,000 connections", map[string]float64{"": 100}},
	{"idle100k", "mb", "MB of 100,000 connections", map[string]float64{"": 900}},
}

var peers = []string{"haproxy", "nginx", "caddy", "meridian"}

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
	defer f.Close()
	values := map[string][]float64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := map[string]string{}
		for _, w := range strings.Fields(lines.Text()) {
			k, v, _ := strings.Cut(w, "=")
			field[k] = v
		}
		for _, c := range figures {
			if v, err := strconv.ParseFloat(field[c.key], 64); err == nil && field["case"] == c.name && v > 0 {
				if n, err := strconv.ParseFloat(field["conns"], 64); err == nil && c.name == "idle100k" && n < 1e5 {
					v *= 1e5 / n // what was had stands for what was asked
				}
				key := c.name + " " + field["peer"]
				values[key] = append(values[key], v)
			}
		}
	}
	for _, c := range figures {
		print(c.name, c.unit, c.most, values)
	}
}

func print(name, unit string, most map[string]float64, values map[string][]float64) {
	head := false
	ours := median(values[name+" meridian"])
	for _, p := range peers {
		v := values[name+" "+p]
		if len(v) == 0 {
			continue
		}
		if !head {
			fmt.Printf("%-10s %-27s %9s %9s %9s   %s\n", name, unit, "median", "least", "most", "Meridian to it")
			head = true
		}
		fmt.Printf("%-10s %-27s %9.1f %9.1f %9.1f", "", p, median(v), slices.Min(v), slices.Max(v))
		switch goal, ok := most[p]; {
		case p == "meridian":
			if goal, ok := most[""]; ok {
				fmt.Printf("   at most %g: %s", goal, reached(ours, goal))
			}
		case ours > 0:
			fmt.Printf("   %.2f", ours/median(v))
			if ok {
				fmt.Printf(", at most %g: %s", goal, reached(ours/median(v), goal))
			}
		}
		fmt.Println()
	}
}

func reached(got, goal float64) string {
	if got <= goal {
		return "reached"
	}
	return fmt.Sprintf("missed by %.0f %%", (got/goal-1)*100)
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
