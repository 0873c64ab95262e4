package ipc

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller waits on all descriptors of a child in one place: one goroutine
// judges, so nothing that one descriptor has said can be in flight while
// another is acted on.
type Poller struct {
	events [64]unix.EpollEvent
	ready  []Event
}

// Event is a descriptor that can be read. Ended: its peer is gone, and what
// can be read still is the last of it.
type Event struct {
	FD    int
	Ended bool
}

// NewPoller makes the child's epoll instance at FDPoll.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if fd != FDPoll {
		if err := unix.Dup3(fd, FDPoll, unix.O_CLOEXEC); err != nil {
			return nil, fmt.Errorf("dup3: %w", err)
		}
		if err := unix.Close(fd); err != nil {
			return nil, fmt.Errorf("close: %w", err)
		}
	}
	return &Poller{}, nil
}

// Add makes Wait report fd while it can be read, or its peer is gone.
func (p *Poller) Add(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(FDPoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Remove makes Wait forget fd.
func (p *Poller) Remove(fd int) error { return Forget(fd) }

// Watch is Add for a worker, which has no Poller: it makes Wait report fd while
// it can be read, or its peer is gone, and for nothing else.
func Watch(fd int) error { return await(fd, unix.EPOLLIN) }

// AwaitRoom makes Wait report once that fd can be written to, or its peer is
// gone. It is for an end that is not waited on otherwise meanwhile.
func AwaitRoom(fd int) error { return await(fd, unix.EPOLLOUT|unix.EPOLLONESHOT) }

func await(fd int, events uint32) error {
	// Taken out and put in again: no list allows more of epoll_ctl.
	if err := unix.EpollCtl(FDPoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil && err != unix.ENOENT {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(FDPoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Forget makes Wait forget fd. An event of it may have been reported already.
// NB: before fd is closed. The close alone forgets only what nobody else holds.
func Forget(fd int) error {
	if err := unix.EpollCtl(FDPoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Forever is a limit for Wait that is none.
const Forever time.Duration = -1

// Wait blocks until at least one descriptor is ready, or limit has passed; it
// may return early with none. The result is valid until the next call.
func (p *Poller) Wait(limit time.Duration) ([]Event, error) {
	timeout := ^uintptr(0)
	if limit >= 0 { // rounded up: at the end of it what was waited for is due
		timeout = uintptr(min(limit, time.Hour)+time.Millisecond-1) / uintptr(time.Millisecond)
	}
	// epoll_pwait is what the Go runtime calls itself, so this needs no
	// further name in a child's list; the wrapper in x/sys uses epoll_wait.
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, FDPoll,
		uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), timeout, 0, 0)
	p.ready = p.ready[:0]
	if errno == unix.EINTR {
		return p.ready, nil
	}
	if errno != 0 {
		return nil, fmt.Errorf("epoll_pwait: %w", errno)
	}
	for _, ev := range p.events[:n] {
		p.ready = append(p.ready, Event{int(ev.Fd), ev.Events&unix.EPOLLHUP != 0})
	}
	return p.ready, nil
}
