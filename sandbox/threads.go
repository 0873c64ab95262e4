package sandbox

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// onAllThreads makes one system call on every thread of the process. The
// runtime stops the world for it and throws (exit 2) if a later thread gets
// another result than the first, so one result speaks for all; threads made
// afterwards inherit what theirs has. An error comes from the first thread,
// and then the others have not made the call.
//
// It works after the seccomp filter too: the runtime needs tgkill within the
// process and nothing else that it does not need anyway.
func onAllThreads(trap, a1, a2, a3, a4, a5 uintptr) (uintptr, error) {
	r, _, errno := syscall.AllThreadsSyscall6(trap, a1, a2, a3, a4, a5, 0)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// prctlOnAllThreads is prctl(2) on every thread.
func prctlOnAllThreads(option, a2, a3 uintptr) (uintptr, error) {
	return onAllThreads(unix.SYS_PRCTL, option, a2, a3, 0, 0)
}

// dieWithParent repeats for every thread what ChildAttr asked for, since an
// exec that gains privileges clears it silently.
func dieWithParent() error {
	_, err := prctlOnAllThreads(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
	return err
}

func noNewPrivs() error {
	_, err := prctlOnAllThreads(unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	return err
}

// proveNoNewPrivs reads no_new_privs back on every thread.
func proveNoNewPrivs() error {
	r, err := prctlOnAllThreads(unix.PR_GET_NO_NEW_PRIVS, 0, 0)
	if err == nil && r != 1 {
		err = fmt.Errorf("no_new_privs reads back as %d", r)
	}
	return err
}

// SetDumpable makes the process dumpable or not. A parent that is not root
// must be dumpable while it starts a child, else the kernel refuses it the
// child's uid_map (proc(5)); the rest of the time it must not be, so that
// nobody of the same uid can look into it or trace it. A child's own list forbids
// the change; the parent's cannot, since it starts children under it.
//
// NB: of the parent only. A process of the same uid outside owns a child's
// user namespace and so has every capability in it, which counts for more than
// the child's not being dumpable: nobody else may run as the daemon's uid.
func SetDumpable(on bool) error {
	value := uintptr(0)
	if on {
		value = 1
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, value, 0, 0, 0); err != nil {
		return fmt.Errorf("dumpable: %w", err)
	}
	return nil
}
