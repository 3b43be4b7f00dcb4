package testkit

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// StoreChild is the argument by which a test binary with Main is a store's child
// process, as gslb is.
const StoreChild = "store-child"

// Main runs a package's tests, or, in a process of the test binary that was
// started with StoreChild alone, run until SIGTERM. It does not return.
func Main(m *testing.M, run func(ctx context.Context, in io.Reader) error) {
	if len(os.Args) == 2 && os.Args[1] == StoreChild {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := run(ctx, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
