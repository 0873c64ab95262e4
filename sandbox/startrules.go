package sandbox

import (
	"golang.org/x/sys/unix"
)

// startRules are what starting a child takes, in the parent and then in the
// child until its own list stands. A filter is inherited: that of the parent has in
// it all that builds a cell, and all that any child needs once it has one. An
// argument is pinned where it is the same for all of them; what belongs to one
// role is in that role's own list.
//
// What this leaves open is narrowed elsewhere. None of it gives a capability that
// counts in the host's namespaces. And in the service's unit nothing can be written,
// executed or reached but what is named there.
func startRules(m machine, own ids, in Isolation) []rule {
	const (
		here = 0xffffffff & unix.AT_FDCWD // an int
		all  = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	)
	controls := []uint64{unix.PR_SET_PDEATHSIG, unix.PR_SET_DUMPABLE, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_CAP_AMBIENT}
	killed := []condition{is(1, uint64(unix.SIGKILL))} // children have any number
	if in == Isolated {
		controls = append(controls, unix.PR_SET_KEEPCAPS, unix.PR_CAPBSET_READ, unix.PR_CAPBSET_DROP, unix.PR_GET_SECUREBITS, unix.PR_SET_SECUREBITS)
		killed = append([]condition{is(0, firstPID)}, killed...)
	}
	rules := []rule{
		allow("execve", "this program, once more; which file it is no filter can see"),
		allow("pipe2", "a child's stderr; whether it could be started", is(1, unix.O_CLOEXEC)),
		allow("socketpair", "a child's edges", is(0, unix.AF_UNIX), is(1, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC), is(2, 0)),
		allow("setsid", "a child's session: Ctrl-C reaches the parent alone"),
		allow("getppid", "whether a child's parent was gone before it was asked to die with it"),
		allow("kill", "itself, if so (and in a pid namespace of its own for nothing: the first process there is not killed so)", killed...),
		allow("capget", "what a child has and gives away: capabilities in its own namespaces, which build the cell"),
		allow("capset", "gives them to the child that is started; takes them again"),
		allow("prctl", "what a cell sets and proves of each thread", is(0, controls...)),
		allow("prlimit64", "the limits of a child; the runtime's of descriptors",
			is(0, 0), is(1, unix.RLIMIT_CORE, unix.RLIMIT_NPROC, unix.RLIMIT_NOFILE, unix.RLIMIT_DATA, unix.RLIMIT_FSIZE)),
		allow("landlock_create_ruleset", "a child's Landlock domain; which version there is",
			is64(1, 0, landlockSizeV1, landlockSizeV4, landlockSizeV6), is(2, 0, landlockQueryVersion, landlockQueryErrata)),
		allow("landlock_restrict_self", "the domain is put on its threads", is(1, 0)),
		allow("seccomp", "a child's own list", is(0, unix.SECCOMP_SET_MODE_FILTER), is(1, all)),
		allow("unshare", "self-test of a child: it can make no network namespace", is(0, unix.CLONE_NEWNET)),
		allow("getdents64", "a process's descriptors and threads in /proc; that a root is empty"),
		allow("readlinkat", "a process's namespaces in /proc; what a descriptor is", is(0, here)),
		allow("fstat", "how large a file is that is read"),
		allow(m.fileStatus, "whether a process is dumpable; what forbids namespaces", is(0, here)),
		allow("fcntl", "descriptors: their flags, and which are inherited",
			is(1, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL)),
		allow("ioctl", "a library asks at the start of each process whether its output is a terminal", is(1, unix.TCGETS)),
		allow("sched_getaffinity", "the runtime of a child counts processors", is(0, 0)),
		allow("recvmsg", "policy, by a child", is(2, unix.MSG_CMSG_CLOEXEC)),
		allow("epoll_create1", "the runtime's and a child's own", is(0, unix.EPOLL_CLOEXEC)),
		allow("eventfd2", "the wake-ups of a child's runtime", is(0, 0), is(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)),
		allow(childCanary.name, "a child's canary, which its own list must answer", is(0, canaryArgument)),
	}
	if m.startsWith != "" {
		rules = append(rules, allow(m.startsWith, "the first call of a child's runtime", is64(0, m.startsWithWhat)))
	}
	if in == Isolated {
		rules = append(rules, isolationRules(own)...)
	}
	return rules
}

// isolationRules are what a child in namespaces of its own takes besides.
func isolationRules(own ids) []rule {
	return []rule{
		allow("setgid", "a child becomes in its own namespace who it is", is(0, own.gid)),
		allow("setuid", "a child becomes in its own namespace who it is", is(0, own.uid)),
		allow("mount", "makes a child's mounts its own; the empty root", is64(3, privateFlags, rootFlags)),
		allow("pivot_root", "the empty root takes the place of the old one"),
		allow("umount2", "lets go of the old root", is(1, unix.MNT_DETACH)),
		allow("chdir", "into the new root"),
		allow("statfs", "the proof that it is the empty one"),
		allow("getpriority", "how far behind a child stands", is(0, unix.PRIO_PROCESS)),
	}
}

// startFlags are those of clone with which a child is started (syscall.forkExec
// of Go, with ChildAttr and a pidfd).
func startFlags(in Isolation) uint64 {
	if in == Shared {
		return unix.CLONE_VFORK | unix.CLONE_VM | unix.CLONE_PIDFD | uint64(unix.SIGCHLD)
	}
	return namespaces | unix.CLONE_PIDFD | uint64(unix.SIGCHLD)
}
