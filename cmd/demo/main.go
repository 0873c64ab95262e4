package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

func init() {
	// A network namespace belongs to a thread. The main one moves between the
	// two, and everything is started from it.
	runtime.LockOSThread()
}

// roles are the processes that only the demo starts.
var roles = map[string]func(args []string) error{
	roleResolver: resolverMain,
	roleWeb:      webMain,
	roleVisitor:  visitorMain,
	roleGuard:    guardMain,
}

const (
	failed      = 1   // something was not as it should be, and was said
	interrupted = 130 // Ctrl-C, as a shell reports it
)

// errFailed ends the demo with everything said already.
var errFailed = errors.New("not as expected")

func main() {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			os.Exit(complain(os.Args[1], role(os.Args[2:])))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := demo(ctx, os.Args[1:])
	if ctx.Err() != nil {
		if err == nil {
			fmt.Fprintln(os.Stderr, "demo: interrupted, everything is removed")
		}
		complain("demo", err)
		os.Exit(interrupted)
	}
	stop()
	os.Exit(complain("demo", err))
}

func complain(who string, err error) int {
	var classified *exit.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFailed):
		return failed
	case errors.As(err, &classified):
		fmt.Fprintf(os.Stderr, "%s: %v\n", who, err)
		return classified.Code
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", who, err)
	return failed
}
