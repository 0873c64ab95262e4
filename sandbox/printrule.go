package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownID stands for the parent's process and user ids where a list is only shown.
const ownID = 0

var shownIDs = ids{ownID, ownID, ownID}

// word is a value or a bit and what a header calls it.
type word struct {
	value uint64
	name  string
}

// argument is how one argument of a system call is shown.
type argument struct {
	name   string
	values []word // single values
	flags  []word // or bits of it
}

var (
	protection = argument{name: "prot", flags: []word{
		{unix.PROT_READ, "PROT_READ"}, {unix.PROT_WRITE, "PROT_WRITE"}, {unix.PROT_EXEC, "PROT_EXEC"},
	}}
	mapping = argument{name: "flags", flags: []word{
		{unix.MAP_PRIVATE, "MAP_PRIVATE"}, {unix.MAP_SHARED, "MAP_SHARED"},
		{unix.MAP_ANONYMOUS, "MAP_ANONYMOUS"}, {unix.MAP_FIXED, "MAP_FIXED"},
	}}
	advice = argument{name: "advice", values: []word{
		{unix.MADV_DONTNEED, "MADV_DONTNEED"}, {unix.MADV_FREE, "MADV_FREE"}, {unix.MADV_HUGEPAGE, "MADV_HUGEPAGE"},
		{unix.MADV_NOHUGEPAGE, "MADV_NOHUGEPAGE"}, {unix.MADV_COLLAPSE, "MADV_COLLAPSE"},
	}}
	cloning = argument{name: "flags", flags: []word{
		{unix.CLONE_VM, "CLONE_VM"}, {unix.CLONE_FS, "CLONE_FS"}, {unix.CLONE_FILES, "CLONE_FILES"},
		{unix.CLONE_SIGHAND, "CLONE_SIGHAND"}, {unix.CLONE_THREAD, "CLONE_THREAD"},
		{unix.CLONE_SYSVSEM, "CLONE_SYSVSEM"}, {unix.CLONE_SETTLS, "CLONE_SETTLS"},
		{unix.CLONE_NEWUSER, "CLONE_NEWUSER"}, {unix.CLONE_NEWNS, "CLONE_NEWNS"}, {unix.CLONE_NEWPID, "CLONE_NEWPID"},
		{unix.CLONE_NEWNET, "CLONE_NEWNET"}, {unix.CLONE_NEWIPC, "CLONE_NEWIPC"}, {unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
		{unix.CLONE_PIDFD, "CLONE_PIDFD"}, {unix.CLONE_VFORK, "CLONE_VFORK"}, {uint64(unix.SIGCHLD), "SIGCHLD"},
	}}
	opening = argument{name: "flags", values: []word{{unix.O_RDONLY, "O_RDONLY"}}, flags: []word{
		{unix.O_ACCMODE, "O_ACCMODE"}, {unix.O_WRONLY, "O_WRONLY"}, {unix.O_RDWR, "O_RDWR"},
		{unix.O_APPEND, "O_APPEND"}, {unix.O_TRUNC, "O_TRUNC"}, {unix.O_CREAT, "O_CREAT"},
		{unix.O_PATH, "O_PATH"}, {tmpFile, "__O_TMPFILE"},
	}}
	clocks = argument{name: "clock", values: []word{
		{unix.CLOCK_REALTIME, "CLOCK_REALTIME"}, {unix.CLOCK_MONOTONIC, "CLOCK_MONOTONIC"}, {unix.CLOCK_BOOTTIME, "CLOCK_BOOTTIME"},
	}}
	futexes   = argument{name: "op", values: []word{{128, "FUTEX_WAIT_PRIVATE"}, {129, "FUTEX_WAKE_PRIVATE"}}}
	noFile    = argument{name: "fd", values: []word{{0xffffffff, "-1"}}}
	directory = argument{name: "dirfd", values: []word{{0xffffffff & unix.AT_FDCWD, "AT_FDCWD"}}}
	polling   = argument{name: "flags", values: []word{{unix.EPOLL_CLOEXEC, "EPOLL_CLOEXEC"}}}
	watching  = argument{name: "op", values: []word{{unix.EPOLL_CTL_ADD, "EPOLL_CTL_ADD"}, {unix.EPOLL_CTL_DEL, "EPOLL_CTL_DEL"}}}
	duplicate = argument{name: "flags", values: []word{{unix.O_CLOEXEC, "O_CLOEXEC"}}}
	messaging = argument{name: "flags", values: []word{{unix.MSG_DONTWAIT, "MSG_DONTWAIT"}, {unix.MSG_CMSG_CLOEXEC, "MSG_CMSG_CLOEXEC"}}}
	families  = argument{name: "family", values: []word{{unix.AF_UNIX, "AF_UNIX"}, {unix.AF_INET, "AF_INET"}, {unix.AF_INET6, "AF_INET6"}}}
	socketing = argument{name: "type", flags: []word{
		{unix.SOCK_SEQPACKET, "SOCK_SEQPACKET"},                            // before SOCK_STREAM, which is a bit of it
		{unix.SOCK_STREAM, "SOCK_STREAM"}, {unix.SOCK_DGRAM, "SOCK_DGRAM"}, // SOCK_RAW, which is 3, would show as both
		{unix.SOCK_CLOEXEC, "SOCK_CLOEXEC"}, {unix.SOCK_NONBLOCK, "SOCK_NONBLOCK"},
	}}
	level  = argument{name: "level", values: []word{{unix.SOL_SOCKET, "SOL_SOCKET"}}}
	option = argument{name: "option", values: []word{{unix.SO_MARK, "SO_MARK"}, {unix.SO_SNDBUFFORCE, "SO_SNDBUFFORCE"}}}

	// A child's number in its own pid namespace is 1.
	itself   = argument{name: "tgid", values: []word{{ownID, "its own"}, {firstPID, "1, a child's own"}}}
	killed   = argument{name: "pid", values: []word{{firstPID, "1, a child's own"}}}
	killing  = argument{name: "signal", values: []word{{uint64(unix.SIGKILL), "SIGKILL"}}}
	ownUser  = argument{name: "uid", values: []word{{ownID, "its own"}}}
	ownGroup = argument{name: "gid", values: []word{{ownID, "its own"}}}

	controls = argument{name: "option", values: []word{
		{unix.PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"}, {unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"}, {unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"},
		{unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"}, {unix.PR_GET_NO_NEW_PRIVS, "PR_GET_NO_NEW_PRIVS"}, {unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT"},
		{unix.PR_CAPBSET_READ, "PR_CAPBSET_READ"}, {unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"},
		{unix.PR_GET_SECUREBITS, "PR_GET_SECUREBITS"}, {unix.PR_SET_SECUREBITS, "PR_SET_SECUREBITS"},
	}}
	resources = argument{name: "resource", values: []word{
		{unix.RLIMIT_CORE, "RLIMIT_CORE"}, {unix.RLIMIT_NPROC, "RLIMIT_NPROC"}, {unix.RLIMIT_NOFILE, "RLIMIT_NOFILE"},
		{unix.RLIMIT_DATA, "RLIMIT_DATA"}, {unix.RLIMIT_FSIZE, "RLIMIT_FSIZE"},
	}}
	rulesets = argument{name: "flags", values: []word{
		{0, "0"}, {landlockQueryVersion, "LANDLOCK_CREATE_RULESET_VERSION"}, {landlockQueryErrata, "LANDLOCK_CREATE_RULESET_ERRATA"},
	}}
	filtering   = argument{name: "op", values: []word{{unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"}}}
	synchronous = argument{name: "flags", flags: []word{
		{unix.SECCOMP_FILTER_FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"}, {unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"},
	}}
	mounting = argument{name: "flags", flags: []word{
		{unix.MS_RDONLY, "MS_RDONLY"}, {unix.MS_NOSUID, "MS_NOSUID"}, {unix.MS_NODEV, "MS_NODEV"}, {unix.MS_NOEXEC, "MS_NOEXEC"},
		{unix.MS_REC, "MS_REC"}, {unix.MS_PRIVATE, "MS_PRIVATE"},
	}}
	unmounting = argument{name: "flags", values: []word{{unix.MNT_DETACH, "MNT_DETACH"}}}
	commands   = argument{name: "command", values: []word{
		{unix.F_GETFD, "F_GETFD"}, {unix.F_SETFD, "F_SETFD"}, {unix.F_GETFL, "F_GETFL"}, {unix.F_SETFL, "F_SETFL"},
	}}
	eventful     = argument{name: "flags", flags: []word{{unix.EFD_CLOEXEC, "EFD_CLOEXEC"}, {unix.EFD_NONBLOCK, "EFD_NONBLOCK"}}}
	baseRegister = argument{name: "code", values: []word{{0x1002, "ARCH_SET_FS"}}}
	asking       = argument{name: "request", values: []word{{unix.TCGETS, "TCGETS"}}}
	priorities   = argument{name: "which", values: []word{{unix.PRIO_PROCESS, "PRIO_PROCESS"}}}
	policies     = argument{name: "policy", values: []word{{canaryArgument, "SCHED_FIFO"}}}
	shutting     = argument{name: "how", values: []word{{unix.SHUT_RDWR, "SHUT_RDWR"}}}
)

// arguments are those whose number alone would say little. Of the others,
// argument 0 is shown as a descriptor.
var arguments = map[string]map[uint]argument{
	"arch_prctl":              {0: baseRegister},
	"clock_gettime":           {0: clocks},
	"clone":                   {0: cloning},
	"connect":                 {2: {name: "length"}},
	"dup3":                    {0: {name: "oldfd"}, 1: {name: "newfd"}, 2: duplicate},
	"epoll_create1":           {0: polling},
	"epoll_ctl":               {0: {name: "epfd"}, 1: watching},
	"epoll_pwait":             {0: {name: "epfd"}},
	"eventfd2":                {0: {name: "value"}, 1: eventful},
	"fcntl":                   {1: commands},
	"fstatat":                 {0: directory},
	"futex":                   {1: futexes},
	"getpriority":             {0: priorities},
	"ioctl":                   {1: asking},
	"kill":                    {0: killed, 1: killing},
	"landlock_create_ruleset": {1: {name: "size"}, 2: rulesets},
	"landlock_restrict_self":  {1: {name: "flags"}},
	"madvise":                 {2: advice},
	"mmap":                    {2: protection, 3: mapping, 4: noFile},
	"mount":                   {3: mounting},
	"newfstatat":              {0: directory},
	"openat":                  {0: directory, 2: opening},
	"pidfd_send_signal":       {2: {name: "info"}, 3: {name: "flags"}},
	"pipe2":                   {1: duplicate},
	"ppoll":                   {2: {name: "timeout"}, 3: {name: "sigmask"}},
	"prctl":                   {0: controls},
	"prlimit64":               {0: {name: "pid"}, 1: resources},
	"readlinkat":              {0: directory},
	"recvmmsg":                {3: messaging},
	"recvmsg":                 {2: messaging},
	"sched_get_priority_max":  {0: policies},
	"sched_getaffinity":       {0: {name: "pid"}},
	"seccomp":                 {0: filtering, 1: synchronous},
	"sendmsg":                 {2: messaging},
	"setgid":                  {0: ownGroup},
	"setsockopt":              {1: level, 2: option, 4: {name: "length"}},
	"setuid":                  {0: ownUser},
	"shutdown":                {1: shutting},
	"socket":                  {0: families, 1: socketing, 2: {name: "protocol"}},
	"socketpair":              {0: families, 1: socketing, 2: {name: "protocol"}},
	"tgkill":                  {0: itself},
	"umount2":                 {1: unmounting},
	"unshare":                 {0: cloning},
	"wait4":                   {2: {name: "options"}, 3: {name: "rusage"}},
}

func argumentOf(call string, number uint) argument {
	if a, ok := arguments[call][number]; ok {
		return a
	}
	if number == 0 {
		return argument{name: "fd"}
	}
	return argument{name: "argument " + strconv.Itoa(int(number))}
}

func (r *rule) line() SyscallLine {
	l := SyscallLine{Name: r.name, Reason: r.reason, Zero: r.zero}
	for _, c := range r.when {
		l.When = append(l.When, c.text(argumentOf(r.name, c.arg)))
	}
	return l
}

// text says of the argument what must be true.
func (c *condition) text(a argument) string {
	switch c.kind {
	case isOneOf, is64OneOf:
		return a.name + " is " + oneOf(a.shown(c.values))
	case inRange:
		if c.values[0] == c.values[1] {
			return a.name + " is " + a.show(c.values[0])
		}
		return a.name + " is " + a.show(c.values[0]) + " to " + a.show(c.values[1])
	case inRangeOrOneOf:
		return a.name + " is " + oneOf(append(a.shown(c.values[2:]), a.show(c.values[0])+" to "+a.show(c.values[1])))
	case hasOnlyBits:
		return a.name + " has no bit but " + a.show(c.values[0])
	case maskedIs:
		return a.name + " under " + a.show(c.values[0]) + " is " + oneOf(a.shown(c.values[1:]))
	}
	return fmt.Sprintf("%s: condition of kind %d with %#x", a.name, c.kind, c.values)
}

func (a *argument) shown(values []uint64) (texts []string) {
	for _, v := range values {
		texts = append(texts, a.show(v))
	}
	return texts
}

// show is a value as a header would write it. No bit of it is left out.
func (a *argument) show(v uint64) string {
	for _, n := range a.values {
		if n.value == v {
			return n.name
		}
	}
	if a.flags == nil {
		return strconv.FormatUint(v, 10)
	}
	var names []string
	left := v
	for _, f := range a.flags {
		if left&f.value == f.value {
			names, left = append(names, f.name), left&^f.value
		}
	}
	if left != 0 || v == 0 {
		names = append(names, fmt.Sprintf("%#x", left))
	}
	return strings.Join(names, "|")
}

func oneOf(texts []string) string {
	if len(texts) == 1 {
		return texts[0]
	}
	last := len(texts) - 1
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}
