package sandbox

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaces are those a child is born into. The cgroup namespace is not
// among them: the empty root hides cgroups already, and the service's unit
// need not allow it.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS |
	unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// ChildAttr is what the parent gives to os.StartProcess for a child that will
// call Enter. uid and gid are those DropPrivileges returned.
//
// The one id is mapped to itself and not to 0: an exec by a mapped root would
// get every capability, and /proc/CHILD would open to every process of the
// same host uid. (Other ways in are open to those all the same: see
// SetDumpable.) Two ambient capabilities build the cell, and Enter drops
// them; they count in the child's own user namespace only.
//
// NB: the parent must spawn from a thread that lives as long as it does (a
// goroutine locked with runtime.LockOSThread), and after DropPrivileges: Pdeathsig
// fires when the spawning thread ends, and is not delivered by a parent that has
// since become a user who may not signal the child. See also StandBehind.
//
// NB: a parent without root must be dumpable while it spawns (SetDumpable),
// or the kernel refuses it the child's uid_map.
//
// With shared namespaces it gets nothing but its ids: see Shared.
func ChildAttr(uid, gid int, in Isolation) *syscall.SysProcAttr {
	if in == Shared {
		return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	}
	return &syscall.SysProcAttr{
		Cloneflags:                 namespaces,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		GidMappingsEnableSetgroups: false,
		Credential:                 &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true},
		AmbientCaps:                []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP},
		Pdeathsig:                  syscall.SIGKILL,
		Setsid:                     true,
	}
}
