package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// attempt is something that must be refused, and how.
type attempt struct {
	what string
	try  func() error
	want []unix.Errno
}

// attempts are one thing or more for each layer under the filter, harmless
// should they succeed, since the process ends then and its namespaces with it.
// In the parent's namespaces only attemptsAnywhere are refused, and harmless.
var (
	attempts = append([]attempt{
		{"root: open a file of the host", tryOpen("/etc/passwd"), []unix.Errno{unix.ENOENT, unix.EACCES}},
		{"capabilities: mount", func() error { return unix.Mount("", "/", "", privateFlags, "") }, []unix.Errno{unix.EPERM}},
		// EAFNOSUPPORT: the service's unit forbids the family altogether.
		{"network: a route to loopback", tryConnect, []unix.Errno{unix.ENETUNREACH, unix.EAFNOSUPPORT}},
	}, attemptsAnywhere...)

	attemptsAnywhere = []attempt{
		{"landlock: open the root", tryOpen("/"), []unix.Errno{unix.EACCES}},
		{"capabilities: a new network namespace", func() error { return unix.Unshare(unix.CLONE_NEWNET) }, []unix.Errno{unix.EPERM}},
	}
)

// proveCell tries them. It runs before the filter, which would kill the
// process at each of them.
func proveCell() error {
	if pid := unix.Getpid(); pid != 1 {
		return fmt.Errorf("pid namespace: this is process %d", pid)
	}
	return proveRefused(attempts)
}

func proveRefused(attempts []attempt) error {
	for _, a := range attempts {
		if err := a.check(a.try()); err != nil {
			return err
		}
	}
	return nil
}

func (a *attempt) check(err error) error {
	if err == nil {
		return fmt.Errorf("%s: succeeded", a.what)
	}
	for _, want := range a.want {
		if errors.Is(err, want) {
			return nil
		}
	}
	return fmt.Errorf("%s: refused for another reason: %w", a.what, err)
}

func tryOpen(path string) func() error {
	return func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}
}

// tryConnect asks for a route and sends nothing: connecting a UDP socket only
// writes its address down.
func tryConnect() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9})
	return errors.Join(err, unix.Close(fd))
}

// prove makes the canary call on every thread. Only the filter answers
// it with 0; a thread without the filter gets the kernel's answer, and the
// runtime throws when the threads disagree. Nothing else that reads the state
// of a thread is allowed from here on, so the parent looks from outside.
func (c canary) prove() error {
	r, err := onAllThreads(c.trap, canaryArgument, 0, 0, 0, 0)
	if err == nil && r != 0 {
		err = fmt.Errorf("no filter answers: the kernel does, with %d", r)
	}
	return err
}
