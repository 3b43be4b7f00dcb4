package store

import "syscall"

// dieWithParent has the kernel stop the child when the thread that started it
// goes away; a parent that was killed leaves no etcd behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
