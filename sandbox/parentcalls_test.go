//go:build !race

package sandbox

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// forbiddenToParent are calls beyond those that are forbidden to everybody: what
// is on its list, with arguments that are not.
var forbiddenToParent = slices.Concat([]call{
	{what: "parent: open beside a directory", trap: unix.SYS_OPENAT, args: [6]uintptr{3, at(&passwd[0]), unix.O_RDONLY}},
	{what: "parent: fcntl set owner", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_SETOWN, 1}},
	{what: "parent: fcntl duplicate", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_DUPFD, 1}},
	{what: "parent: fcntl duplicate, not inherited", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_DUPFD_CLOEXEC, 1}},
	{what: "parent: fcntl set signal", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_SETSIG, uintptr(unix.SIGKILL)}},
	{what: "parent: fcntl lock", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_SETLK, at(&scratch)}},
	{what: "parent: fcntl lease", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_SETLEASE, unix.F_RDLCK}},
	{what: "parent: fcntl seals", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_ADD_SEALS}},
	{what: "parent: fcntl of a pipe's size", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_SETPIPE_SZ, 1 << 20}},
	{what: "parent: ioctl TCSETS", trap: unix.SYS_IOCTL, args: [6]uintptr{1, unix.TCSETS, nowhere}},
	{what: "parent: ioctl TIOCSCTTY", trap: unix.SYS_IOCTL, args: [6]uintptr{1, unix.TIOCSCTTY, 1}},
	{what: "parent: ioctl TIOCLINUX", trap: unix.SYS_IOCTL, args: [6]uintptr{1, unix.TIOCLINUX, nowhere}},
	{what: "parent: ioctl of a namespace", trap: unix.SYS_IOCTL, args: [6]uintptr{1, unix.NS_GET_USERNS}},
	{what: "parent: ioctl of a socket's name", trap: unix.SYS_IOCTL, args: [6]uintptr{1, unix.SIOCSIFFLAGS, nowhere}},
	{what: "parent: ppoll with a time", trap: unix.SYS_PPOLL, args: [6]uintptr{at(&scratch), 0, at(&scratch)}},
	{what: "parent: ppoll with a signal mask", trap: unix.SYS_PPOLL, args: [6]uintptr{at(&scratch), 0, 0, at(&scratch), 8}},
	{what: "parent: tgkill another", trap: unix.SYS_TGKILL, args: [6]uintptr{4000, 4000, 0}},
	{what: "parent: kill by another signal", trap: unix.SYS_KILL, args: [6]uintptr{1, uintptr(unix.SIGTERM)}},
	{what: "parent: kill by none", trap: unix.SYS_KILL, args: [6]uintptr{1, 0}},
	{what: "parent: kill its group", trap: unix.SYS_KILL, args: [6]uintptr{0, uintptr(unix.SIGKILL)}},
	{what: "parent: pidfd_send_signal with a story", trap: unix.SYS_PIDFD_SEND_SIGNAL, args: [6]uintptr{minus(1), 0, at(&scratch)}},
	{what: "parent: pidfd_send_signal to a group", trap: unix.SYS_PIDFD_SEND_SIGNAL, args: [6]uintptr{minus(1), 0, 0, unix.PIDFD_SIGNAL_PROCESS_GROUP}},
	{what: "parent: wait4 that does not wait", trap: unix.SYS_WAIT4, args: [6]uintptr{minus(1), 0, unix.WNOHANG}},
	{what: "parent: wait4 for threads", trap: unix.SYS_WAIT4, args: [6]uintptr{minus(1), 0, unix.WALL}},
	{what: "parent: wait4 for usage", trap: unix.SYS_WAIT4, args: [6]uintptr{minus(1), 0, 0, at(&scratch)}},
	{what: "parent: shutdown of one direction", trap: unix.SYS_SHUTDOWN, args: [6]uintptr{minus(1), unix.SHUT_WR}},
	{what: "parent: sendmsg that connects", trap: unix.SYS_SENDMSG, args: [6]uintptr{3, at(&scratch), unix.MSG_FASTOPEN | unix.MSG_DONTWAIT}},
	{what: "parent: sendmsg out of band", trap: unix.SYS_SENDMSG, args: [6]uintptr{3, at(&scratch), unix.MSG_OOB | unix.MSG_DONTWAIT}},
	{what: "parent: unlink", trap: unix.SYS_UNLINKAT, args: [6]uintptr{minus(100), at(&passwd[0])}},
	{what: "parent: execute a descriptor", trap: unix.SYS_EXECVEAT, args: [6]uintptr{3, at(&scratch), 0, 0, unix.AT_EMPTY_PATH}},
	{what: "parent: pipe2 in packets", trap: unix.SYS_PIPE2, args: [6]uintptr{at(&scratch), unix.O_CLOEXEC | unix.O_DIRECT}},
	{what: "parent: pipe2 of notifications", trap: unix.SYS_PIPE2, args: [6]uintptr{at(&scratch), unix.O_CLOEXEC | unix.O_EXCL}},
	{what: "parent: eventfd2 with a value", trap: unix.SYS_EVENTFD2, args: [6]uintptr{1, unix.EFD_CLOEXEC | unix.EFD_NONBLOCK}},
	{what: "parent: eventfd2, a semaphore", trap: unix.SYS_EVENTFD2, args: [6]uintptr{0, unix.EFD_CLOEXEC | unix.EFD_NONBLOCK | unix.EFD_SEMAPHORE}},
	{what: "parent: setuid to another", trap: unix.SYS_SETUID, args: [6]uintptr{4711}},
	{what: "parent: setgid to another", trap: unix.SYS_SETGID, args: [6]uintptr{4711}},
	{what: "parent: prlimit of another", trap: unix.SYS_PRLIMIT64, args: [6]uintptr{4000, unix.RLIMIT_NOFILE}},
	{what: "parent: landlock of another size", trap: unix.SYS_LANDLOCK_CREATE_RULESET, args: [6]uintptr{at(&scratch), 32}},
	{what: "parent: landlock, an unknown question", trap: unix.SYS_LANDLOCK_CREATE_RULESET, args: [6]uintptr{0, 0, 4}},
	{what: "parent: landlock_add_rule", trap: unix.SYS_LANDLOCK_ADD_RULE, args: [6]uintptr{minus(1), landlockNetPort, at(&scratch)}},
	{what: "parent: landlock_restrict_self with flags", trap: unix.SYS_LANDLOCK_RESTRICT_SELF, args: [6]uintptr{minus(1), 1}},
	{what: "parent: seccomp, strict", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_SET_MODE_STRICT}},
	{what: "parent: seccomp, strict with the flags of a list", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_SET_MODE_STRICT, allThreads}},
	{what: "parent: seccomp with a listener", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_SET_MODE_FILTER, allThreads | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}},
	{what: "parent: seccomp without a mitigation", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_SET_MODE_FILTER, allThreads | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW}},
	{what: "parent: seccomp on one thread", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_LOG}},
	{what: "parent: getpriority of a user", trap: unix.SYS_GETPRIORITY, args: [6]uintptr{unix.PRIO_USER}},
	{what: "parent: sched_getaffinity of another", trap: unix.SYS_SCHED_GETAFFINITY, args: [6]uintptr{4000, 8, at(&scratch)}},
	{what: "parent: another canary", trap: unix.SYS_SCHED_GET_PRIORITY_MAX, args: [6]uintptr{canaryArgument + 1}},
	{what: "parent: readlinkat beside a directory", trap: unix.SYS_READLINKAT, args: [6]uintptr{3, at(&self[0]), at(&scratch), 4096}},
	{what: "parent: recvmmsg that waits", trap: unix.SYS_RECVMMSG, args: [6]uintptr{3, at(&scratch), 1}},
	{what: "parent: recvmsg, inheritable", trap: unix.SYS_RECVMSG, args: [6]uintptr{3, at(&scratch)}},
	{what: "parent: connect", trap: unix.SYS_CONNECT, args: [6]uintptr{minus(1), nowhere, unix.SizeofSockaddrInet4}},
	{what: "parent: connect, IPv6", trap: unix.SYS_CONNECT, args: [6]uintptr{minus(1), nowhere, unix.SizeofSockaddrInet6}},
	{what: "parent: connect by a path", trap: unix.SYS_CONNECT, args: [6]uintptr{minus(1), at(&scratch), unix.SizeofSockaddrUnix}},
}, parentsOpens(), parentsClones(), parentsMounts(), parentsControls(), parentsSockets())

const allThreads = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH

// parentsOpens are ways to open that are not the parent's.
func parentsOpens() (calls []call) {
	for what, flags := range map[string]uintptr{
		"to write":                     unix.O_RDWR, // a child's id map; allowed
		"to overwrite":                 unix.O_WRONLY,
		"to overwrite, truncated":      unix.O_WRONLY | unix.O_TRUNC,
		"to write, truncated":          unix.O_RDWR | unix.O_TRUNC,
		"to write, new":                unix.O_RDWR | unix.O_CREAT,
		"to write, new and alone":      unix.O_RDWR | unix.O_CREAT | unix.O_EXCL,
		"to read and append":           unix.O_RDWR | unix.O_APPEND,
		"to append to what is there":   unix.O_WRONLY | unix.O_APPEND,
		"to append, truncated":         unix.O_WRONLY | unix.O_APPEND | unix.O_TRUNC | unix.O_CREAT,
		"to read, truncated":           unix.O_RDONLY | unix.O_TRUNC,
		"to read, new":                 unix.O_RDONLY | unix.O_CREAT,
		"without a name":               unix.O_RDWR | unix.O_TMPFILE,
		"without a name, only written": unix.O_WRONLY | unix.O_TMPFILE,
		"as a place":                   unix.O_PATH,
		"for neither":                  unix.O_ACCMODE,
	} {
		calls = append(calls, call{what: "parent: open " + what, trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&passwd[0]), flags}})
	}
	return calls
}

// parentsClones are processes that are not its children, and threads that are
// none of the runtime's.
func parentsClones() (calls []call) {
	child, thread := uintptr(startFlags(Isolated)), uintptr(native.clone)
	for what, flags := range map[string]uintptr{
		"in its namespaces":              child &^ namespaces,
		"in its namespaces and memory":   uintptr(startFlags(Shared)),
		"in its user namespace":          child &^ unix.CLONE_NEWUSER,
		"in its network":                 child &^ unix.CLONE_NEWNET,
		"in its pid namespace":           child &^ unix.CLONE_NEWPID,
		"in another control group":       child | unix.CLONE_NEWCGROUP,
		"at another time":                child | 0x80, // CLONE_NEWTIME, a signal's number here
		"as its sibling":                 child | unix.CLONE_PARENT,
		"that is traced":                 child | unix.CLONE_PTRACE,
		"in its memory":                  child | unix.CLONE_VM,
		"with its files":                 child | unix.CLONE_FILES,
		"without a descriptor":           child &^ unix.CLONE_PIDFD,
		"that ends quietly":              child &^ uintptr(unix.SIGCHLD),
		"that ends with another signal":  child&^uintptr(unix.SIGCHLD) | uintptr(unix.SIGKILL),
		"a thread in a user namespace":   thread | unix.CLONE_NEWUSER,
		"a thread in another network":    thread | unix.CLONE_NEWNET,
		"a thread with a descriptor":     thread | unix.CLONE_PIDFD,
		"a thread that looks after none": thread &^ unix.CLONE_SIGHAND,
	} {
		calls = append(calls, call{what: "parent: clone " + what, trap: unix.SYS_CLONE, args: [6]uintptr{flags}},
			call{what: "parent: clone " + what + ", high bits", trap: unix.SYS_CLONE, args: [6]uintptr{flags | 1<<40}})
	}
	for what, flags := range map[string]uintptr{
		"net": unix.CLONE_NEWNET, // a child's self-test; allowed
		"mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS,
		"cgroup": unix.CLONE_NEWCGROUP, "time": 0x80, "user and net": unix.CLONE_NEWUSER | unix.CLONE_NEWNET, "fs": unix.CLONE_FS, "nothing": 0,
	} {
		calls = append(calls, call{what: "parent: unshare " + what, trap: unix.SYS_UNSHARE, args: [6]uintptr{flags}})
	}
	return calls
}

// parentsMounts are mounts that build no cell.
func parentsMounts() (calls []call) {
	for what, flags := range map[string]uintptr{
		"its own":           privateFlags, // a child's first; allowed
		"an empty root":     rootFlags,    // and its second
		"a place":           unix.MS_BIND,
		"all below a place": unix.MS_BIND | unix.MS_REC,
		"again, writable":   unix.MS_REMOUNT,
		"elsewhere":         unix.MS_MOVE,
		"for all":           unix.MS_SHARED,
		"for those below":   unix.MS_REC | unix.MS_SLAVE,
		"with devices":      rootFlags &^ unix.MS_NODEV,
		"with programs":     rootFlags &^ unix.MS_NOEXEC,
		"with set-uid":      rootFlags &^ unix.MS_NOSUID,
		"to be written":     rootFlags &^ unix.MS_RDONLY,
		"a place, as root":  rootFlags | unix.MS_BIND,
		"high bits":         rootFlags | 1<<40,
	} {
		calls = append(calls, call{what: "parent: mount " + what, trap: unix.SYS_MOUNT, args: [6]uintptr{at(&root[0]), at(&root[0]), at(&root[0]), flags}})
	}
	for what, flags := range map[string]uintptr{
		"at once": 0, "by force": unix.MNT_FORCE, "expired": unix.MNT_EXPIRE, "not followed": unix.MNT_DETACH | unix.UMOUNT_NOFOLLOW,
	} {
		calls = append(calls, call{what: "parent: umount2 " + what, trap: unix.SYS_UMOUNT2, args: [6]uintptr{at(&root[0]), flags}})
	}
	return calls
}

// parentsControls is prctl with every option there is, and some more. Those that
// may be are made with arguments that change nothing.
func parentsControls() (calls []call) {
	for option := range uintptr(100) {
		calls = append(calls, call{what: fmt.Sprintf("parent: prctl option %d", option), trap: unix.SYS_PRCTL, args: [6]uintptr{option, nowhere, nowhere, 1, 1}})
	}
	for _, option := range []uintptr{unix.PR_SET_VMA, unix.PR_SET_PTRACER, 0x6a6a6a6a} {
		calls = append(calls, call{what: fmt.Sprintf("parent: prctl option %#x", option), trap: unix.SYS_PRCTL, args: [6]uintptr{option}})
	}
	return calls
}

// parentsSockets are pairs that are no edges, and what no edge and no socket to a
// DNS server is set to.
func parentsSockets() (calls []call) {
	const kind = unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC
	for what, args := range map[string][3]uintptr{
		"an edge":           {unix.AF_UNIX, kind, 0}, // allowed
		"a stream":          {unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0},
		"of datagrams":      {unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0},
		"inheritable":       {unix.AF_UNIX, unix.SOCK_SEQPACKET, 0},
		"that never blocks": {unix.AF_UNIX, kind | unix.SOCK_NONBLOCK, 0},
		"of the network":    {unix.AF_INET, kind, 0},
		"of TIPC":           {unix.AF_TIPC, kind, 0},
		"with a protocol":   {unix.AF_UNIX, kind, 1},
	} {
		calls = append(calls, call{what: "parent: socketpair " + what, trap: unix.SYS_SOCKETPAIR, args: [6]uintptr{args[0], args[1], args[2], nowhere}})
	}
	for what, args := range map[string][3]uintptr{
		"SO_SNDBUFFORCE":          {unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4}, // allowed
		"SO_SNDBUFFORCE, longer":  {unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8},
		"SO_RCVBUFFORCE":          {unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4},
		"SO_MARK":                 {unix.SOL_SOCKET, unix.SO_MARK, 4},
		"SO_BINDTODEVICE":         {unix.SOL_SOCKET, unix.SO_BINDTODEVICE, 4},
		"SO_ATTACH_FILTER":        {unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, 16},
		"SO_PRIORITY":             {unix.SOL_SOCKET, unix.SO_PRIORITY, 4},
		"IP_TRANSPARENT":          {unix.IPPROTO_IP, unix.IP_TRANSPARENT, 4},
		"a table of iptables":     {unix.IPPROTO_IP, 64, 4}, // IPT_SO_SET_REPLACE
		"of netlink by a number":  {unix.SOL_NETLINK, unix.SO_SNDBUFFORCE, 4},
		"of TCP by the same name": {unix.IPPROTO_TCP, unix.SO_SNDBUFFORCE, 4},
	} {
		calls = append(calls, call{what: "parent: setsockopt " + what, trap: unix.SYS_SETSOCKOPT, args: [6]uintptr{minus(1), args[0], args[1], nowhere, args[2]}})
	}
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	for what, args := range map[string][3]uintptr{
		"of datagrams":           {unix.AF_INET, unix.SOCK_DGRAM | flags, 0}, // a child's self-test; allowed
		"of datagrams, of IPv6":  {unix.AF_INET6, unix.SOCK_DGRAM | flags, 0},
		"a stream":               {unix.AF_INET, unix.SOCK_STREAM | flags, 0},
		"a stream, of IPv6":      {unix.AF_INET6, unix.SOCK_STREAM | flags, 0},
		"of datagrams, blocking": {unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0},
		"raw":                    {unix.AF_INET, unix.SOCK_RAW | flags, unix.IPPROTO_RAW},
		"of packets":             {unix.AF_PACKET, unix.SOCK_RAW | flags, 0x300},
		"of netfilter":           {unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER},
		"of routes":              {unix.AF_NETLINK, unix.SOCK_RAW | flags, unix.NETLINK_ROUTE},
		"local":                  {unix.AF_UNIX, unix.SOCK_STREAM | flags, 0},
		"of ICMP":                {unix.AF_INET, unix.SOCK_DGRAM | flags, unix.IPPROTO_ICMP},
		"of MPTCP":               {unix.AF_INET, unix.SOCK_STREAM | flags, 262},
	} {
		calls = append(calls, call{what: "parent: socket " + what, trap: unix.SYS_SOCKET, args: [6]uintptr{args[0], args[1], args[2]}})
	}
	return calls
}
