package l7

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"meridian/internal/testkit"
)

// In its common forms an exchange over HTTP/1.1 allocates nothing.
func TestExchangeAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("under the race detector pools forget at random")
	}
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for name, tc := range map[string]struct{ answer, end, request string }{
		"length":     {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello", "hello", plainGET},
		"chunked":    {chunked, "0\r\n\r\n", plainGET},
		"large":      {"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("x", 39999) + "!", "!", plainGET},
		"HEAD":       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "\r\n\r\n", strings.Replace(plainGET, "GET", "HEAD", 1)},
		"no content": {"HTTP/1.1 204 No Content\r\n\r\n", "\r\n\r\n", plainGET},
	} {
		r := newRig(t, httpSpec(noChecks, answers(t, tc.answer)))
		c := r.rawClient(webVIP)
		request, end := []byte(tc.request), []byte(tc.end)
		const requests = 500
		best := uint64(1 << 62)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range requests {
				c.do(request, end)
			}
			runtime.ReadMemStats(&after)
			best = min(best, after.Mallocs-before.Mallocs)
		}
		// Others of the process allocate as well: a check, a timer.
		if best > requests/10 {
			t.Errorf("%s: %d requests made %d allocations", name, requests, best)
		}
	}
}

// The gateway alone in a process, whose system calls the kernel counts.
func TestGatewayProcess(t *testing.T) {
	end := os.Getenv("GATEWAY_PROCESS_ENDPOINT")
	if end == "" {
		t.Skip("is run by TestExchangeTakesFewSystemCalls")
	}
	r := newRig(t, httpSpec(noChecks, end))
	fmt.Println("at", r.addr(webVIP))
	io.Copy(io.Discard, os.Stdin)
}

func TestExchangeTakesFewSystemCalls(t *testing.T) {
	strace := testkit.Program(t, "strace")
	at, pid := gatewayProcess(t, answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello"))
	nc, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &rawClient{t, nc, make([]byte, 8192)}
	request, hello := []byte(plainGET), []byte("hello")
	c.do(request, hello)
	const requests = 1000
	calls := traced(t, strace, pid, func() {
		for range requests {
			c.do(request, hello)
		}
	})
	reads := float64(calls["read"]+calls["recvfrom"]) / requests
	writes := float64(calls["write"]+calls["sendto"]+calls["sendmsg"]) / requests
	t.Logf("%.2f reads, %.2f writes a request", reads, writes)
	// Each side is read in vain once and then with success.
	if reads > 4.1 || writes > 2.1 || writes < 1.9 {
		t.Errorf("a request takes %.2f reads and %.2f writes, want 4 and 2 at most", reads, writes)
	}
}

// traced counts a process's system calls while f runs.
func traced(t *testing.T, strace string, pid int, f func()) map[string]int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "calls")
	cmd := exec.Command(strace, "-f", "-c", "-U", "calls,name", "-o", file, "-p", fmt.Sprint(pid))
	said, _ := cmd.StderrPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.Contains(line, "attached") {
		cmd.Process.Kill()
		cmd.Wait()
		testkit.Need(t, false, "the right to trace a process: "+line)
	}
	f()
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for _, line := range strings.Split(string(b), "\n") {
		var n int
		var name string
		if k, _ := fmt.Sscan(line, &n, &name); k == 2 {
			calls[name] = n
		}
	}
	return calls
}

// gatewayProcess starts a gateway in a process of its own, which ends with the
// test.
func gatewayProcess(t *testing.T, endpoint string) (at string, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestGatewayProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "GATEWAY_PROCESS_ENDPOINT="+endpoint)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if at, ok := strings.CutPrefix(lines.Text(), "at "); ok {
			return at, cmd.Process.Pid
		}
	}
	t.Fatal("the gateway's process did not begin")
	return "", 0
}

// Ten thousand clients between two requests take less than 10 KB each.
func TestIdleConnectionsTakeLittle(t *testing.T) {
	if raced {
		t.Skip("the race detector takes memory of its own")
	}
	const clients = 10_000
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	testkit.Need(t, limit.Cur > clients+1000, "11,000 open files")
	at, pid := gatewayProcess(t, answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	request, hello := []byte(plainGET), []byte("hello")
	c := &rawClient{t, nil, make([]byte, 8192)}
	before := resident(t, pid)
	for range clients {
		nc, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c.Conn = nc
		c.do(request, hello)
	}
	each := float64(resident(t, pid)-before) / clients
	t.Logf("%.0f octets each", each*1024)
	if each > 9.8 {
		t.Errorf("an idle connection takes %.1f KiB", each)
	}
}

// resident is the memory that a process has, in KiB.
func resident(t *testing.T, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		fmt.Sscanf(line, "VmRSS: %d", &kib)
	}
	return kib
}
