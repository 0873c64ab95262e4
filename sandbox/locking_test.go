package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// locking is when a parent closes its cell. Children are under whatever list it
// has then.
type locking int

const (
	// lockFirst is the order of the real tree: before any child is started.
	lockFirst locking = iota
	// lockOpen is the same, but the list allows everything. No call of a child is
	// killed by what it inherits, so what it dies of stands in its own list.
	lockOpen
	lockLast // when all are started, who then inherit nothing
	lockNone
)

// lock is LockParent, or what else is to be done now.
func (p *parentPlan) lock(now ...locking) error {
	if !slices.Contains(now, p.Lock) {
		return nil
	}
	cell := parentCell(p.Lookups)
	switch {
	case p.Flawed: // the list was there before
	case p.Lock == lockOpen:
		cell = append(cell, threads("seccomp", allowEverything))
	default:
		return LockParent(p.Lookups, p.In)
	}
	return run(cell, parentFault)
}

func allowEverything() error {
	return loadRaw([]unix.SockFilter{{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}})
}
