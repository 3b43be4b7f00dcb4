package daemon

import (
	"os"
	"os/signal"
	"syscall"
)

// On calls do at each signal of that kind, one at a time, until the function that
// it gives is called.
func On(kind syscall.Signal, do func()) (stop func()) {
	came, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(came, kind)
	go func() {
		defer close(done)
		for range came {
			do()
		}
	}()
	return func() {
		signal.Stop(came)
		close(came)
		<-done
	}
}

// OnHangup is On for SIGHUP.
func OnHangup(reload func()) (stop func()) { return On(syscall.SIGHUP, reload) }
