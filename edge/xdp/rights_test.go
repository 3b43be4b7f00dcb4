package xdp

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"meridian/internal/testkit"
)

// A process without a right that layer 4 needs says which.
func TestSaysWhichRightIsMissing(t *testing.T) {
	const child = "MERIDIAN_RIGHTS_CHILD"
	if os.Getenv(child) != "" {
		k, err := load(Key{7}, 1<<10, "")
		if err == nil {
			defer k.Close()
			_, err = newWire(k, 1)
			err = lacking(err, checking)
		}
		fmt.Println("error:", err)
		return
	}
	testkit.Root(t)
	admin := right{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"} // which stands for many others
	for _, c := range []struct {
		without []right
		want    string
	}{
		{loading, ErrUnable.Error() + ": the process has no CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON (run as root"},
		{loading[:1], ErrUnable.Error() + ": the process has no CAP_BPF (run as root"},
		{loading[1:2], ErrUnable.Error() + ": the process has no CAP_NET_ADMIN (run as root"},
		{loading[2:], ErrUnable.Error() + ": the process has no CAP_PERFMON (run as root"},
		{checking, "packet socket: operation not permitted"},
		{checking, "the process has no CAP_NET_RAW (run as root"},
	} {
		out := make(chan string)
		go func() {
			runtime.LockOSThread() // and the thread, which lacks the rights now, ends with this
			for _, r := range append([]right{admin}, c.without...) {
				if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(r.number), 0, 0, 0); err != nil {
					out <- fmt.Sprintf("drop %s: %v", r.name, err)
					return
				}
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestSaysWhichRightIsMissing$")
			cmd.Env = append(os.Environ(), child+"=1")
			b, err := cmd.CombinedOutput()
			out <- fmt.Sprint(string(b), err)
		}()
		if got := <-out; !strings.Contains(got, c.want) {
			t.Errorf("without %v: %s\nexpected %s", c.without, got, c.want)
		}
	}
}
