package main

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// guardedFD is the pidfd of the daemon, in the guard.
const guardedFD = 3

// guardMain waits for the end of the demo and then sees to it that the daemon
// ends too. The kernel's own way, a signal at the parent's death, is lost when
// the daemon changes its uid.
func guardMain([]string) error {
	if err := sayReady(); err != nil {
		return err
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		err := unix.PidfdSendSignal(guardedFD, signal, nil, 0)
		if errors.Is(err, unix.ESRCH) {
			return nil // it has ended, as it does when the demo ran to its end
		}
		if err != nil {
			return err
		}
		polled := []unix.PollFd{{Fd: guardedFD, Events: unix.POLLIN}}
		if n, err := unix.Poll(polled, int(3*time.Second/time.Millisecond)); n == 1 && err == nil {
			return nil
		}
	}
	return nil
}
