package sandbox

import (
	"golang.org/x/sys/unix"
)

// LockParent closes the parent's cell. It denies TCP and abstract sockets by
// Landlock and puts a seccomp list on every thread, which kills the process at
// what is not on it.
//
// It comes before the children, who inherit both, and so has in it what starts
// them and builds their cells: see startRules. The parent is small and trusted,
// not tightly caged. What is left of it are system calls that nobody of the tree
// makes, new programs' executable pages, TCP, and every way to more privileges.
//
// lookups is for a tree with a resolver (selfDNSQueue), whose sockets the
// parent makes: it may then also make UDP and TCP sockets that neither block nor
// are inherited, mark and connect them. To which address no filter can see; TCP
// reaches port 53 alone, from Landlock's ABI 4 on, and UDP any.
func LockParent(lookups bool, in Isolation) error {
	return run(append(parentCell(lookups),
		threads("seccomp", func() error { return loadFilter(parentRules(native, uint64(unix.Getpid()), lookups, in)) }),
		threads("self-test: seccomp", parentCanary.prove),
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

// parentRules is the parent's list, the busiest first. It has few descriptor
// numbers in it: the parent's differ with the configuration.
func parentRules(m machine, pid uint64, lookups bool, in Isolation) []rule {
	const (
		modes   = unix.O_ACCMODE | unix.O_APPEND | unix.O_TRUNC
		toLog   = unix.O_WRONLY | unix.O_APPEND
		toRead  = unix.O_RDONLY
		toChild = unix.O_RDWR
		here    = 0xffffffff & unix.AT_FDCWD // an int
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
		allow("openat", "the log, opened again after it was rotated, to append; the configuration and /proc, to read; a child's id maps",
			is(0, here), masked(2, modes, toLog, toRead, toChild)),
		// NB: with MSG_FASTOPEN it would connect, where Landlock does not look
		// (landlock-lsm/linux#41).
		allow("sendmsg", "a new log or edge to the children that hold one; with selfDNSQueue, the resolver's sockets to it",
			is(2, unix.MSG_DONTWAIT)),
		allow("dup3", "a descriptor takes its number"),
		allow("close", "the new log's first number; the configuration; the stderr of a child that died; with selfDNSQueue, what the resolver has now"),
	}
	rules = append(rules, socketRules(lookups)...)
	rules = append(rules, startRules(m)...)
	rules = append(rules, parentCanary.rule())
	for _, r := range runtimeRules(m, pid) {
		switch r.name {
		case "clone": // a thread, or a child
			r.reason = "a thread; a child, in namespaces of its own"
			r.when = []condition{is64(0, m.clone, startFlags(in))}
		case "tgkill":
			if r.when = []condition{is(0, pid, firstPID)}; in == Shared {
				r.when = nil // children have any number
			}
		}
		rules = append(rules, r)
	}
	return rules
}

// socketRules are those of sockets to others. With lookups the resolver's are
// made, and no raw one, no netlink, none of another protocol. All arguments but
// the address are ints.
func socketRules(lookups bool) []rule {
	const (
		flags  = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
		try    = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC
		octets = 4 // sizeof(int)
	)
	families, kinds, options := []uint64{unix.AF_INET}, []uint64{try}, []uint64{unix.SO_SNDBUFFORCE}
	why := ""
	if lookups {
		families, kinds, options = append(families, unix.AF_INET6), append(kinds, unix.SOCK_DGRAM|flags, unix.SOCK_STREAM|flags), append(options, unix.SO_MARK)
		why = "a socket to a DNS server, for the resolver; "
	}
	return []rule{
		allow("socket", why+"self-test of a child: none leads out of its network", is(0, families...), is(1, kinds...), is(2, 0)),
		allow("connect", why+"the same; no filter can see an address"),
		allow("setsockopt", "the room of an edge; with selfDNSQueue, the mark by which the firewall knows the resolver's packets",
			is(1, unix.SOL_SOCKET), is(2, options...), is(4, octets)),
	}
}
