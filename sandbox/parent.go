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
//
// lookups is for a tree with a resolver (selfDNSQueue), whose sockets the
// parent makes: it may then also make UDP and TCP sockets that neither block nor
// are inherited, mark and connect them. To which address no filter can see; TCP
// reaches port 53 alone, from Landlock's ABI 4 on, and UDP any.
func LockParent(lookups bool) error {
	return run(append(parentCell(lookups),
		threads("seccomp", func() error { return loadFilter(parentRules(native, uint64(unix.Getpid()), lookups)) }),
		threads("self-test: seccomp", proveFilter),
	), parentFault)
}

// parentCell is everything but the filter.
func parentCell(lookups bool) []step {
	return []step{
		plain("processors", pinProcessors),
		plain("warm-up", warmUp),
		plain("dumpable", func() error { return SetDumpable(false) }),
		threads("no_new_privs", noNewPrivs), // DropPrivileges did; the next two need it
		threads("landlock", func() error { return denyNetworkOnAllThreads(lookups) }),
	}
}

// parentRules is the parent's list. It has few descriptor numbers in it: the
// parent's differ with the configuration.
func parentRules(m machine, pid uint64, lookups bool) []rule {
	const (
		modes  = unix.O_ACCMODE | unix.O_APPEND | unix.O_TRUNC
		toLog  = unix.O_WRONLY | unix.O_APPEND
		toRead = unix.O_RDONLY
		here   = 0xffffffff & unix.AT_FDCWD // an int
	)
	rules := []rule{
		allow("read", "verdicts and signals of children; what they say on stderr; the configuration; the kernel's log, opened before"),
		allow("write", "verdicts to the kernel on the queue sockets; log lines; policy"),
		allow("ppoll", "verdicts of several children on one thread, for as long as it takes", is64(2, 0), is64(3, 0)),
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
		// NB: with MSG_FASTOPEN it would connect, where Landlock does not look
		// (landlock-lsm/linux#41).
		allow("sendmsg", "the new log to the children that hold one; with selfDNSQueue, the resolver's sockets to it",
			is(2, unix.MSG_DONTWAIT)),
		allow("dup3", "the new log takes the old one's number"),
		allow("close", "the new log's first number; the configuration; the stderr of a child that died; with selfDNSQueue, what the resolver has now"),
	}
	if lookups {
		rules = append(rules, lookupRules()...)
	}
	return append(rules, runtimeRules(m, pid)...)
}

// lookupRules make the resolver's sockets, and no raw one, no netlink, none of
// another protocol. All arguments but the address are ints.
func lookupRules() []rule {
	const (
		flags  = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
		octets = 4 // sizeof(int)
	)
	return []rule{
		allow("socket", "a socket to a DNS server, for the resolver",
			is(0, unix.AF_INET, unix.AF_INET6), is(1, unix.SOCK_DGRAM|flags, unix.SOCK_STREAM|flags), is(2, 0)),
		allow("setsockopt", "selfMark, by which the firewall knows its packets",
			is(1, unix.SOL_SOCKET), is(2, unix.SO_MARK), is(4, octets)),
		allow("connect", "to the server; no filter can see an address"),
	}
}
