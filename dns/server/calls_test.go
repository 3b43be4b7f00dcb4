package server

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit"
)

// calls counts the system calls of this process, by number, as the kernel sees
// them.
type calls struct{ counts *ebpf.Map }

const callNumbers = 512

func countCalls(t testing.TB) *calls {
	t.Helper()
	testkit.Root(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%+v", err)
		}
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: callNumbers})
	must(err)
	t.Cleanup(func() { m.Close() })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, int32(os.Getpid()), "out"),
		asm.LoadMem(asm.R1, asm.R6, 8, asm.DWord), // the call's number
		asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}})
	must(err)
	t.Cleanup(func() { p.Close() })
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: p})
	must(err)
	t.Cleanup(func() { l.Close() })
	return &calls{m}
}

// since gives what was called after an earlier count.
func (c *calls) since(t testing.TB, before map[uint32]uint64) map[uint32]uint64 {
	t.Helper()
	out := map[uint32]uint64{}
	for i := range uint32(callNumbers) {
		var n uint64
		if err := c.counts.Lookup(i, &n); err != nil {
			t.Fatal(err)
		}
		if n -= before[i]; n > 0 {
			out[i] = n
		}
	}
	return out
}

// With full batches at most one system call serves ten queries, by the kernel's
// count of all that the process makes, the runtime's wake-ups among them.
func TestSystemCallsByTheKernelsCount(t *testing.T) {
	c := countCalls(t)
	s, err := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Logger: quiet, Sockets: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	conn, query := asker(t, s)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) }); err != nil {
		t.Fatal(err)
	}
	const n = 64 * batch
	for range n {
		if _, err := conn.Write(query); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC() // of what tests before have left, and no other in between
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := c.since(t, nil)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for s.sums()[UDP].queries.Load() < n {
		runtime.Gosched()
	}
	after := c.since(t, before)
	take(t, conn, n)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for number, count := range after {
		switch number {
		case unix.SYS_BPF, unix.SYS_GETSOCKOPT, unix.SYS_SCHED_YIELD: // this test's, while it waits
		case unix.SYS_NANOSLEEP, unix.SYS_GETPID, unix.SYS_TGKILL, unix.SYS_RT_SIGRETURN, unix.SYS_MADVISE: // of the runtime's watch over its threads and memory, by time
		default:
			total += count
		}
	}
	t.Logf("%d system calls for %d queries: %v", total, n, after)
	if got := after[unix.SYS_RECVMMSG]; got < n/batch || got > n/batch+4 {
		t.Errorf("%d calls of recvmmsg for %d batches", got, n/batch)
	}
	if total*10 > n {
		t.Errorf("%d system calls for %d queries, more than 0.1 for each: %v", total, n, after)
	}
}
