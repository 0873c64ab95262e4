package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// landlockFloor is the oldest Landlock that a child runs under: the first, of
// Linux 5.13. Newer versions know more rights, which are denied where they
// exist; where they do not, the empty root and network namespace and the
// seccomp list stand alone against them.
const landlockFloor = 1

// landlockAttr is struct landlock_ruleset_attr. Older kernels know only its
// first member or its first two, and are given a shorter size.
type landlockAttr struct {
	fs, net, scoped uint64
}

// The lengths of it that kernels from these ABIs on know.
const (
	landlockSizeV1 = 8
	landlockSizeV4 = 16
	landlockSizeV6 = 24
)

// Kernel constants of include/uapi/linux/landlock.h that depend on the ABI.
const (
	landlockFSv1  = 1<<13 - 1 // LANDLOCK_ACCESS_FS_EXECUTE .. MAKE_SYM
	landlockFSv2  = 1<<14 - 1 // .. REFER
	landlockFSv3  = 1<<15 - 1 // .. TRUNCATE
	landlockFSv5  = 1<<16 - 1 // .. IOCTL_DEV
	landlockNetV4 = 1<<2 - 1  // LANDLOCK_ACCESS_NET_BIND_TCP, CONNECT_TCP

	landlockConnect = 1 << 1 // LANDLOCK_ACCESS_NET_CONNECT_TCP
	landlockNetPort = 2      // LANDLOCK_RULE_NET_PORT

	landlockScopeAbstract = 1 << 0 // LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, ABI 6
	landlockScopeSignal   = 1 << 1 // LANDLOCK_SCOPE_SIGNAL, ABI 6

	landlockQueryVersion = 1 << 0 // LANDLOCK_CREATE_RULESET_VERSION
	landlockQueryErrata  = 1 << 1 // LANDLOCK_CREATE_RULESET_ERRATA, Linux 6.15

	// landlockErratumSignal is erratum 2 (security/landlock/errata/abi-6.h):
	// before its fix a thread may not signal another of its own process that
	// has a domain of its own, as each of ours has, and the Go runtime could
	// then neither preempt nor reach its other threads.
	landlockErratumSignal = 1 << 1
)

// denyAll is every right that a kernel of that ABI can deny, and no rule that
// allows anything. size is the length of the structure that it knows.
func denyAll(abi, errata int) (attr landlockAttr, size uintptr) {
	attr.fs, size = landlockFSv1, landlockSizeV1
	switch {
	case abi >= 5:
		attr.fs = landlockFSv5
	case abi >= 3:
		attr.fs = landlockFSv3
	case abi >= 2:
		attr.fs = landlockFSv2
	}
	if abi >= 4 {
		attr.net, size = landlockNetV4, landlockSizeV4
	}
	if abi >= 6 {
		attr.scoped, size = landlockScopeAbstract, landlockSizeV6
		if errata&landlockErratumSignal != 0 {
			attr.scoped |= landlockScopeSignal
		}
	}
	return attr, size
}

// denyNetwork is what the parent lives under: TCP and abstract sockets.
// Never a file-system right: a domain that handles any one of them forbids
// mount(2) to every process started from it, so no child could build its
// empty root. Nor the signal scope: its children live in other domains, and
// it could not end them.
func denyNetwork(abi, errata int) (attr landlockAttr, size uintptr) {
	attr, size = denyAll(abi, errata)
	attr.fs, attr.scoped = 0, attr.scoped&^landlockScopeSignal
	return attr, size
}

// dnsPort is where every DNS server listens that a configuration can name.
const dnsPort = 53

// landlockPort is struct landlock_net_port_attr.
type landlockPort struct {
	allowed, port uint64
}

// permitted are the exceptions for a parent that makes the resolver's sockets.
// Below ABI 4 it is denied no port that one could be made for.
func permitted(attr landlockAttr, lookups bool) []landlockPort {
	if !lookups || attr.net&landlockConnect == 0 {
		return nil
	}
	return []landlockPort{{landlockConnect, dnsPort}}
}

func denyAllOnAllThreads() error {
	abi, errata, err := landlockVersion()
	if err != nil {
		return err
	}
	attr, size := denyAll(abi, errata)
	return restrict(attr, size)
}

func denyNetworkOnAllThreads(lookups bool) error {
	abi, errata, err := landlockVersion()
	if err != nil {
		return err
	}
	attr, size := denyNetwork(abi, errata)
	if attr == (landlockAttr{}) {
		return nil // below ABI 4 there is nothing but files
	}
	return restrict(attr, size, permitted(attr, lookups)...)
}

// landlockVersion asks the kernel. A kernel without Landlock answers ENOSYS,
// one that was booted without it EOPNOTSUPP.
func landlockVersion() (abi, errata int, err error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, landlockQueryVersion)
	if errno != 0 {
		return 0, 0, fmt.Errorf("%w: %w", errLacks, errno)
	}
	if v < landlockFloor {
		return 0, 0, fmt.Errorf("%w: it has ABI %d, %d is needed", errLacks, v, landlockFloor)
	}
	e, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, landlockQueryErrata)
	if errno != 0 {
		e = 0 // too old to know what was fixed in it
	}
	return int(v), int(e), nil
}

// restrict puts every thread into a domain of its own with the same rules: all
// of attr is denied but for the ports. It needs CAP_SYS_ADMIN in the own user
// namespace or no_new_privs.
func restrict(attr landlockAttr, size uintptr, ports ...landlockPort) error {
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("create: %w", errno)
	}
	for _, port := range ports {
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, landlockNetPort, uintptr(unsafe.Pointer(&port)), 0, 0, 0); errno != 0 {
			return fmt.Errorf("port %d: %w", port.port, errno)
		}
	}
	if _, err := onAllThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("restrict: %w", err)
	}
	return unix.Close(int(fd))
}
