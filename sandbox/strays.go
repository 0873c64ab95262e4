package sandbox

import (
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// The numbers of the runtime's own two descriptors in a child. closeStrays
// frees 0 and 1, which are the lowest then, and warmUp makes the runtime
// open its epoll instance first and its event descriptor second.
const (
	fdRuntimePoll  = 0
	fdRuntimeEvent = 1
)

// closeStrays closes every descriptor that the role does not hold. What was
// inherited cannot have close-on-exec set, and what this process opened
// itself always has, so neither can pass for the other. (0 and 1 the parent
// leaves closed; the runtime puts /dev/null there without the flag, and it is
// a stray like any other.)
func (p *profile) closeStrays() error {
	open, err := openDescriptors()
	if err != nil {
		return err
	}
	for _, fd := range open {
		if p.holds(fd) {
			continue
		}
		if isRuntimePoller(fd) {
			return bug("the runtime's poller is descriptor %d already: a timer or an os.File was used before the cell", fd)
		}
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("close %d: %w", fd, err)
		}
	}
	for _, fd := range p.held() {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil {
			return fmt.Errorf("descriptor %d is missing: %w", fd, err)
		}
		if flags&unix.FD_CLOEXEC != 0 {
			return bug("descriptor %d was not inherited", fd)
		}
	}
	return nil
}

// openDescriptors lists the process's descriptors.
func openDescriptors() ([]int, error) {
	fds, dir, err := listNumbers("/proc/self/fd")
	return slices.DeleteFunc(fds, func(fd int) bool { return fd == dir }), err
}

// listNumbers reads a directory whose names are numbers, without package os,
// whose files would start the runtime's poller. dir is the descriptor that it
// used, and closed.
func listNumbers(path string) (numbers []int, dir int, err error) {
	dir, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("open %s: %w", path, err)
	}
	names, err := readNames(dir)
	if closeErr := unix.Close(dir); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, -1, fmt.Errorf("read %s: %w", path, err)
	}
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			return nil, -1, fmt.Errorf("%s has %q", path, name)
		}
		numbers = append(numbers, n)
	}
	return numbers, dir, nil
}

// readNames is all names in an open directory but "." and "..".
func readNames(dir int) (names []string, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// isRuntimePoller: closing the descriptors under the runtime's poller would
// leave every timer dead, or waking on somebody else's descriptor.
func isRuntimePoller(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		return false
	}
	var target [32]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), target[:])
	if err != nil {
		return false
	}
	kind := string(target[:n])
	return kind == "anon_inode:[eventpoll]" || kind == "anon_inode:[eventfd]"
}

// proveDescriptors requires that exactly the role's descriptors and the
// runtime's two are open. The limit on their number is in force, so no other
// can be beyond it but one that was there before; closeStrays saw those.
func (p *profile) proveDescriptors() error {
	for fd := range p.limit(unix.RLIMIT_NOFILE) {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		want := p.holds(int(fd)) || fd == fdRuntimePoll || fd == fdRuntimeEvent
		if open := err == nil; open != want {
			return fmt.Errorf("descriptor %d: open is %t, should be %t", fd, open, want)
		}
	}
	return nil
}
