package sandbox

import (
	"errors"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// flaw is a way in which a cell is not what it should be.
type flaw struct {
	of      ipc.Role          // whose, if not the request parser's
	notOwn  uintptr           // namespaces that the child is not given
	asRoot  bool              // its one id is mapped to 0
	ahead   bool              // it is started by a thread that does not stand behind
	open    bool              // it takes calls that its parent's list has not
	unheard bool              // it needs a parent without no_new_privs
	without []string          // steps that are left out
	instead map[string]string // steps that are replaced, by the name of a replacement
	last    func() error      // done before the filter is loaded
}

// selfTests would notice most flaws.
var selfTests = []string{"self-test: descriptors", "self-test: capabilities", "self-test: no_new_privs", "self-test: cell", "self-test: seccomp"}

// lock is how a parent locks itself that can still start such a child.
func (f flaw) lock() locking {
	switch {
	case f.unheard:
		return lockLast
	case f.open:
		return lockOpen
	}
	return lockFirst
}

var flaws = map[string]flaw{
	"flaw: no filter":              {without: []string{"seccomp"}},
	"flaw: filter on one thread":   {open: true, instead: map[string]string{"seccomp": "seccomp"}},
	"flaw: shared net":             {open: true, notOwn: unix.CLONE_NEWNET},
	"flaw: shared ipc and uts":     {open: true, notOwn: unix.CLONE_NEWIPC | unix.CLONE_NEWUTS},
	"flaw: mapped as root":         {open: true, asRoot: true, without: []string{"user namespace"}},
	"flaw: not behind":             {ahead: true},
	"flaw: capabilities":           {without: []string{"capset"}},
	"flaw: capabilities on others": {instead: map[string]string{"capset": "capset"}},
	"flaw: inheritable":            {instead: map[string]string{"capset": "inheritable"}},
	"flaw: bounding set":           {without: []string{"bounding set"}},
	"flaw: limit":                  {last: func() error { return unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 31, Max: 31}) }},
	"flaw: soft limit":             {last: func() error { return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: 400 << 20, Max: 512 << 20}) }},
	"flaw: no_new_privs on a few":  {unheard: true, without: []string{"seccomp"}, instead: map[string]string{"no_new_privs": "no_new_privs"}},
	"flaw: dumpable":               {without: []string{"dumpable"}},
	"flaw: root":                   {without: []string{"empty root", "pivot_root", "old root"}},
	"flaw: one descriptor more":    {last: func() error { return unix.Dup3(ipc.FDControl, 10, unix.O_CLOEXEC) }},
	"flaw: one descriptor less":    {last: func() error { return unix.Close(ipc.FDRequests) }},
	"flaw: another kind":           {last: func() error { return unix.Dup3(fdRuntimeEvent, ipc.FDQueues+1, unix.O_CLOEXEC) }},
	"flaw: no poller, but an edge": {last: func() error { return unix.Dup3(ipc.FDRequests, ipc.FDPoll, unix.O_CLOEXEC) }},
	"flaw: no socket":              {of: ipc.RoleResolver, last: func() error { return unix.Dup3(fdRuntimeEvent, ipc.FDSockets+1, unix.O_CLOEXEC) }},
	"flaw: an epoll that landed":   {of: ipc.RoleResolver, last: func() error { return unix.Dup3(fdRuntimePoll, resolverLanding, unix.O_CLOEXEC) }},
	"flaw: before the sockets":     {of: ipc.RoleResolver, last: func() error { return unix.Dup3(ipc.FDControl, ipc.FDSockets-1, unix.O_CLOEXEC) }},
	"flaw: behind the sockets":     {of: ipc.RoleResolver, last: func() error { return unix.Dup3(ipc.FDControl, ipc.FDSockets+ipc.MaxLookups, unix.O_CLOEXEC) }},
	"flaw: no lookups":             {of: ipc.RoleResolver, last: func() error { return unix.Close(ipc.FDLookups) }},
	buildSockets:                   {of: ipc.RoleResolver, last: openSockets},
}

// buildSockets is no flaw: a resolver with five sockets, and one that has just
// landed.
const buildSockets = "sockets"

func openSockets() (err error) {
	for _, fd := range []int{resolverLanding, ipc.FDSockets, ipc.FDSockets + 1, ipc.FDSockets + 2, ipc.FDSockets + 3, ipc.FDSockets + ipc.MaxLookups - 1} {
		err = errors.Join(err, unix.Dup3(ipc.FDControl, fd, unix.O_CLOEXEC))
	}
	return err
}

// roleOf is whose cell is built so.
func roleOf(build string) ipc.Role {
	if of := flaws[build].of; of != "" {
		return of
	}
	return ipc.RoleRequests
}

// replacement does a step on the calling thread alone, or wrongly.
func replacement(name string) func() error {
	return map[string]func() error{
		"no_new_privs": func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
		"inheritable": func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			data := [2]unix.CapUserData{{Inheritable: 1 << unix.CAP_SETPCAP}}
			_, err := onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0, 0, 0)
			return err
		},
		"capset": func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			return unix.Capset(&header, &none[0])
		},
		"seccomp": allowEverythingHere,
	}[name]
}

// allowEverythingHere puts a filter on the calling thread alone.
func allowEverythingHere() error {
	filter := unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}
	prog := unix.SockFprog{Len: 1, Filter: &filter}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}

// enterFlawed is Enter with a flaw.
func enterFlawed(f flaw, c childPlan) error {
	runtime.LockOSThread()
	p, err := profileOf(c.Role, c.Queues)
	if err != nil {
		return err
	}
	var steps []step
	for _, s := range append(p.cell(), p.lock()...) {
		if slices.Contains(f.without, s.name) || slices.Contains(selfTests, s.name) {
			continue
		}
		if s.name == "seccomp" && f.last != nil {
			steps = append(steps, plain("flaw", f.last))
		}
		if name, ok := f.instead[s.name]; ok {
			s.do = replacement(name)
		}
		steps = append(steps, s)
	}
	return run(steps, childFault)
}

// dropPrivileges is DropPrivileges, or what it does but for one step.
func dropPrivileges(p parentPlan) (uid, gid int, err error) {
	if !p.Flawed {
		return DropPrivileges(p.User, nil)
	}
	steps := append(leaveRoot(testUID, testUID), keepNetAdminOnly(testUID, testUID, true)...)
	steps = slices.DeleteFunc(steps, func(s step) bool { return s.name == "no_new_privs" || s.name == "read back" })
	return testUID, testUID, run(steps, parentFault)
}
