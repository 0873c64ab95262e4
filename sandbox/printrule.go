package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownPID stands for the parent's process id where a list is only shown.
const ownPID = 0

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
	}}
	opening = argument{name: "flags", values: []word{{unix.O_RDONLY, "O_RDONLY"}}, flags: []word{
		{unix.O_ACCMODE, "O_ACCMODE"}, {unix.O_WRONLY, "O_WRONLY"}, {unix.O_RDWR, "O_RDWR"},
		{unix.O_APPEND, "O_APPEND"}, {unix.O_TRUNC, "O_TRUNC"},
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
	families  = argument{name: "family", values: []word{{unix.AF_INET, "AF_INET"}, {unix.AF_INET6, "AF_INET6"}}}
	socketing = argument{name: "type", flags: []word{
		{unix.SOCK_STREAM, "SOCK_STREAM"}, {unix.SOCK_DGRAM, "SOCK_DGRAM"}, // SOCK_RAW, which is 3, would show as both
		{unix.SOCK_CLOEXEC, "SOCK_CLOEXEC"}, {unix.SOCK_NONBLOCK, "SOCK_NONBLOCK"},
	}}
	level  = argument{name: "level", values: []word{{unix.SOL_SOCKET, "SOL_SOCKET"}}}
	option = argument{name: "option", values: []word{{unix.SO_MARK, "SO_MARK"}}}
	itself = argument{name: "tgid", values: []word{{ownPID, "its own"}, {1, "1, its own"}}}
)

// arguments are those whose number alone would say little. Of the others,
// argument 0 is shown as a descriptor.
var arguments = map[string]map[uint]argument{
	"clock_gettime": {0: clocks},
	"clone":         {0: cloning},
	"dup3":          {0: {name: "oldfd"}, 1: {name: "newfd"}, 2: duplicate},
	"epoll_create1": {0: polling},
	"epoll_ctl":     {0: {name: "epfd"}, 1: watching},
	"epoll_pwait":   {0: {name: "epfd"}},
	"futex":         {1: futexes},
	"madvise":       {2: advice},
	"mmap":          {2: protection, 3: mapping, 4: noFile},
	"openat":        {0: directory, 2: opening},
	"ppoll":         {2: {name: "timeout"}, 3: {name: "sigmask"}},
	"recvmmsg":      {3: messaging},
	"recvmsg":       {2: messaging},
	"sendmsg":       {2: messaging},
	"setsockopt":    {1: level, 2: option, 4: {name: "length"}},
	"socket":        {0: families, 1: socketing, 2: {name: "protocol"}},
	"tgkill":        {0: itself},
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
