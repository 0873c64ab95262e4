package allowlist

import (
	"maps"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Counts is what an engine holds and has decided since it was made.
type Counts struct {
	// Entries held now, those that have ended and were not yet taken back
	// included.
	Pending, Learnt, Grants int
	// Learnt names and grants that had to make room at a bound.
	LearntEvicted, GrantsEvicted uint64
	// Messages accepted, and TCP segments that complete none.
	Requests, Responses, Segments uint64
	// Packets dropped, by reason.
	Drops map[ipc.Reason]uint64
	// Special is the number of addresses that an accepted response held and
	// that were refused, LeftOut that of names no fact had room for.
	Special, LeftOut uint64
}

// Counts is a copy of the counters.
func (e *Engine) Counts() Counts {
	c := e.counts
	c.Pending, c.Learnt, c.Grants = e.pending.len, e.learnt.Len(), e.grants.Len()
	c.LearntEvicted, c.GrantsEvicted = e.learnt.Evicted(), e.grants.Evicted()
	c.Drops = maps.Clone(c.Drops)
	return c
}
