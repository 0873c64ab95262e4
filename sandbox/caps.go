package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// securebits: being uid 0 or changing uid never gives or takes capabilities,
// keep-caps is off, nothing can be raised into the ambient set, and all of it
// is locked. (SECBIT_NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, each with
// its lock, and the lock of KEEP_CAPS: include/uapi/linux/securebits.h.)
const securebits = 0xef

// highestThread bounds the search for threads in a young pid namespace, where
// numbers start at 1 and none is used twice.
const highestThread = 1024

// eachCapability calls f with every capability the kernel knows. Their number
// is not fixed: the kernel answers EINVAL for the first it does not know.
func eachCapability(f func(capability uintptr) error) error {
	for c := uintptr(0); c < 64; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == unix.EINVAL {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(c); err != nil {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	return nil
}

// dropBoundingSet empties the bounding set, so that no exec can ever gain
// anything. It needs CAP_SETPCAP. (A process that makes a user namespace gets
// a full set in it, whatever its parent's was: the parent may empty its own
// and still start children that build cells.)
func dropBoundingSet() error {
	return eachCapability(func(c uintptr) error {
		_, err := prctlOnAllThreads(unix.PR_CAPBSET_DROP, c, 0)
		return err
	})
}

func clearAmbientSet() error {
	_, err := prctlOnAllThreads(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	return err
}

func lockSecurebits() error {
	_, err := prctlOnAllThreads(unix.PR_SET_SECUREBITS, securebits, 0)
	return err
}

// setCapabilities makes keep the permitted and the effective set of every
// thread and empties the inheritable one, and with it the ambient one.
func setCapabilities(keep uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)},
		{Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	}
	_, err := onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0, 0, 0)
	return err
}

// capabilities are the three sets of one thread.
type capabilities struct {
	effective, permitted, inheritable uint64
}

// capabilitiesOf reads the sets of one thread of this pid namespace, 0 for
// the calling one. A number without a thread is ESRCH.
func capabilitiesOf(thread int) (capabilities, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(thread)}
	var d [2]unix.CapUserData
	if err := unix.Capget(&header, &d[0]); err != nil {
		return capabilities{}, err
	}
	return capabilities{
		effective:   uint64(d[0].Effective) | uint64(d[1].Effective)<<32,
		permitted:   uint64(d[0].Permitted) | uint64(d[1].Permitted)<<32,
		inheritable: uint64(d[0].Inheritable) | uint64(d[1].Inheritable)<<32,
	}, nil
}

// proveNoCapability reads the sets and the securebits of every thread back.
// Where prctl answers with a number, the runtime compares the threads; capget
// answers into memory, so each thread is asked for by its number. The ambient
// set is within the permitted and the inheritable one at all times
// (capabilities(7)), so it is empty when they are.
func proveNoCapability() error {
	threads := make([]int, highestThread)
	for i := range threads {
		threads[i] = i + 1
	}
	if err := proveThreads(threads); err != nil {
		return err
	}
	bits, err := prctlOnAllThreads(unix.PR_GET_SECUREBITS, 0, 0)
	if err != nil {
		return err
	}
	if bits != securebits {
		return fmt.Errorf("securebits read back as %#x", bits)
	}
	return eachCapability(proveGone)
}

// proveThreads: none of these threads, of which some exist, has a capability.
func proveThreads(threads []int) error {
	found := 0
	for _, thread := range threads {
		c, err := capabilitiesOf(thread)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		if c != (capabilities{}) {
			return fmt.Errorf("thread %d still has %+v", thread, c)
		}
		found++
	}
	if found == 0 {
		return errors.New("no thread found")
	}
	return nil
}

// proveListedThreads is for a process that shares its pid namespace, where
// numbers tell nothing: /proc lists its threads.
func proveListedThreads() error {
	threads, _, err := listNumbers("/proc/self/task")
	if err != nil {
		return err
	}
	return proveThreads(threads)
}

// proveGone: a capability is in the bounding set of no thread.
func proveGone(c uintptr) error {
	r, err := prctlOnAllThreads(unix.PR_CAPBSET_READ, c, 0)
	if err == nil && r != 0 {
		err = errors.New("still in the bounding set")
	}
	return err
}
