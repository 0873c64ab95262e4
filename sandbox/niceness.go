package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A child's niceness is so much above that of its parent's main thread, and at
// most the greatest there is (nice(2)): so that a runaway child starves neither
// the parent, which carries verdicts there, nor, for long, the host.
const (
	behind  = 5
	nicest  = 19
	noNices = 20 // the system call returns this less the niceness
)

// StandBehind puts the calling thread so far behind the main one that children
// which it starts are where they have to be, and can never leave: a child
// inherits the niceness of the thread that starts it. Where a service manager has
// put the main thread before all others (Nice= and CPUSchedulingResetOnFork=) it
// finds nothing to do and makes no system call that changes anything, so that
// none has to be allowed. NB: the caller must be locked to its thread.
func StandBehind() error {
	first, err := niceness(os.Getpid())
	if err != nil {
		return fmt.Errorf("niceness: %w", err)
	}
	own, err := niceness(0)
	if err != nil {
		return fmt.Errorf("niceness: %w", err)
	}
	if least := leastNiceness(first); own < least {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, least); err != nil {
			return fmt.Errorf("niceness %d: %w", least, err)
		}
	}
	return nil
}

// leastNiceness is what every thread of a child has to have at least, whose
// parent's main thread has that.
func leastNiceness(first int) int { return min(first+behind, nicest) }

// niceness is that of a thread, 0 for the calling one.
func niceness(tid int) (int, error) {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, tid) // which means a thread here
	return noNices - n, err
}
