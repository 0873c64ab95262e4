package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// ProbeWord is the one argument of a process that only tries whether a cell
// can be built here.
const ProbeWord = "namespaces-probe"

// stepMounts is the first step for which a child needs the capabilities that
// its user namespace shall have given it.
const stepMounts = "private mounts"

// WithoutCapabilities reports whether the last words of a child say that its
// user namespace gave it none. It is for a hint to people and nothing else.
func WithoutCapabilities(words string) bool { return strings.Contains(words, ": "+stepMounts+": ") }

// Probe is that process; it returns the exit status.
func Probe() int {
	if err := run([]step{
		plain("pid namespace", firstProcess), // NB: before anything is mounted
		plain("user namespace", ownUserNamespace),
		plain(stepMounts, privateMounts),
	}, childFault); err != nil {
		return exit.Code(err)
	}
	return 0
}

// ProbeNamespaces tries whether children of this process, with these ids, can
// have namespaces of their own, and capabilities in them: some hosts give the
// first without the second. With an error it says whether they are forbidden,
// or the try failed for another reason. NB: on the thread that
// starts children, while SetDumpable.
func ProbeNamespaces(uid, gid int) (forbidden bool, err error) {
	const noFile = ^uintptr(0)
	pid, _, err := syscall.StartProcess("/proc/self/exe", []string{"egress-eddie", ProbeWord},
		&syscall.ProcAttr{Env: []string{}, Files: []uintptr{noFile, noFile, noFile}, Sys: ChildAttr(uid, gid, Isolated)})
	if err != nil {
		return forbids(err), fmt.Errorf("a process in namespaces of its own: %w", err)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, os.NewSyscallError("wait4", err)
		}
		break
	}
	if status.Exited() && status.ExitStatus() == 0 {
		return false, nil
	}
	return status.Exited() && status.ExitStatus() == exit.Unavailable,
		fmt.Errorf("no capabilities in namespaces of its own: wait status %#x", int(status))
}

// forbids reports whether an error of clone says that namespaces are not to
// be had here (clone(2), user_namespaces(7)), and not merely not now.
func forbids(err error) bool {
	for _, errno := range []unix.Errno{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EINVAL, unix.ENOSYS, unix.EUSERS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
