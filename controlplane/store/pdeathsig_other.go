//go:build !linux

package store

import "syscall"

// dieWithParent has nothing to add here: the child ends when its standard
// input does.
func dieWithParent() *syscall.SysProcAttr { return nil }
