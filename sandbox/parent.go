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
// not tightly caged: it can execute what its user can, open files to read and to
// write, and make namespaces. What it cannot is on no list of the tree: trace,
// signal others than its children, make executable memory, load anything into
// the kernel, mount anything that could be written, executed or read as a device,
// change its ids, limits of others, times. In the host's namespaces nothing on it
// gives more privileges than the one that it has.
//
// lookups is for a tree with a resolver (selfDNSQueue), whose sockets the
// parent makes: it may then also make UDP and TCP sockets that neither block nor
// are inherited, mark and connect them. To which address no filter can see; TCP
// reaches port 53 alone, from Landlock's ABI 4 on, and UDP any.
func LockParent(lookups bool, in Isolation) error {
	return run(append(parentCell(lookups), parentLock(lookups, in)...), parentFault)
}

// parentLock is the filter, and the proof that every thread is under it.
func parentLock(lookups bool, in Isolation) []step {
	return []step{
		threads("seccomp", func() error {
			err := loadFilter(parentRules(native, ownIDs(), lookups, in))
			if err == nil {
				ownFilters++
			}
			return err
		}),
		threads("self-test: seccomp", parentCanary.prove),
	}
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

// ids are the numbers of the parent that stand in its list.
type ids struct{ pid, uid, gid uint64 }

func ownIDs() ids {
	return ids{uint64(unix.Getpid()), uint64(unix.Getuid()), uint64(unix.Getgid())}
}

// parentRules is the list that the parent loads, the busiest first: its children
// are under it too. It has few descriptor numbers in it: the parent's differ with
// the configuration.
func parentRules(m machine, own ids, lookups bool, in Isolation) []rule {
	const (
		// Neither a file without a name nor a mere place is asked for.
		modes = unix.O_ACCMODE | unix.O_APPEND | unix.O_TRUNC | unix.O_CREAT | unix.O_PATH | tmpFile
		toLog = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT
		here  = 0xffffffff & unix.AT_FDCWD // an int
	)
	rules := []rule{
		allow("read", "verdicts and signals of children; what they say on stderr; the configuration; the kernel's log, opened before; a child's edges"),
		allow("write", "verdicts to the kernel on the queue sockets; log lines; policy; a child's id maps and edges"),
		allow("recvmmsg", "packets, by children that read queues", is(3, unix.MSG_DONTWAIT)),
		allow("ppoll", "verdicts of several children on one thread, for as long as it takes", is64(2, 0), is64(3, 0)),
		allow("epoll_pwait", "the runtime waits for what children say on stderr; a child for its edges"),
		allow("clock_gettime", "times in log lines where the vDSO falls back; expiries, in a child",
			is(0, unix.CLOCK_BOOTTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_REALTIME)),
	}
	for _, r := range runtimeRules(m, own.pid) {
		switch r.name {
		case "clone":
			r.reason = "a thread, or a child, by exactly these flags: in namespaces of its own it has capabilities there alone"
			if in == Shared {
				r.reason = "a thread, or a child, by exactly these flags"
			}
			r.when = []condition{is64(0, m.clone, startFlags(in))}
		case "tgkill":
			r.reason = "preemption and calls on all threads, within the process, a child's too"
			if r.when = []condition{is(0, own.pid, firstPID)}; in == Shared {
				r.when = nil // children have any number
			}
		}
		rules = append(rules, r)
	}
	rules = append(rules,
		allow("epoll_ctl", "the same as of epoll_pwait, and its end"),
		allow("pread64", "the kernel's queue statistics, opened before"),
		allow("wait4", "a child's end", is(2, 0), is64(3, 0)),
		allow("pidfd_send_signal", "ends a child", is64(2, 0), is(3, 0)),
		allow("shutdown", "the end of its control socket is how a child learns of the end", is(1, unix.SHUT_RDWR)),
		allow("openat", "the log, opened again after it was rotated, to append; the configuration and /proc, to read; a child's id maps",
			is(0, here), masked(2, modes, toLog, unix.O_RDONLY, unix.O_RDWR)),
		// NB: with MSG_FASTOPEN it would connect, where Landlock does not look
		// (landlock-lsm/linux#41).
		allow("sendmsg", "a new log or edge to the children that hold one; with selfDNSQueue, the resolver's sockets to it",
			is(2, unix.MSG_DONTWAIT)),
		allow("dup3", "the new log takes the old one's number; a child's descriptors take theirs"),
		allow("close", "the new log's first number; the configuration; the stderr of a child that died; what a child has now"),
	)
	rules = append(rules, socketRules(lookups, in)...)
	rules = append(rules, startRules(m, own, in)...)
	return append(rules, parentCanary.rule())
}

// tmpFile is __O_TMPFILE, O_TMPFILE without the O_DIRECTORY in it, which has
// another value on each machine (include/uapi/asm-generic/fcntl.h).
const tmpFile = 0o20000000

// socketRules are those of sockets to others. With lookups the resolver's are
// made, and no raw one, no netlink, none of another protocol. All arguments but
// the address are ints.
func socketRules(lookups bool, in Isolation) (rules []rule) {
	const (
		flags  = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
		octets = 4 // sizeof(int)
	)
	families, kinds := []uint64{unix.AF_INET}, []uint64{unix.SOCK_DGRAM | flags}
	lengths, options := []uint64{unix.SizeofSockaddrInet4}, []uint64{unix.SO_SNDBUFFORCE}
	why, room := "self-test of a child: none leads out of its network", "the room of an edge"
	if lookups {
		families, kinds = append(families, unix.AF_INET6), append(kinds, unix.SOCK_STREAM|flags)
		lengths, options = append(lengths, unix.SizeofSockaddrInet6), append(options, unix.SO_MARK)
		why, room = "a socket to a DNS server, for the resolver; "+why, "selfMark, by which the firewall knows the resolver's packets; "+room
	}
	if lookups || in == Isolated {
		rules = append(rules,
			allow("socket", why, is(0, families...), is(1, kinds...), is(2, 0)),
			allow("connect", why+"; no filter can see an address", is(2, lengths...)))
	}
	return append(rules, allow("setsockopt", room, is(1, unix.SOL_SOCKET), is(2, options...), is(4, octets)))
}
