//go:build linux

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// Start begins cmd inside the namespace. The kernel kills the process when
// the namespace is closed or this process ends. The caller waits for it with
// cmd.Wait; standard output and error must be files or nil.
func (n *NS) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A group of its own: Ctrl-C at the terminal reaches only its owner.
	cmd.SysProcAttr.Setpgid = true
	if err := n.Do(cmd.Start); err != nil {
		return fmt.Errorf("%s: start %s: %w", n.Name, filepath.Base(cmd.Path), err)
	}
	return nil
}

// KillMarked kills every process whose environment holds that KEY=VALUE,
// children of children included, and says how many there were. The caller
// gives only what it starts such a mark.
func KillMarked(mark string) int {
	killed := map[int]bool{}
	// A process that is just starting another program shows no environment, so
	// look again until nothing new turns up.
	for found := true; found; {
		found = false
		procs, _ := filepath.Glob("/proc/[0-9]*/environ") // fails only for a bad pattern
		for _, path := range procs {
			env, err := os.ReadFile(path)
			if err != nil || !hasEntry(env, mark) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil || pid == os.Getpid() || killed[pid] {
				continue
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err == nil || errors.Is(err, syscall.EPERM) {
				killed[pid], found = true, true
			}
		}
	}
	return len(killed)
}

func hasEntry(env []byte, mark string) bool {
	for e := range bytes.SplitSeq(env, []byte{0}) {
		if string(e) == mark {
			return true
		}
	}
	return false
}
