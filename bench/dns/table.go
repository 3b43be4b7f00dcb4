//go:build ignore

// Prints medians of the raw figures that bench/dns.sh keeps, and where Meridian
// stands against what it must reach.
//
//	go run table.go raw.txt
//
// Each line of the file is one measurement: key=value, separated by spaces.
package main

import (
	"bufio"
	"cmp"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
)

// aim is one line that Meridian must reach: the ratio of its figure to a
// peer's, or its own figure where there is no peer.
type aim struct {
	what               string
	test, load, metric string
	server, peer       string
	limit              float64
	atLeast            bool // the limit is a least value
}

var aims = []aim{
	{"CPU a query, mix", "mix", "full", "cpu_us", "meridian", "knot", 1.0, false},
	{"CPU a query, mix (aim 1.0)", "mix", "full", "cpu_us", "meridian", "gdnsd", 1.15, false},
	{"CPU a query, mix", "mix", "full", "cpu_us", "meridian", "nsd", 0.92, false},
	{"CPU a query, mix", "mix", "full", "cpu_us", "meridian", "powerdns", 0.57, false},
	{"CPU a query, mix", "mix", "full", "cpu_us", "meridian", "echo-go", 1.15, false},
	{"CPU a query, subnet", "subnet", "full", "cpu_us", "meridian", "gdnsd", 1.0, false},
	{"CPU a query, subnet", "subnet", "full", "cpu_us", "meridian", "knot", 0.72, false},
	{"CPU a query, subnet", "subnet", "full", "cpu_us", "meridian", "powerdns", 0.2, false},
	{"CPU a query, do", "do", "full", "cpu_us", "meridian", "knot", 1.0, false},
	{"p99 at half of saturation, mix", "mix", "half", "p99", "meridian", "knot", 1.0, false},
	{"the same, both at half of Knot's", "mix", "even", "p99", "meridian", "knot", 1.0, false},
	{"answers a second, veth", "veth", "most", "qps", "meridian-xdp", "knot", 3.5, true},
	{"answers a second, veth", "veth", "most", "qps", "meridian-xdp", "knot-xdp", 1.9, true},
	{"the same, each on its processor", "apart", "most", "qps", "meridian-xdp", "knot", 3.5, true},
	{"the same, each on its processor", "apart", "most", "qps", "meridian-xdp", "knot-xdp", 1.9, true},
	{"ns a query, XDP program: hot", "program", "names=1000/plain/A/queries=1", "ns", "meridian-xdp", "", 120, false},
	{"with EDNS and Client Subnet", "program", "names=1000/EDNS+ECS/A/queries=1", "ns", "meridian-xdp", "", 150, false},
	{"100,000 answers, 65,536 queries", "program", "names=100000/plain/A/queries=65536", "ns", "meridian-xdp", "", 450, false},
	{"MB of kernel memory, 100,000 names of 8 variants", "program", "100000_steered_names_of_8_regions", "kernel_mb", "meridian-xdp", "", 200, false},
	{"% of all queries answered in the kernel", "veth", "kernel", "share", "meridian-xdp", "", 99, true},
	{"% answered of all that kxdpgun sends", "veth", "most", "percent", "meridian-xdp", "", 99.9, true},
}

// columns are the metrics that each load of a case is shown with.
var columns = map[string][]struct{ metric, title, format string }{
	"full": {{"qps", "queries/s", "%.0f"}, {"cpu_us", "CPU us/query", "%.2f"}, {"p50", "p50 us", "%.0f"}, {"p99", "p99 us", "%.0f"}, {"octets", "octets/answer", "%.0f"},
		{"server_cpu", "server CPU %", "%.0f"}, {"other_cpu", "other work %", "%.0f"}},
	"half": {{"qps", "queries/s", "%.0f"}, {"cpu_us", "CPU us/query", "%.2f"}, {"p50", "p50 us", "%.0f"}, {"p99", "p99 us", "%.0f"}, {"p999", "p99.9 us", "%.0f"}},
	"even": {{"qps", "queries/s", "%.0f"}, {"cpu_us", "CPU us/query", "%.2f"}, {"p50", "p50 us", "%.0f"}, {"p99", "p99 us", "%.0f"}, {"p999", "p99.9 us", "%.0f"}},
	"":     {{"sent", "sent/s", "%.0f"}, {"qps", "answers/s", "%.0f"}, {"percent", "answered %", "%.1f"}, {"cpu_us", "CPU us/answer, all of the machine", "%.2f"}},
	"most": {{"qps", "answers/s", "%.0f"}, {"cpu_us", "CPU us/answer, all of the machine", "%.2f"}},
}

// key says what is measured; each round has one value of each metric.
type key struct{ test, load, server string }

type figures struct {
	order  []key
	values map[key]map[string]map[int]float64 // metric, round
	wrong  map[key]bool
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: table raw.txt")
	}
	f, err := read(os.Args[1])
	if err != nil {
		log.Fatal("table: ", err)
	}
	for _, test := range []string{"mix", "subnet", "do", "veth", "apart"} {
		f.show(test)
	}
	f.program()
	f.judge()
}

func read(path string) (*figures, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f := &figures{values: map[key]map[string]map[int]float64{}, wrong: map[key]bool{}}
	s := bufio.NewScanner(in)
	for s.Scan() {
		text, numbers := map[string]string{}, map[string]float64{}
		for _, field := range strings.Fields(s.Text()) {
			name, v, ok := strings.Cut(field, "=")
			if !ok {
				return nil, fmt.Errorf("%q: expected key=value", field)
			}
			text[name] = v
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				numbers[name] = n
			}
		}
		k := key{text["case"], text["load"], text["server"]}
		if f.values[k] == nil {
			f.values[k] = map[string]map[int]float64{}
			f.order = append(f.order, k)
		}
		if numbers["status"] != 0 { // what wrong or lost answers cost is no figure
			f.wrong[k] = true
			continue
		}
		for name, n := range numbers {
			if f.values[k][name] == nil {
				f.values[k][name] = map[int]float64{}
			}
			f.values[k][name][int(numbers["round"])] = n
		}
	}
	return f, s.Err()
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

func (f *figures) of(k key, metric string) []float64 {
	var out []float64
	for _, v := range f.values[k][metric] {
		out = append(out, v)
	}
	return out
}

// show prints a table for each load of a case, by queries a second.
func (f *figures) show(test string) {
	var loads []string
	rows := map[string][]key{}
	for _, k := range f.order {
		if k.test != test || k.load == "kernel" {
			continue
		}
		if rows[k.load] == nil {
			loads = append(loads, k.load)
		}
		rows[k.load] = append(rows[k.load], k)
	}
	for _, load := range loads {
		cols, ok := columns[load]
		if !ok {
			cols = columns[""]
		}
		titles := map[string]string{"full": "200 in flight", "half": "half of that rate", "even": "half of Knot's rate", "most": "the most of all rates"}
		fmt.Printf("\n%s, %s (median; smallest to largest of the rounds)\n\n| server |", test, cmp.Or(titles[load], load))
		for _, c := range cols {
			fmt.Printf(" %s |", c.title)
		}
		fmt.Printf("\n| --- |%s\n", strings.Repeat(" ---: |", len(cols)))
		slices.SortStableFunc(rows[load], func(a, b key) int { return cmp.Compare(median(f.of(b, "qps")), median(f.of(a, "qps"))) })
		for _, k := range rows[load] {
			fmt.Printf("| %s |", k.server)
			for i, c := range cols {
				v := f.of(k, c.metric)
				if len(v) == 0 {
					fmt.Print(" - |")
					continue
				}
				fmt.Printf(" "+c.format, median(v))
				if i < 2 && len(v) > 1 {
					fmt.Printf(" ("+c.format+" to "+c.format+")", slices.Min(v), slices.Max(v))
				}
				fmt.Print(" |")
			}
			if f.wrong[k] {
				fmt.Print(" without a round of wrong or lost answers")
			}
			fmt.Println()
		}
	}
}

// program prints what the XDP program takes for each kind of query.
func (f *figures) program() {
	title := "\nprogram: ns a query, net of the harness (median; smallest to largest of the rounds)\n\n| zone, query, how many different ones | ns |\n| --- | ---: |\n"
	for _, k := range f.order {
		v := f.of(k, "ns")
		if k.test != "program" || len(v) == 0 {
			continue
		}
		fmt.Printf("%s| %s | %.0f (%.0f to %.0f) |\n", title, k.load, median(v), slices.Min(v), slices.Max(v))
		title = ""
	}
}

// judge prints each aim, and what was measured: the ratio of medians, and of the
// ratios within a round the median, smallest and largest. The machine changes its
// speed now and then, so that the latter say more of CPU time.
func (f *figures) judge() {
	fmt.Print("\nWhat Meridian must reach (ratio of medians; median, smallest and largest of the ratios within a round)\n\n| what | to | measured | must be | |\n| --- | --- | ---: | ---: | --- |\n")
	for _, a := range aims {
		ours, theirs := key{a.test, a.load, a.server}, key{a.test, a.load, a.peer}
		sign, v := "at most", f.of(ours, a.metric)
		if a.atLeast {
			sign = "at least"
		}
		fmt.Printf("| %s | %s | ", a.what, cmp.Or(a.peer, "-"))
		if len(v) == 0 || a.peer != "" && len(f.of(theirs, a.metric)) == 0 {
			fmt.Printf("not measured | %s %g | |\n", sign, a.limit)
			continue
		}
		got := median(v)
		if a.peer == "" {
			fmt.Printf("%.2f", got)
		} else {
			got /= median(f.of(theirs, a.metric))
			fmt.Printf("%.2f", got)
			var pairs []float64
			for round, mine := range f.values[ours][a.metric] {
				if peer, ok := f.values[theirs][a.metric][round]; ok {
					pairs = append(pairs, mine/peer)
				}
			}
			if len(pairs) > 1 {
				fmt.Printf(" (%.2f; %.2f to %.2f)", median(pairs), slices.Min(pairs), slices.Max(pairs))
			}
		}
		verdict := "reached"
		if got > a.limit != a.atLeast && got != a.limit {
			verdict = "missed"
		}
		fmt.Printf(" | %s %g | %s |\n", sign, a.limit, verdict)
	}
}
