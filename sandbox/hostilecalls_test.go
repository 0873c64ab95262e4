//go:build !race

package sandbox

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// forbidden is what every child dies of, whatever its role.
var forbidden = slices.Concat(singleCalls, processControls())

// swept are forbidden to everybody too, for many values of an argument.
var swept = slices.Concat(sockets(), limits())

var singleCalls = []call{
	{what: "openat", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&passwd[0]), 0}},
	{what: "open the root", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&root[0])}},
	{what: "openat2", trap: unix.SYS_OPENAT2, args: [6]uintptr{minus(100), at(&passwd[0]), at(&scratch), 24}},
	{what: "open_by_handle_at", trap: unix.SYS_OPEN_BY_HANDLE_AT, args: [6]uintptr{minus(100), at(&scratch), 0}},
	{what: "name_to_handle_at", trap: unix.SYS_NAME_TO_HANDLE_AT, args: [6]uintptr{minus(100), at(&passwd[0]), at(&scratch), at(&scratch)}},
	{what: "statx", trap: unix.SYS_STATX, args: [6]uintptr{minus(100), at(&passwd[0]), 0, unix.STATX_BASIC_STATS, at(&scratch)}},
	{what: "fstat", trap: unix.SYS_FSTAT, args: [6]uintptr{ipc.FDControl, at(&scratch)}},
	{what: "statfs", trap: unix.SYS_STATFS, args: [6]uintptr{at(&root[0]), at(&scratch)}},
	{what: "faccessat", trap: unix.SYS_FACCESSAT, args: [6]uintptr{minus(100), at(&passwd[0])}},
	{what: "faccessat2", trap: unix.SYS_FACCESSAT2, args: [6]uintptr{minus(100), at(&passwd[0])}},
	{what: "readlinkat", trap: unix.SYS_READLINKAT, args: [6]uintptr{minus(100), at(&self[0]), at(&scratch), 4096}},
	{what: "mknodat", trap: unix.SYS_MKNODAT, args: [6]uintptr{minus(100), at(&passwd[0]), unix.S_IFREG}},
	{what: "mkdirat", trap: unix.SYS_MKDIRAT, args: [6]uintptr{minus(100), at(&passwd[0])}},
	{what: "linkat", trap: unix.SYS_LINKAT, args: [6]uintptr{minus(100), at(&passwd[0]), minus(100), at(&root[0])}},
	{what: "symlinkat", trap: unix.SYS_SYMLINKAT, args: [6]uintptr{at(&passwd[0]), minus(100), at(&root[0])}},
	{what: "renameat2", trap: unix.SYS_RENAMEAT2, args: [6]uintptr{minus(100), at(&passwd[0]), minus(100), at(&root[0])}},
	{what: "unlinkat", trap: unix.SYS_UNLINKAT, args: [6]uintptr{minus(100), at(&passwd[0])}},
	{what: "fchmodat", trap: unix.SYS_FCHMODAT, args: [6]uintptr{minus(100), at(&passwd[0]), 0o777}},
	{what: "fchownat", trap: unix.SYS_FCHOWNAT, args: [6]uintptr{minus(100), at(&passwd[0])}},
	{what: "truncate", trap: unix.SYS_TRUNCATE, args: [6]uintptr{at(&passwd[0])}},
	{what: "setxattr", trap: unix.SYS_SETXATTR, args: [6]uintptr{at(&passwd[0]), at(&root[0]), at(&scratch), 1}},
	{what: "cachestat", trap: unix.SYS_CACHESTAT, args: [6]uintptr{ipc.FDControl, at(&scratch), at(&scratch)}},
	{what: "socketpair", trap: unix.SYS_SOCKETPAIR, args: [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0, at(&scratch)}},
	{what: "connect", trap: unix.SYS_CONNECT, args: [6]uintptr{ipc.FDControl, at(&address), 12}},
	{what: "bind", trap: unix.SYS_BIND, args: [6]uintptr{ipc.FDControl, at(&address), 12}},
	{what: "setsockopt", trap: unix.SYS_SETSOCKOPT, args: [6]uintptr{ipc.FDControl, unix.SOL_SOCKET, unix.SO_SNDBUF, at(&scratch), 4}},
	{what: "getsockname", trap: unix.SYS_GETSOCKNAME, args: [6]uintptr{ipc.FDControl, at(&scratch), at(&scratch)}},
	{what: "listen", trap: unix.SYS_LISTEN, args: [6]uintptr{ipc.FDControl, 1}},
	{what: "accept4", trap: unix.SYS_ACCEPT4, args: [6]uintptr{ipc.FDControl}},
	{what: "shutdown", trap: unix.SYS_SHUTDOWN, args: [6]uintptr{ipc.FDControl, unix.SHUT_RDWR}},
	{what: "execve", trap: unix.SYS_EXECVE, args: [6]uintptr{at(&self[0])}},
	{what: "execveat", trap: unix.SYS_EXECVEAT, args: [6]uintptr{minus(100), at(&self[0])}},
	{what: "execveat of a descriptor", trap: unix.SYS_EXECVEAT, args: [6]uintptr{ipc.FDControl, at(&scratch), 0, 0, unix.AT_EMPTY_PATH}},
	{what: "a memfd, then execveat", do: executeMemfd},
	{what: "fork", trap: unix.SYS_CLONE, args: [6]uintptr{uintptr(unix.SIGCHLD)}},
	{what: "clone newuser", trap: unix.SYS_CLONE, args: [6]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}},
	{what: "clone a thread and newuser", trap: unix.SYS_CLONE, args: [6]uintptr{uintptr(native.clone) | unix.CLONE_NEWUSER}},
	{what: "clone a thread, high bits", trap: unix.SYS_CLONE, args: [6]uintptr{uintptr(native.clone) | 1<<40}},
	{what: "clone3", trap: unix.SYS_CLONE3, args: [6]uintptr{at(&scratch), 64}},
	{what: "unshare newuser", trap: unix.SYS_UNSHARE, args: [6]uintptr{unix.CLONE_NEWUSER}},
	{what: "unshare files", trap: unix.SYS_UNSHARE, args: [6]uintptr{unix.CLONE_FILES}},
	{what: "setns", trap: unix.SYS_SETNS, args: [6]uintptr{ipc.FDControl, 0}},
	{what: "setns by pidfd", trap: unix.SYS_SETNS, args: [6]uintptr{ipc.FDControl, unix.CLONE_NEWUSER | unix.CLONE_NEWNET}},
	{what: "kcmp", trap: unix.SYS_KCMP, args: [6]uintptr{1, 1, 0}},
	{what: "ptrace", trap: unix.SYS_PTRACE, args: [6]uintptr{unix.PTRACE_TRACEME}},
	{what: "process_vm_readv", trap: unix.SYS_PROCESS_VM_READV, args: [6]uintptr{1}},
	{what: "process_vm_writev", trap: unix.SYS_PROCESS_VM_WRITEV, args: [6]uintptr{1}},
	{what: "process_madvise", trap: unix.SYS_PROCESS_MADVISE, args: [6]uintptr{ipc.FDControl, at(&scratch), 1, unix.MADV_COLD}},
	{what: "process_mrelease", trap: unix.SYS_PROCESS_MRELEASE, args: [6]uintptr{ipc.FDControl}},
	{what: "kill another", trap: unix.SYS_KILL, args: [6]uintptr{4000, uintptr(unix.SIGTERM)}},
	{what: "kill everybody", trap: unix.SYS_KILL, args: [6]uintptr{minus(1), uintptr(unix.SIGTERM)}},
	{what: "tgkill another", trap: unix.SYS_TGKILL, args: [6]uintptr{2, 2, 0}},
	{what: "tkill", trap: unix.SYS_TKILL, args: [6]uintptr{1, 0}},
	{what: "pidfd_open", trap: unix.SYS_PIDFD_OPEN, args: [6]uintptr{1}},
	{what: "pidfd_getfd", trap: unix.SYS_PIDFD_GETFD, args: [6]uintptr{ipc.FDControl, 0}},
	{what: "pidfd_send_signal", trap: unix.SYS_PIDFD_SEND_SIGNAL, args: [6]uintptr{ipc.FDControl, uintptr(unix.SIGTERM)}},
	{what: "rt_sigqueueinfo", trap: unix.SYS_RT_SIGQUEUEINFO, args: [6]uintptr{4000, uintptr(unix.SIGTERM), at(&scratch)}},
	{what: "rt_tgsigqueueinfo", trap: unix.SYS_RT_TGSIGQUEUEINFO, args: [6]uintptr{4000, 4000, uintptr(unix.SIGTERM), at(&scratch)}},
	{what: "setsid", trap: unix.SYS_SETSID},
	{what: "setpgid", trap: unix.SYS_SETPGID, args: [6]uintptr{0, 4000}},
	{what: "mmap executable", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 0xffffffff}},
	{what: "mmap writable and executable", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 0xffffffff}},
	{what: "mmap at a fixed place, executable", trap: unix.SYS_MMAP, args: [6]uintptr{at(&scratch), 4096, unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED, 0xffffffff}},
	{what: "mmap shared", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, unix.PROT_READ, unix.MAP_SHARED | unix.MAP_ANONYMOUS, 0xffffffff}},
	{what: "mmap a descriptor", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, ipc.FDControl}},
	{what: "mmap anonymous with a descriptor", trap: unix.SYS_MMAP, args: [6]uintptr{0, 4096, 1, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, ipc.FDControl}},
	{what: "mprotect", trap: unix.SYS_MPROTECT, args: [6]uintptr{at(&scratch), 4096, unix.PROT_READ | unix.PROT_EXEC}},
	{what: "mremap", trap: unix.SYS_MREMAP, args: [6]uintptr{at(&scratch), 4096, 8192}},
	{what: "memfd_create", trap: unix.SYS_MEMFD_CREATE, args: [6]uintptr{at(&root[0])}},
	{what: "memfd_secret", trap: unix.SYS_MEMFD_SECRET, args: [6]uintptr{0}},
	{what: "shmget", trap: unix.SYS_SHMGET, args: [6]uintptr{0, 4096, 0o600}},
	{what: "shmat", trap: unix.SYS_SHMAT, args: [6]uintptr{0}},
	{what: "semget", trap: unix.SYS_SEMGET, args: [6]uintptr{0, 1, 0o600}},
	{what: "msgget", trap: unix.SYS_MSGGET, args: [6]uintptr{0, 0o600}},
	{what: "mq_open", trap: unix.SYS_MQ_OPEN, args: [6]uintptr{at(&passwd[0]), 0}},
	{what: "mlock", trap: unix.SYS_MLOCK, args: [6]uintptr{at(&scratch), 4096}},
	{what: "mlockall", trap: unix.SYS_MLOCKALL, args: [6]uintptr{1}},
	{what: "remap_file_pages", trap: unix.SYS_REMAP_FILE_PAGES, args: [6]uintptr{at(&scratch), 4096}},
	{what: "pkey_mprotect", trap: unix.SYS_PKEY_MPROTECT, args: [6]uintptr{at(&scratch), 4096, unix.PROT_READ | unix.PROT_EXEC, minus(1)}},
	{what: "set_mempolicy", trap: unix.SYS_SET_MEMPOLICY, args: [6]uintptr{0}},
	{what: "mbind", trap: unix.SYS_MBIND, args: [6]uintptr{at(&scratch), 4096, 0}},
	{what: "move_pages", trap: unix.SYS_MOVE_PAGES, args: [6]uintptr{0, 0}},
	{what: "membarrier", trap: unix.SYS_MEMBARRIER, args: [6]uintptr{0}},
	{what: "rseq", trap: unix.SYS_RSEQ, args: [6]uintptr{at(&scratch), 32, 0, 0}},
	{what: "set_robust_list", trap: unix.SYS_SET_ROBUST_LIST, args: [6]uintptr{at(&scratch), 24}},
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
	{what: "pwrite64", trap: unix.SYS_PWRITE64, args: [6]uintptr{ipc.FDControl, at(&scratch), 1}},
	{what: "sendfile", trap: unix.SYS_SENDFILE, args: [6]uintptr{ipc.FDControl, ipc.FDControl, 0, 1}},
	{what: "splice", trap: unix.SYS_SPLICE, args: [6]uintptr{ipc.FDControl, 0, ipc.FDControl, 0, 1}},
	{what: "tee", trap: unix.SYS_TEE, args: [6]uintptr{ipc.FDControl, ipc.FDControl, 1}},
	{what: "vmsplice", trap: unix.SYS_VMSPLICE, args: [6]uintptr{ipc.FDControl, at(&scratch), 1}},
	{what: "copy_file_range", trap: unix.SYS_COPY_FILE_RANGE, args: [6]uintptr{ipc.FDControl, 0, ipc.FDControl, 0, 1}},
	{what: "read on standard error", trap: unix.SYS_READ, args: [6]uintptr{ipc.FDStderr, at(&scratch), 1}},
	{what: "read a queue", trap: unix.SYS_READ, args: [6]uintptr{ipc.FDQueues, at(&scratch), 1}},
	{what: "read 202, the number of futex", trap: unix.SYS_READ, args: [6]uintptr{202, at(&scratch), 1}},
	{what: "read 9, the number of mmap", trap: unix.SYS_READ, args: [6]uintptr{9, at(&scratch), 1}},
	{what: "recvmsg beside control", trap: unix.SYS_RECVMSG, args: [6]uintptr{ipc.FDGrants, at(&scratch), unix.MSG_DONTWAIT}},
	{what: "recvmmsg on control", trap: unix.SYS_RECVMMSG, args: [6]uintptr{ipc.FDControl, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "recvmmsg behind the queues", trap: unix.SYS_RECVMMSG, args: [6]uintptr{ipc.FDQueues + 3, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "recvfrom", trap: unix.SYS_RECVFROM, args: [6]uintptr{ipc.FDControl, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "recvmsg with other flags", trap: unix.SYS_RECVMSG, args: [6]uintptr{ipc.FDControl, at(&scratch), unix.MSG_DONTWAIT}},
	{what: "recvmmsg with other flags", trap: unix.SYS_RECVMMSG, args: [6]uintptr{ipc.FDQueues, at(&scratch), 1, unix.MSG_DONTWAIT | unix.MSG_PEEK}},
	{what: "readv", trap: unix.SYS_READV, args: [6]uintptr{ipc.FDControl, at(&scratch), 1}},
	{what: "epoll_pwait elsewhere", trap: unix.SYS_EPOLL_PWAIT, args: [6]uintptr{ipc.FDControl, at(&scratch), 1}},
	{what: "epoll_pwait2", trap: unix.SYS_EPOLL_PWAIT2, args: [6]uintptr{ipc.FDPoll, at(&scratch), 1}},
	{what: "epoll_create1, inheritable", trap: unix.SYS_EPOLL_CREATE1, args: [6]uintptr{0}},
	{what: "epoll_ctl on the runtime's poller", trap: unix.SYS_EPOLL_CTL, args: [6]uintptr{fdRuntimePoll, unix.EPOLL_CTL_ADD, ipc.FDControl, at(&scratch)}},
	{what: "epoll_ctl modifies", trap: unix.SYS_EPOLL_CTL, args: [6]uintptr{ipc.FDPoll, unix.EPOLL_CTL_MOD, ipc.FDControl, at(&scratch)}},
	{what: "ppoll", trap: unix.SYS_PPOLL, args: [6]uintptr{at(&scratch), 0}},
	{what: "pselect6", trap: unix.SYS_PSELECT6, args: [6]uintptr{0}},
	{what: "pipe2", trap: unix.SYS_PIPE2, args: [6]uintptr{at(&scratch)}},
	{what: "eventfd2", trap: unix.SYS_EVENTFD2, args: [6]uintptr{0}},
	{what: "signalfd4", trap: unix.SYS_SIGNALFD4, args: [6]uintptr{minus(1), at(&scratch), 8}},
	{what: "timerfd_create", trap: unix.SYS_TIMERFD_CREATE, args: [6]uintptr{0}},
	{what: "inotify_init1", trap: unix.SYS_INOTIFY_INIT1, args: [6]uintptr{0}},
	{what: "fanotify_init", trap: unix.SYS_FANOTIFY_INIT, args: [6]uintptr{0}},
	{what: "dup", trap: unix.SYS_DUP, args: [6]uintptr{ipc.FDControl}},
	{what: "dup3 over control", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDStderr, ipc.FDControl}},
	{what: "dup3 of a queue over the log", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDQueues, ipc.FDLog, unix.O_CLOEXEC}},
	{what: "dup3 of an edge over the log", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDGrants, ipc.FDLog, unix.O_CLOEXEC}},
	{what: "close of control", trap: unix.SYS_CLOSE, args: [6]uintptr{ipc.FDControl}},
	{what: "dup3 over a queue", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDControl, ipc.FDQueues}},
	{what: "fcntl", trap: unix.SYS_FCNTL, args: [6]uintptr{ipc.FDControl, unix.F_GETFL}},
	{what: "ioctl", trap: unix.SYS_IOCTL, args: [6]uintptr{ipc.FDControl, unix.TIOCINQ, at(&scratch)}},
	{what: "ioctl TIOCSTI", trap: unix.SYS_IOCTL, args: [6]uintptr{ipc.FDStderr, unix.TIOCSTI, at(&scratch)}},
	{what: "ioctl TIOCSTI, high bits", trap: unix.SYS_IOCTL, args: [6]uintptr{ipc.FDStderr, unix.TIOCSTI | 1<<32, at(&scratch)}},
	{what: "close_range", trap: unix.SYS_CLOSE_RANGE, args: [6]uintptr{0, 100}},
	{what: "prctl", trap: unix.SYS_PRCTL, args: [6]uintptr{unix.PR_SET_DUMPABLE, 1}},
	{what: "seccomp", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_GET_ACTION_AVAIL, 0, at(&scratch)}},
	{what: "seccomp, another filter", trap: unix.SYS_SECCOMP, args: [6]uintptr{unix.SECCOMP_SET_MODE_FILTER, 0, at(&scratch)}},
	{what: "landlock_restrict_self", trap: unix.SYS_LANDLOCK_RESTRICT_SELF, args: [6]uintptr{ipc.FDControl}},
	{what: "capset", trap: unix.SYS_CAPSET, args: [6]uintptr{at(&scratch), at(&scratch)}},
	{what: "capget", trap: unix.SYS_CAPGET, args: [6]uintptr{at(&scratch), at(&scratch)}},
	{what: "setuid", trap: unix.SYS_SETUID, args: [6]uintptr{0}},
	{what: "setgid", trap: unix.SYS_SETGID, args: [6]uintptr{0}},
	{what: "setresuid", trap: unix.SYS_SETRESUID, args: [6]uintptr{0, 0, 0}},
	{what: "setresgid", trap: unix.SYS_SETRESGID, args: [6]uintptr{0, 0, 0}},
	{what: "setgroups", trap: unix.SYS_SETGROUPS, args: [6]uintptr{0, at(&scratch)}},
	{what: "setfsuid", trap: unix.SYS_SETFSUID, args: [6]uintptr{0}},
	{what: "prlimit", trap: unix.SYS_PRLIMIT64, args: [6]uintptr{0, unix.RLIMIT_NOFILE, 0, at(&scratch)}},
	{what: "setpriority", trap: unix.SYS_SETPRIORITY, args: [6]uintptr{0, 0, 0}},
	{what: "sched_setaffinity", trap: unix.SYS_SCHED_SETAFFINITY, args: [6]uintptr{0, 8, at(&scratch)}},
	{what: "sched_setscheduler", trap: unix.SYS_SCHED_SETSCHEDULER, args: [6]uintptr{0, 1, at(&scratch)}},
	{what: "sched_setattr", trap: unix.SYS_SCHED_SETATTR, args: [6]uintptr{0, at(&scratch)}},
	{what: "ioprio_set", trap: unix.SYS_IOPRIO_SET, args: [6]uintptr{1, 0, 0}},
	{what: "personality", trap: unix.SYS_PERSONALITY, args: [6]uintptr{0x0400000}},
	{what: "mount", trap: unix.SYS_MOUNT, args: [6]uintptr{at(&root[0]), at(&root[0])}},
	{what: "umount2", trap: unix.SYS_UMOUNT2, args: [6]uintptr{at(&root[0]), unix.MNT_DETACH}},
	{what: "pivot_root", trap: unix.SYS_PIVOT_ROOT, args: [6]uintptr{at(&root[0]), at(&root[0])}},
	{what: "fsopen", trap: unix.SYS_FSOPEN, args: [6]uintptr{at(&root[0]), 0}},
	{what: "fsmount", trap: unix.SYS_FSMOUNT, args: [6]uintptr{ipc.FDControl, 0}},
	{what: "open_tree", trap: unix.SYS_OPEN_TREE, args: [6]uintptr{minus(100), at(&root[0]), unix.OPEN_TREE_CLONE}},
	{what: "move_mount", trap: unix.SYS_MOVE_MOUNT, args: [6]uintptr{ipc.FDControl, at(&root[0]), minus(100), at(&root[0])}},
	{what: "mount_setattr", trap: unix.SYS_MOUNT_SETATTR, args: [6]uintptr{minus(100), at(&root[0]), 0, at(&scratch), 32}},
	{what: "statmount", trap: unix.SYS_STATMOUNT, args: [6]uintptr{at(&scratch), at(&scratch), 4096, 0}},
	{what: "chroot", trap: unix.SYS_CHROOT, args: [6]uintptr{at(&root[0])}},
	{what: "chdir", trap: unix.SYS_CHDIR, args: [6]uintptr{at(&root[0])}},
	{what: "getdents64", trap: unix.SYS_GETDENTS64, args: [6]uintptr{ipc.FDControl, at(&scratch), 4096}},
	{what: "syslog", trap: unix.SYS_SYSLOG, args: [6]uintptr{10}},
	{what: "finit_module", trap: unix.SYS_FINIT_MODULE, args: [6]uintptr{ipc.FDControl, at(&root[0]), 0}},
	{what: "init_module", trap: unix.SYS_INIT_MODULE, args: [6]uintptr{at(&scratch), 0, at(&root[0])}},
	{what: "delete_module", trap: unix.SYS_DELETE_MODULE, args: [6]uintptr{at(&root[0]), 0}},
	{what: "kexec_load", trap: unix.SYS_KEXEC_LOAD, args: [6]uintptr{0, 0, at(&scratch)}},
	{what: "kexec_file_load", trap: unix.SYS_KEXEC_FILE_LOAD, args: [6]uintptr{ipc.FDControl, ipc.FDControl}},
	{what: "reboot", trap: unix.SYS_REBOOT, args: [6]uintptr{0}},
	{what: "swapon", trap: unix.SYS_SWAPON, args: [6]uintptr{at(&passwd[0]), 0}},
	{what: "swapoff", trap: unix.SYS_SWAPOFF, args: [6]uintptr{at(&passwd[0])}},
	{what: "acct", trap: unix.SYS_ACCT, args: [6]uintptr{at(&passwd[0])}},
	{what: "quotactl", trap: unix.SYS_QUOTACTL, args: [6]uintptr{0, at(&passwd[0])}},
	{what: "sethostname", trap: unix.SYS_SETHOSTNAME, args: [6]uintptr{at(&root[0]), 1}},
	{what: "vhangup", trap: unix.SYS_VHANGUP},
	{what: "bpf", trap: unix.SYS_BPF, args: [6]uintptr{0, at(&scratch), 64}},
	{what: "perf_event_open", trap: unix.SYS_PERF_EVENT_OPEN, args: [6]uintptr{at(&scratch)}},
	{what: "io_uring_setup", trap: unix.SYS_IO_URING_SETUP, args: [6]uintptr{1, at(&scratch)}},
	{what: "io_uring_enter", trap: unix.SYS_IO_URING_ENTER, args: [6]uintptr{ipc.FDControl, 1}},
	{what: "io_uring_register", trap: unix.SYS_IO_URING_REGISTER, args: [6]uintptr{ipc.FDControl, 0}},
	{what: "io_setup", trap: unix.SYS_IO_SETUP, args: [6]uintptr{1, at(&scratch)}},
	{what: "userfaultfd", trap: unix.SYS_USERFAULTFD, args: [6]uintptr{1}},
	{what: "keyctl", trap: unix.SYS_KEYCTL, args: [6]uintptr{0}},
	{what: "request_key", trap: unix.SYS_REQUEST_KEY, args: [6]uintptr{at(&root[0]), at(&root[0])}},
	{what: "add_key", trap: unix.SYS_ADD_KEY, args: [6]uintptr{at(&root[0])}},
	{what: "landlock", trap: unix.SYS_LANDLOCK_CREATE_RULESET, args: [6]uintptr{0, 0, 1}},
	{what: "clock_settime", trap: unix.SYS_CLOCK_SETTIME, args: [6]uintptr{0, at(&scratch)}},
	{what: "clock_adjtime", trap: unix.SYS_CLOCK_ADJTIME, args: [6]uintptr{0, at(&scratch)}},
	{what: "settimeofday", trap: unix.SYS_SETTIMEOFDAY, args: [6]uintptr{at(&scratch), 0}},
	{what: "setitimer", trap: unix.SYS_SETITIMER, args: [6]uintptr{0, at(&scratch)}},
	{what: "timer_create", trap: unix.SYS_TIMER_CREATE, args: [6]uintptr{0, 0, at(&scratch)}},
	{what: "clock_gettime of a process", trap: unix.SYS_CLOCK_GETTIME, args: [6]uintptr{unix.CLOCK_PROCESS_CPUTIME_ID, at(&scratch)}},
	{what: "getrandom", trap: unix.SYS_GETRANDOM, args: [6]uintptr{at(&scratch), 1}},
	{what: "futex_waitv", trap: unix.SYS_FUTEX_WAITV, args: [6]uintptr{at(&scratch), 0}},
	{what: "a futex shared with others", trap: unix.SYS_FUTEX, args: [6]uintptr{at(&scratch), 1, 1}},
	{what: "futex requeue", trap: unix.SYS_FUTEX, args: [6]uintptr{at(&scratch), 3 | 128, 1}},
	{what: "no such call", trap: 1000, args: [6]uintptr{}},
}

// sockets are of every family there is, and some more, and of every type.
func sockets() (calls []call) {
	const packet = 10 // SOCK_PACKET
	for family := range uintptr(unix.AF_MAX + 2) {
		for _, kind := range []uintptr{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_RDM, unix.SOCK_SEQPACKET, unix.SOCK_DCCP, packet} {
			calls = append(calls, call{what: fmt.Sprintf("socket of family %d, type %d", family, kind),
				trap: unix.SYS_SOCKET, args: [6]uintptr{family, kind | unix.SOCK_CLOEXEC}})
		}
	}
	return calls
}

var unlimited = unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}

// limits raises each resource limit, by both calls there are.
func limits() (calls []call) {
	for resource := range uintptr(16) { // RLIM_NLIMITS
		calls = append(calls,
			call{what: fmt.Sprintf("prlimit %d up", resource), trap: unix.SYS_PRLIMIT64, args: [6]uintptr{0, resource, at(&unlimited)}},
			call{what: fmt.Sprintf("setrlimit %d up", resource), trap: unix.SYS_SETRLIMIT, args: [6]uintptr{resource, at(&unlimited)}})
	}
	return calls
}

// processControls are the options of prctl that would widen something, or
// take a lock away.
func processControls() (calls []call) {
	for _, o := range []struct {
		what string
		args [6]uintptr
	}{
		{"PR_SET_KEEPCAPS", [6]uintptr{unix.PR_SET_KEEPCAPS, 1}},
		{"PR_CAP_AMBIENT raise", [6]uintptr{unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_ADMIN}},
		{"PR_SET_NO_NEW_PRIVS off", [6]uintptr{unix.PR_SET_NO_NEW_PRIVS, 0}},
		{"PR_SET_SECUREBITS", [6]uintptr{unix.PR_SET_SECUREBITS, 0}},
		{"PR_SET_PTRACER", [6]uintptr{unix.PR_SET_PTRACER, minus(1)}},
		{"PR_SET_SECCOMP", [6]uintptr{unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_STRICT}},
		{"PR_SET_MM", [6]uintptr{unix.PR_SET_MM, unix.PR_SET_MM_EXE_FILE, ipc.FDControl}},
		{"PR_SET_CHILD_SUBREAPER", [6]uintptr{unix.PR_SET_CHILD_SUBREAPER, 1}},
		{"PR_SET_PDEATHSIG off", [6]uintptr{unix.PR_SET_PDEATHSIG, 0}},
		{"PR_SET_TSC", [6]uintptr{unix.PR_SET_TSC, unix.PR_TSC_ENABLE}},
		{"PR_SET_SPECULATION_CTRL", [6]uintptr{unix.PR_SET_SPECULATION_CTRL, 0, unix.PR_SPEC_ENABLE}},
		{"PR_SET_NAME", [6]uintptr{unix.PR_SET_NAME, at(&self[0])}},
		{"PR_SET_VMA", [6]uintptr{unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, at(&scratch), 4096, at(&self[0])}},
	} {
		calls = append(calls, call{what: "prctl " + o.what, trap: unix.SYS_PRCTL, args: o.args})
	}
	return calls
}

// executeMemfd executes the program itself from memory.
func executeMemfd() {
	fd, _, _ := unix.RawSyscall(unix.SYS_MEMFD_CREATE, at(&self[0]), 0, 0)
	_, _, _ = unix.RawSyscall6(unix.SYS_EXECVEAT, fd, at(&scratch), 0, 0, unix.AT_EMPTY_PATH, 0)
}
