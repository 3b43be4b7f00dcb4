//go:build ignore

// Makes zones, loads them as the nameserver does, and tells time and memory.
//
//	go run zones.go make DIR SHAPE RECORDS   write zone files, print how many records they hold
//	go run zones.go load DIR                 load them, print figures as JSON
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

func main() {
	log.SetFlags(0)
	switch {
	case len(os.Args) == 5 && os.Args[1] == "make":
		n, err := strconv.Atoi(os.Args[4])
		if err != nil {
			log.Fatal(err)
		}
		if err := generate(os.Args[2], os.Args[3], n); err != nil {
			log.Fatal(err)
		}
	case len(os.Args) == 3 && os.Args[1] == "load":
		if err := load(os.Args[2]); err != nil {
			log.Fatal(err)
		}
	default:
		log.Fatal("usage: zones make DIR SHAPE RECORDS | zones load DIR")
	}
}

// perZone is how many records the zones of a shape hold; 0 for all in one.
var perZone = map[string]int{"hosts": 0, "delegations": 0, "mixed": 1000, "many": 100, "tiny": 5, "signed": 0}

func generate(dir, shape string, records int) error {
	size, ok := perZone[shape]
	if !ok {
		return fmt.Errorf("no shape %q", shape)
	}
	if size == 0 {
		size = records
	}
	for i := 0; i*size < records; i++ {
		name := fmt.Sprintf("z%d.test", i)
		f, err := os.Create(filepath.Join(dir, name+".zone"))
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		fmt.Fprintf(w, "$ORIGIN %s.\n$TTL 3600\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1.provider.example.\n@ NS ns2.provider.example.\n", name)
		write := writers[shape]
		if shape == "many" {
			write = writers["mixed"]
		}
		write(w, size-3)
		if err := w.Flush(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

var writers = map[string]func(w *bufio.Writer, n int){
	"hosts": func(w *bufio.Writer, n int) {
		for i := range n {
			fmt.Fprintf(w, "host%d A 10.%d.%d.%d\n", i, i>>16&255, i>>8&255, i&255)
		}
	},
	"delegations": func(w *bufio.Writer, n int) {
		for i := range n / 4 {
			fmt.Fprintf(w, "child%d NS ns1.child%d\nchild%d NS ns.provider%d.example.\nchild%d DS %d 13 2 %064x\nns1.child%d A 10.%d.%d.%d\n",
				i, i, i, i%5000, i, i&65535, i, i, i>>16&255, i>>8&255, i&255)
		}
	},
	"mixed": func(w *bufio.Writer, n int) {
		fmt.Fprint(w, "@ MX 10 mail\n@ TXT \"v=spf1 mx -all\"\n")
		for i := 2; i < n; i++ {
			switch i % 10 {
			case 0:
				fmt.Fprintf(w, "txt%d TXT \"some text of record number %d\"\n", i, i)
			case 1:
				fmt.Fprintf(w, "alias%d CNAME host%d\n", i, i+1)
			case 2:
				fmt.Fprintf(w, "_s%d._tcp SRV 0 5 443 host%d\n", i, i+1)
			case 3, 4:
				fmt.Fprintf(w, "host%d AAAA 2001:db8::%x\n", i&^1, i)
			default:
				fmt.Fprintf(w, "host%d A 10.0.%d.%d\n", i, i>>8&255, i&255)
			}
		}
	},
	"tiny": func(w *bufio.Writer, n int) { fmt.Fprint(w, "@ A 192.0.2.1\nwww CNAME @\n") },
	"signed": func(w *bufio.Writer, n int) { // signatures of the right size that are none
		r := rand.NewChaCha8([32]byte{})
		sig := func(owner, t string, labels int) {
			var b [64]byte
			_, _ = r.Read(b[:])
			fmt.Fprintf(w, "%s RRSIG %s 13 %d 3600 20300101000000 20260101000000 12345 @ %s\n", owner, t, labels, base64(b[:]))
		}
		fmt.Fprint(w, "@ DNSKEY 257 3 13 bWVyaWRpYW4=\n")
		sig("@", "SOA", 2)
		sig("@", "NS", 2)
		for i := range n / 4 {
			owner := fmt.Sprintf("host%d", i)
			fmt.Fprintf(w, "%s A 10.%d.%d.%d\n%s NSEC host%d A RRSIG NSEC\n", owner, i>>16&255, i>>8&255, i&255, owner, i+1)
			sig(owner, "A", 3)
			sig(owner, "NSEC", 3)
		}
	},
}

func base64(b []byte) string {
	out, _ := json.Marshal(b)
	return strings.Trim(string(out), `"`)
}

// load loads all zones of a folder, two at a time, and looks every name up.
func load(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.zone"))
	if err != nil {
		return err
	}
	empty := rss()
	zones := make([]*zone.Zone, len(files))
	fsys := os.DirFS(dir)
	start := time.Now()
	var wg sync.WaitGroup
	for k := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := k; i < len(files); i += runtime.GOMAXPROCS(0) {
				file := filepath.Base(files[i])
				z, err := zone.LoadFS(fleet.Name(strings.TrimSuffix(file, "zone")), fsys, file, dir)
				if err != nil {
					log.Fatal(err)
				}
				zones[i] = z
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	records := 0
	for _, z := range zones {
		records += z.Records()
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	time.Sleep(time.Duration(settle()) * time.Second) // unused memory goes back to the system little by little
	out := map[string]any{"zones": len(zones), "records": records, "seconds": took.Seconds(),
		"cpu_seconds":           float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9,
		"rss_octets_per_record": (rss() - empty) / records, "live_octets_per_record": int(m.HeapAlloc) / records}
	lookups, began := 0, time.Now()
	for _, z := range zones {
		for n := range z.Nodes() {
			z.Lookup([]byte(n.Name))
			lookups++
		}
	}
	out["lookup_ns"] = int(time.Since(began).Nanoseconds()) / lookups
	runtime.KeepAlive(zones)
	return json.NewEncoder(os.Stdout).Encode(out)
}

func settle() int {
	n, _ := strconv.Atoi(os.Getenv("SETTLE"))
	return n
}

// rss is the memory of the process, in octets.
func rss() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		log.Fatal(err)
	}
	return kib << 10
}
