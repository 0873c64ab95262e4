package child

import (
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// aliveDue is when the parent is told again that this process takes its turns.
// One that hangs, or that somebody has stopped, says nothing, and is ended.
var aliveDue ipc.Instant

// Alive says it when it is due, and returns how long it may be until the next
// time. The loop calls it; a Worker does where its neighbour decides how long it
// takes.
func Alive(now ipc.Instant) (time.Duration, error) {
	if now >= aliveDue {
		aliveDue = now.Add(ipc.AliveEvery)
		if err := Tell(ipc.SignalAlive); err != nil {
			return 0, err
		}
	}
	return aliveDue.Sub(now), nil
}
