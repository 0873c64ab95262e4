//go:build !race

package sandbox

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// call is one raw system call of a process that an attacker owns.
type call struct {
	what string
	trap uintptr
	args [6]uintptr
	do   func() // instead, where it takes more than a system call
}

func (c *call) act() string {
	if c.do != nil {
		c.do()
		return "ok"
	}
	r, _, errno := unix.RawSyscall6(c.trap, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	if errno == 0 && r == 0 && (c.trap == unix.SYS_CLONE || c.trap == unix.SYS_CLONE3) {
		for { // the new process: it has no runtime
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return answer(errno)
}

// Memory that calls point at.
var (
	passwd  = []byte("/etc/passwd\x00")
	root    = []byte("/\x00")
	scratch [4096]byte
	self    = []byte("/proc/self/exe\x00")
	address = unix.RawSockaddrNetlink{Family: unix.AF_NETLINK}
)

func at[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

func minus(n int) uintptr { return uintptr(-n) }

// forbidden is what every child dies of, whatever its role.
var forbidden = []call{
	{what: "openat", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&passwd[0]), 0}},
	{what: "open the root", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&root[0])}},
	{what: "openat2", trap: unix.SYS_OPENAT2, args: [6]uintptr{minus(100), at(&passwd[0]), at(&scratch), 24}},
	{what: "socket inet", trap: unix.SYS_SOCKET, args: [6]uintptr{unix.AF_INET, unix.SOCK_STREAM}},
	{what: "socket unix", trap: unix.SYS_SOCKET, args: [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}},
	{what: "socket netlink", trap: unix.SYS_SOCKET, args: [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}},
	{what: "socket packet", trap: unix.SYS_SOCKET, args: [6]uintptr{unix.AF_PACKET, unix.SOCK_RAW}},
	{what: "socketpair", trap: unix.SYS_SOCKETPAIR, args: [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0, at(&scratch)}},
	{what: "connect", trap: unix.SYS_CONNECT, args: [6]uintptr{ipc.FDControl, at(&address), 12}},
	{what: "bind", trap: unix.SYS_BIND, args: [6]uintptr{ipc.FDControl, at(&address), 12}},
	{what: "setsockopt", trap: unix.SYS_SETSOCKOPT, args: [6]uintptr{ipc.FDControl, unix.SOL_SOCKET, unix.SO_SNDBUF, at(&scratch), 4}},
	{what: "execve", trap: unix.SYS_EXECVE, args: [6]uintptr{at(&self[0])}},
	{what: "execveat", trap: unix.SYS_EXECVEAT, args: [6]uintptr{minus(100), at(&self[0])}},
	{what: "fork", trap: unix.SYS_CLONE, args: [6]uintptr{uintptr(unix.SIGCHLD)}},
	{what: "clone newuser", trap: unix.SYS_CLONE, args: [6]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}},
	{what: "clone a thread and newuser", trap: unix.SYS_CLONE, args: [6]uintptr{uintptr(native.clone) | unix.CLONE_NEWUSER}},
	{what: "clone a thread, high bits", trap: unix.SYS_CLONE, args: [6]uintptr{uintptr(native.clone) | 1<<40}},
	{what: "clone3", trap: unix.SYS_CLONE3, args: [6]uintptr{at(&scratch), 64}},
	{what: "unshare newuser", trap: unix.SYS_UNSHARE, args: [6]uintptr{unix.CLONE_NEWUSER}},
	{what: "unshare files", trap: unix.SYS_UNSHARE, args: [6]uintptr{unix.CLONE_FILES}},
	{what: "setns", trap: unix.SYS_SETNS, args: [6]uintptr{ipc.FDControl, 0}},
	{what: "ptrace", trap: unix.SYS_PTRACE, args: [6]uintptr{unix.PTRACE_TRACEME}},
	{what: "process_vm_readv", trap: unix.SYS_PROCESS_VM_READV, args: [6]uintptr{1}},
	{what: "kill another", trap: unix.SYS_KILL, args: [6]uintptr{4000, uintptr(unix.SIGTERM)}},
	{what: "kill everybody", trap: unix.SYS_KILL, args: [6]uintptr{minus(1), uintptr(unix.SIGTERM)}},
	{what: "tgkill another", trap: unix.SYS_TGKILL, args: [6]uintptr{2, 2, 0}},
	{what: "tkill", trap: unix.SYS_TKILL, args: [6]uintptr{1, 0}},
	{what: "pidfd_open", trap: unix.SYS_PIDFD_OPEN, args: [6]uintptr{1}},
	{what: "mmap executable", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 0xffffffff}},
	{what: "mmap shared", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, unix.PROT_READ, unix.MAP_SHARED | unix.MAP_ANONYMOUS, 0xffffffff}},
	{what: "mmap a descriptor", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, ipc.FDControl}},
	{what: "mmap anonymous with a descriptor", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, 1, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, ipc.FDControl}},
	{what: "mprotect", trap: unix.SYS_MPROTECT, args: [6]uintptr{at(&scratch), 4096, unix.PROT_READ | unix.PROT_EXEC}},
	{what: "mremap", trap: unix.SYS_MREMAP, args: [6]uintptr{at(&scratch), 4096, 8192}},
	{what: "memfd_create", trap: unix.SYS_MEMFD_CREATE, args: [6]uintptr{at(&root[0])}},
	{what: "madvise remove", trap: unix.SYS_MADVISE, args: [6]uintptr{at(&scratch), 0, unix.MADV_REMOVE}},
	{what: "sendto on control", trap: unix.SYS_SENDTO, args: [6]uintptr{ipc.FDControl, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "sendto on a queue", trap: unix.SYS_SENDTO, args: [6]uintptr{ipc.FDQueues, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "sendto with an address", trap: unix.SYS_SENDTO, args: [6]uintptr{ipc.FDGrants, at(&scratch), 1, unix.MSG_DONTWAIT, at(&address), 12}},
	{what: "sendto out of band", trap: unix.SYS_SENDTO, args: [6]uintptr{ipc.FDGrants, at(&scratch), 1, unix.MSG_OOB}},
	{what: "sendmsg", trap: unix.SYS_SENDMSG, args: [6]uintptr{ipc.FDControl, at(&scratch)}},
	{what: "sendmmsg", trap: unix.SYS_SENDMMSG, args: [6]uintptr{ipc.FDGrants, at(&scratch), 1}},
	{what: "write on a queue", trap: unix.SYS_WRITE, args: [6]uintptr{ipc.FDQueues, at(&scratch), 1}},
	{what: "write on the poller", trap: unix.SYS_WRITE, args: [6]uintptr{fdRuntimePoll, at(&scratch), 1}},
	{what: "writev", trap: unix.SYS_WRITEV, args: [6]uintptr{ipc.FDControl, at(&scratch), 1}},
	{what: "read on standard error", trap: unix.SYS_READ, args: [6]uintptr{ipc.FDStderr, at(&scratch), 1}},
	{what: "read a queue", trap: unix.SYS_READ, args: [6]uintptr{ipc.FDQueues, at(&scratch), 1}},
	{what: "read 202, the number of futex", trap: unix.SYS_READ, args: [6]uintptr{202, at(&scratch), 1}},
	{what: "read 9, the number of mmap", trap: unix.SYS_READ, args: [6]uintptr{9, at(&scratch), 1}},
	{what: "recvmsg beside control", trap: unix.SYS_RECVMSG, args: [6]uintptr{ipc.FDGrants, at(&scratch), unix.MSG_DONTWAIT}},
	{what: "recvmmsg on control", trap: unix.SYS_RECVMMSG, args: [6]uintptr{ipc.FDControl, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "recvmmsg behind the queues", trap: unix.SYS_RECVMMSG, args: [6]uintptr{ipc.FDQueues + 3, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "recvmsg with other flags", trap: unix.SYS_RECVMSG, args: [6]uintptr{ipc.FDControl, at(&scratch), unix.MSG_DONTWAIT}},
	{what: "recvmmsg with other flags", trap: unix.SYS_RECVMMSG, args: [6]uintptr{ipc.FDQueues, at(&scratch), 1, unix.MSG_DONTWAIT | unix.MSG_PEEK}},
	{what: "recvfrom", trap: unix.SYS_RECVFROM, args: [6]uintptr{ipc.FDControl, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "epoll_pwait elsewhere", trap: unix.SYS_EPOLL_PWAIT, args: [6]uintptr{ipc.FDControl, at(&scratch), 1}},
	{what: "epoll_create1, inheritable", trap: unix.SYS_EPOLL_CREATE1, args: [6]uintptr{0}},
	{what: "epoll_ctl on the runtime's poller", trap: unix.SYS_EPOLL_CTL, args: [6]uintptr{fdRuntimePoll, unix.EPOLL_CTL_ADD, ipc.FDControl, at(&scratch)}},
	{what: "epoll_ctl modifies", trap: unix.SYS_EPOLL_CTL, args: [6]uintptr{ipc.FDPoll, unix.EPOLL_CTL_MOD, ipc.FDControl, at(&scratch)}},
	{what: "dup", trap: unix.SYS_DUP, args: [6]uintptr{ipc.FDControl}},
	{what: "dup3 over control", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDStderr, ipc.FDControl}},
	{what: "dup3 of a queue over the log", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDQueues, ipc.FDLog, unix.O_CLOEXEC}},
	{what: "dup3 of an edge over the log", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDGrants, ipc.FDLog, unix.O_CLOEXEC}},
	{what: "close of control", trap: unix.SYS_CLOSE, args: [6]uintptr{ipc.FDControl}},
	{what: "dup3 over a queue", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDControl, ipc.FDQueues}},
	{what: "fcntl", trap: unix.SYS_FCNTL, args: [6]uintptr{ipc.FDControl, unix.F_GETFL}},
	{what: "ioctl", trap: unix.SYS_IOCTL, args: [6]uintptr{ipc.FDControl, unix.TIOCINQ, at(&scratch)}},
	{what: "prctl", trap: unix.SYS_PRCTL, args: [6]uintptr{unix.PR_SET_DUMPABLE, 1}},
	{what: "seccomp", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_GET_ACTION_AVAIL, 0, at(&scratch)}},
	{what: "capset", trap: unix.SYS_CAPSET, args: [6]uintptr{at(&scratch), at(&scratch)}},
	{what: "capget", trap: unix.SYS_CAPGET, args: [6]uintptr{at(&scratch), at(&scratch)}},
	{what: "setuid", trap: unix.SYS_SETUID, args: [6]uintptr{0}},
	{what: "prlimit", trap: unix.SYS_PRLIMIT64, args: [6]uintptr{0, unix.RLIMIT_NOFILE, 0, at(&scratch)}},
	{what: "setpriority", trap: unix.SYS_SETPRIORITY, args: [6]uintptr{0, 0, 0}},
	{what: "mount", trap: unix.SYS_MOUNT, args: [6]uintptr{at(&root[0]), at(&root[0])}},
	{what: "umount2", trap: unix.SYS_UMOUNT2, args: [6]uintptr{at(&root[0]), unix.MNT_DETACH}},
	{what: "chroot", trap: unix.SYS_CHROOT, args: [6]uintptr{at(&root[0])}},
	{what: "chdir", trap: unix.SYS_CHDIR, args: [6]uintptr{at(&root[0])}},
	{what: "getdents64", trap: unix.SYS_GETDENTS64, args: [6]uintptr{ipc.FDControl, at(&scratch), 4096}},
	{what: "bpf", trap: unix.SYS_BPF, args: [6]uintptr{0, at(&scratch), 64}},
	{what: "perf_event_open", trap: unix.SYS_PERF_EVENT_OPEN, args: [6]uintptr{at(&scratch)}},
	{what: "io_uring_setup", trap: unix.SYS_IO_URING_SETUP, args: [6]uintptr{1, at(&scratch)}},
	{what: "userfaultfd", trap: unix.SYS_USERFAULTFD, args: [6]uintptr{1}},
	{what: "keyctl", trap: unix.SYS_KEYCTL, args: [6]uintptr{0}},
	{what: "add_key", trap: unix.SYS_ADD_KEY, args: [6]uintptr{at(&root[0])}},
	{what: "landlock", trap: unix.SYS_LANDLOCK_CREATE_RULESET, args: [6]uintptr{0, 0, 1}},
	{what: "clock_settime", trap: unix.SYS_CLOCK_SETTIME, args: [6]uintptr{0, at(&scratch)}},
	{what: "clock_gettime of a process", trap: unix.SYS_CLOCK_GETTIME, args: [6]uintptr{unix.CLOCK_PROCESS_CPUTIME_ID, at(&scratch)}},
	{what: "getrandom", trap: unix.SYS_GETRANDOM, args: [6]uintptr{at(&scratch), 1}},
	{what: "no such call", trap: 1000, args: [6]uintptr{}},
}

func init() {
	for i := range forbidden {
		c := &forbidden[i]
		childActs[c.what] = func(childPlan) string { return c.act() }
	}
}

// TestHostileMatrix starts a child for each role and each forbidden call, in
// a whole cell, and requires that the call killed it.
func TestHostileMatrix(t *testing.T) {
	for _, role := range ipc.Children {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			var plans []childPlan
			for _, c := range forbidden {
				plans = append(plans, plan(role, buildEnter, c.what))
			}
			for _, o := range runParent(t, startRoot, parentPlan{Children: plans}).Outcomes {
				if !o.Ready || o.Result != "SIGSYS" {
					t.Errorf("should have died of SIGSYS: %s", o)
				}
			}
		})
	}
}

// withoutFilter is what becomes of some of them when all but the filter is
// there.
var withoutFilter = map[string]string{
	"openat":              "ENOENT",
	"open the root":       "EACCES",
	"socket packet":       "EPERM",
	"execve":              "ENOENT",
	"clone newuser":       "ok",
	"kill another":        "ESRCH",
	"kill everybody":      "ESRCH",
	"tgkill another":      "ESRCH",
	"pidfd_open":          "ok", // itself
	"setuid":              "EINVAL",
	"mount":               "EPERM",
	"umount2":             "EPERM",
	"chroot":              "EPERM",
	"clock_settime":       "EPERM",
	"dup3 over a queue":   "ok",
	"memfd_create":        "ok",
	"recvmmsg on control": "ok",
}

// TestCellWithoutFilter shows what the other layers refuse by themselves, and
// what they do not: a new user namespace, which the filter alone prevents.
func TestCellWithoutFilter(t *testing.T) {
	var plans []childPlan
	for act := range withoutFilter {
		plans = append(plans, plan(ipc.RoleTraffic, buildCell, act))
	}
	for _, o := range runParent(t, startRoot, parentPlan{Children: plans}).Outcomes {
		if !o.Ready || o.Result != withoutFilter[o.Plan.Act] {
			t.Errorf("should be %s: %s", withoutFilter[o.Plan.Act], o)
		}
	}
}
