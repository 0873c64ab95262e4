package sandbox

import (
	"runtime"
	"time"
)

// maxProcessors bounds the Go code that runs at once in one process. A child
// may have 32 threads (RLIMIT_NPROC, profiles.go) and the runtime may start
// one for each processor besides those blocked in system calls: on a machine
// with 64 processors an honest child would die of its limit. No process of
// the tree has work for more.
const maxProcessors = 4

// pinProcessors keeps the runtime from reading its affinity and cgroup files
// again every second, which it does until GOMAXPROCS has been called.
func pinProcessors() error {
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), maxProcessors))
	return nil
}

// warmUp makes the runtime do now what it does only once, and may not do
// under the filter: the first timer makes its epoll and event descriptors,
// and the first use of the local time zone looks for files. NB: what appears
// here as a waste of a millisecond is what every later timer depends on.
func warmUp() error {
	time.Sleep(time.Millisecond)
	_, _ = time.Now().Zone()
	return nil
}
