package sandbox

import (
	"golang.org/x/sys/unix"
)

// startRules are what starting a child takes, in the parent and then in the
// child until its own list stands. A filter is inherited: that of the parent has in
// it all that builds a cell, and all that any child needs once it has one. What a
// call may be on is said where that is the same for all of them.
//
// What this leaves open is narrowed elsewhere. None of it gives a capability: a
// process that makes namespaces has capabilities in those alone. And in the
// service's unit nothing can be written, executed or reached but what is named
// there.
func startRules(m machine) []rule {
	rules := []rule{
		allow("execve", "this program, once more; which file it is no filter can see"),
		allow("pipe2", "a child's stderr; whether it could be started", is(1, unix.O_CLOEXEC)),
		allow("socketpair", "a child's edges", is(0, unix.AF_UNIX), is(1, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC), is(2, 0)),
		allow("setsid", "a child's session: Ctrl-C reaches the parent alone"),
		allow("setuid", "a child proves that the old ids are gone"),
		allow("setgid", "the same"),
		allow("capget", "ambient capabilities in its own namespaces, which build the cell; and the proof that they are gone"),
		allow("capset", "the same"),
		allow("prctl", "what a cell sets and proves of each thread",
			is(0, unix.PR_SET_PDEATHSIG, unix.PR_SET_DUMPABLE, unix.PR_SET_KEEPCAPS, unix.PR_CAPBSET_READ, unix.PR_CAPBSET_DROP,
				unix.PR_GET_SECUREBITS, unix.PR_SET_SECUREBITS, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_CAP_AMBIENT)),
		allow("mount", "the empty root"),
		allow("umount2", "the old one", is(1, unix.MNT_DETACH)),
		allow("pivot_root", "one takes the other's place"),
		allow("chdir", "there"),
		allow("statfs", "the proof of it"),
		allow("prlimit64", "the limits"),
		allow("landlock_create_ruleset", "its own domain"),
		allow("landlock_restrict_self", "the same"),
		allow("seccomp", "its own list"),
		allow("unshare", "self-test: it can make no network namespace", is(0, unix.CLONE_NEWNET)),
		allow("kill", "a child whose parent was gone already ends itself"),
		allow("getppid", "whether it was"),
		allow("getpriority", "how far a child stands behind"),
		allow("getdents64", "a process's descriptors and threads in /proc; that a root is empty"),
		allow("readlinkat", "a process's namespaces in /proc"),
		allow("newfstatat", "whether a process is dumpable; what is a terminal"),
		allow("fstat", "the configuration's size"),
		allow("fcntl", "descriptors: their flags, and which are inherited",
			is(1, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL)),
		allow("ioctl", "whether something is a terminal", is(1, unix.TCGETS)),
		allow("sched_getaffinity", "the runtime of a child counts processors"),
		allow("recvmmsg", "packets, by children that read queues", is(3, unix.MSG_DONTWAIT)),
		allow("recvmsg", "policy, by a child", is(2, unix.MSG_CMSG_CLOEXEC)),
		allow("epoll_create1", "the runtime's and a child's own", is(0, unix.EPOLL_CLOEXEC)),
		allow("eventfd2", "the runtime's", is(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)),
		allow(childCanary.name, "a child's canary, which its own list must answer"),
	}
	if m.startsWith != "" {
		rules = append(rules, allow(m.startsWith, "the first call of a child's runtime"))
	}
	return rules
}

// startFlags are those of clone with which a child is started (syscall.forkExec
// of Go, with ChildAttr).
func startFlags(in Isolation) uint64 {
	if in == Shared {
		return unix.CLONE_VFORK | unix.CLONE_VM | unix.CLONE_PIDFD | uint64(unix.SIGCHLD)
	}
	return namespaces | unix.CLONE_PIDFD | uint64(unix.SIGCHLD)
}
