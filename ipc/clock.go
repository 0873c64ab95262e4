package ipc

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Instant is CLOCK_BOOTTIME in nanoseconds: it never jumps with the wall
// clock, goes on while the machine sleeps, means the same in every process,
// and survives gob, which drops the monotonic part of a time.Time. Zero is
// the boot and never a valid expiry.
type Instant int64

// Now is the present instant. One system call: take it once a batch.
func Now() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Without a clock nothing can expire, so nothing may live.
		panic("bug: CLOCK_BOOTTIME: " + err.Error())
	}
	return Instant(ts.Nano())
}

// Add is the instant d after t, or the last one there is: an end must not wrap
// round into the past.
func (t Instant) Add(d time.Duration) Instant {
	if d > 0 && t > math.MaxInt64-Instant(d) {
		return math.MaxInt64
	}
	return t + Instant(d)
}

// Sub is the time from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }
