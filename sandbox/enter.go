package sandbox

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// Enter builds the cell of the calling process, which the parent has just
// started with ChildAttr, as isolated, and proves it. queues is the number of queue
// sockets it holds, from ipc.FDQueues on. Nothing may run before it that
// opens a file through package os or starts a timer: the Go runtime would put
// its poller on a number that belongs to somebody else.
//
// When it returns nil the process has exactly the descriptors of its role and
// the runtime's two, and may make exactly the system calls of its profile.
// When it returns an error the process is in an undefined state between two
// steps and must exit. The error is an *exit.Error that names the step: code
// 69 when the kernel lacks the mechanism, 70 else.
func Enter(role ipc.Role, queues int, in Isolation) error {
	p, err := profileIn(in, role, queues)
	if err != nil {
		return exit.Errorf(exit.Software, "profile: %w", err)
	}
	cell := p.cell()
	if in == Shared {
		cell = p.sharedCell()
	}
	return run(append(cell, p.lock()...), childFault)
}

// cell is everything but the filter. Capabilities are needed down to the line
// that gives them away, and other orders fail with EPERM.
func (p *profile) cell() []step {
	return []step{
		plain("pid namespace", firstProcess), // NB: before anything is mounted
		plain("user namespace", ownUserNamespace),
		plain("processors", pinProcessors),
		plain("descriptors", p.closeStrays),
		plain("environment", clearEnvironment),
		plain(stepMounts, privateMounts),
		plain("empty root", mountEmptyRoot),
		plain("pivot_root", pivotRoot),
		plain("old root", detachOldRoot),
		plain("rlimits", p.setLimits),
		threads("death signal", dieWithParent),
		threads("landlock", denyAllOnAllThreads),
		threads("bounding set", dropBoundingSet),
		threads("ambient set", clearAmbientSet),
		threads("securebits", lockSecurebits),
		threads("capset", func() error { return setCapabilities(0) }),
		threads("no_new_privs", noNewPrivs),
		plain("dumpable", func() error { return SetDumpable(false) }),
		plain("warm-up", warmUp),
		plain("self-test: descriptors", p.proveDescriptors),
		threads("self-test: capabilities", proveNoCapability),
		threads("self-test: no_new_privs", proveNoNewPrivs),
		threads("self-test: cell", proveCell),
	}
}

// sharedCell is what is left of it in the parent's namespaces, where no
// capability can be had: no root of its own, no pid and network namespace.
// What it was born with besides (bounding set, securebits) takes a capability
// to change, and gives none back under no_new_privs.
func (p *profile) sharedCell() []step {
	return []step{
		plain("processors", pinProcessors),
		plain("descriptors", p.closeStrays),
		plain("environment", clearEnvironment),
		plain("rlimits", p.setLimits),
		threads("death signal", dieWithParent),
		threads("no_new_privs", noNewPrivs), // NB: before landlock, which needs it or a capability
		threads("ambient set", clearAmbientSet),
		threads("capset", func() error { return setCapabilities(0) }),
		threads("self-test: capabilities", proveListedThreads), // NB: before landlock, which hides /proc
		threads("landlock", denyAllOnAllThreads),
		plain("dumpable", func() error { return SetDumpable(false) }),
		plain("warm-up", warmUp),
		plain("self-test: descriptors", p.proveDescriptors),
		threads("self-test: no_new_privs", proveNoNewPrivs),
		threads("self-test: cell", func() error { return proveRefused(attemptsAnywhere) }),
	}
}

// lock is the filter, and the proof that every thread is under it.
func (p *profile) lock() []step {
	return []step{
		threads("seccomp", func() error { return loadFilter(p.rules) }),
		threads("self-test: seccomp", childCanary.prove),
	}
}

// firstProcess refuses to build a cell out of the host: a role that somebody
// starts by hand, as root, would put the empty root over everybody's.
func firstProcess() error {
	if pid := os.Getpid(); pid != 1 {
		return bug("process %d of its pid namespace: only the parent starts this", pid)
	}
	return nil
}

// ownUserNamespace refuses the same to who is the first process somewhere, but
// in the host's mounts: only where the parent has mapped one id, and not to 0,
// are mounts the cell's own (ChildAttr).
func ownUserNamespace() error {
	fd, err := unix.Open("/proc/self/uid_map", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("uid_map: %w", err)
	}
	var text [512]byte
	n, err := unix.Read(fd, text[:])
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("uid_map: %w", err)
	}
	if f := strings.Fields(string(text[:n])); len(f) != 3 || f[0] == "0" || f[2] != "1" {
		return bug("uid map %q: only the parent starts this", text[:n])
	}
	return nil
}

// clearEnvironment drops what the parent should not have passed at all.
func clearEnvironment() error {
	os.Clearenv()
	if n := len(os.Environ()); n != 0 {
		return fmt.Errorf("%d variables are left", n)
	}
	return nil
}
