package sandbox

import (
	"golang.org/x/sys/unix"
)

// LockParent closes the parent's cell, when all children have been started:
// nothing can be started after it. It denies TCP and abstract sockets by
// Landlock and puts a seccomp list on every thread, which kills the process
// at what is not on it.
//
// What is left: the Go runtime; any descriptor that is open already; ending
// and reaping children; opening a file to append to it, which is the log, or
// to read it, which is the configuration. Which file it is no filter can see,
// and Landlock must not say: see denyNetwork. SetDumpable is over.
func LockParent() error {
	return run(append(parentCell(),
		threads("seccomp", func() error { return loadFilter(parentRules(native, uint64(unix.Getpid()))) }),
		threads("self-test: seccomp", proveFilter),
	), parentFault)
}

// parentCell is everything but the filter.
func parentCell() []step {
	return []step{
		plain("processors", pinProcessors),
		plain("warm-up", warmUp),
		plain("dumpable", func() error { return SetDumpable(false) }),
		threads("no_new_privs", noNewPrivs), // DropPrivileges did; the next two need it
		threads("landlock", denyNetworkOnAllThreads),
	}
}

// parentRules is the parent's list. It has few descriptor numbers in it: the
// parent's differ with the configuration.
func parentRules(m machine, pid uint64) []rule {
	const (
		modes  = unix.O_ACCMODE | unix.O_APPEND | unix.O_TRUNC
		toLog  = unix.O_WRONLY | unix.O_APPEND
		toRead = unix.O_RDONLY
		here   = 0xffffffff & unix.AT_FDCWD // an int
	)
	rules := []rule{
		allow("read", "verdicts and signals of children; what they say on stderr; the configuration; the kernel's log, opened before"),
		allow("write", "verdicts to the kernel on the queue sockets; log lines; policy"),
		allow("epoll_pwait", "the runtime waits for what children say on stderr"),
		allow("epoll_ctl", "the same, and its end"),
		allow("pread64", "the kernel's queue statistics, opened before"),
		allow("clock_gettime", "times in log lines where the vDSO falls back",
			is(0, unix.CLOCK_BOOTTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_REALTIME)),
		allow("wait4", "a child's end"),
		allow("pidfd_send_signal", "ends a child"),
		allow("shutdown", "the end of its control socket is how a child learns of the end"),
		allow("openat", "the log, opened again after it was rotated, to append; the configuration, to read",
			is(0, here), masked(2, modes, toLog, toRead)),
		allow("sendmsg", "the new log to the children that hold one"),
		allow("dup3", "the new log takes the old one's number"),
		allow("close", "the new log's first number; the configuration; the stderr of a child that died"),
	}
	return append(rules, runtimeRules(m, pid)...)
}
