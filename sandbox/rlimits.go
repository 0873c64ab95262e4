package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// limit is one resource limit, soft and hard alike.
type limit struct {
	resource int
	value    uint64
	reason   string
}

// setLimits applies the limits of the role. They hold for the process, not
// for a thread, and without CAP_SYS_RESOURCE nothing raises them again.
func (p *profile) setLimits() error {
	for _, l := range p.limits {
		if RaceBuild && l.resource == unix.RLIMIT_DATA {
			continue // the detector's shadow memory counts as data
		}
		if err := unix.Prlimit(0, l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}, nil); err != nil {
			return fmt.Errorf("resource %d (%s): %w", l.resource, l.reason, err)
		}
	}
	return nil
}

// limit is the value of one resource limit, 0 if the role has none.
func (p *profile) limit(resource int) uint64 {
	for _, l := range p.limits {
		if l.resource == resource {
			return l.value
		}
	}
	return 0
}
