package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

var given sync.Map // ports that FreePort has tried; who got one may not use it yet

// FreePort gives a port at an address of this machine that is free for UDP and
// TCP, below those that the system gives to connections, so that no other test
// gets it by chance before it is used. It gives each only once.
func FreePort(t testing.TB, host string) uint16 {
	t.Helper()
	for range 200 {
		port := 12000 + rand.IntN(20000)
		if _, had := given.LoadOrStore(port, true); had {
			continue
		}
		at := net.JoinHostPort(host, fmt.Sprint(port))
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", at)
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return uint16(port)
		}
	}
	t.Fatalf("no free port at %s", host)
	return 0
}
