package trafficworker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// reserved is set in a process of which the descriptors from ipc.FDControl to
// ipc.FDQueues are the tests'.
const reserved = "EGRESS_EDDIE_TEST_RESERVED"

// TestMain runs the tests in a process whose descriptors a worker's can take
// the place of, before the runtime opens any of its own.
func TestMain(m *testing.M) {
	if os.Getenv(reserved) != "" {
		os.Exit(m.Run())
	}
	os.Exit(runReserved())
}

func runReserved() int {
	null, err := os.Open(os.DevNull)
	if err != nil {
		panic(err)
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), reserved+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	for range ipc.FDQueues - ipc.FDControl + 1 {
		c.ExtraFiles = append(c.ExtraFiles, null)
	}
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // whose end is the signal
	var exit *exec.ExitError
	if err := c.Run(); errors.As(err, &exit) {
		return max(1, exit.ExitCode())
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
