//go:build ignore

// Gives every query one and the same A record: what receiving and sending in
// batches cost in Go, without any DNS. A floor for bench/dns.sh, not a server.
//
//	go run echo.go PORT
package main

import (
	"log"
	"net"
	"os"

	"golang.org/x/net/ipv4"
)

const (
	batch = 32
	size  = 4096
)

var record = []byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: echo PORT")
	}
	c, err := net.ListenPacket("udp4", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal("echo: ", err)
	}
	p := ipv4.NewPacketConn(c)
	in, out := make([]ipv4.Message, batch), make([]ipv4.Message, batch)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, size)}
		out[i].Buffers = [][]byte{nil}
	}
	for {
		n, err := p.ReadBatch(in, 0)
		if err != nil {
			log.Fatal("echo: ", err)
		}
		for i, m := range in[:n] {
			b := append(m.Buffers[0][:m.N], record...)
			b[2] |= 0x84
			b[7] = 1
			out[i].Buffers[0], out[i].Addr = b, m.Addr
		}
		for rest := out[:n]; len(rest) > 0; {
			k, err := p.WriteBatch(rest, 0)
			if err != nil {
				log.Fatal("echo: ", err)
			}
			rest = rest[k:]
		}
	}
}
