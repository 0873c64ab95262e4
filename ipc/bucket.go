package ipc

import "time"

// Bucket lets something happen PerSecond times a second in the long run and
// Burst times at once. It begins full. Burst must be 1 or more.
type Bucket struct {
	PerSecond, Burst int

	empty Instant // when it was, or would have been, empty last
}

// Take takes one out. It reports false if there is none, and then how long it
// takes until there is.
func (b *Bucket) Take(now Instant) (wait time.Duration, ok bool) {
	each := time.Second / time.Duration(b.PerSecond)
	// What has run in since it was empty, at most Burst.
	b.empty = max(b.empty, now.Add(-each*time.Duration(b.Burst)))
	if wait = b.empty.Add(each).Sub(now); wait > 0 {
		return wait, false
	}
	b.empty = b.empty.Add(each)
	return 0, true
}
