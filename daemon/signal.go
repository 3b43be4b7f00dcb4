package daemon

import (
	"os"
	"os/signal"
	"syscall"
)

// OnHangup calls reload at each SIGHUP, one at a time, until the function that
// it gives is called.
func OnHangup(reload func()) (stop func()) {
	hup, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		defer close(done)
		for range hup {
			reload()
		}
	}()
	return func() {
		signal.Stop(hup)
		close(hup)
		<-done
	}
}
