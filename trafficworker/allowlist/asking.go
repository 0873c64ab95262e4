package allowlist

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// lookAgain is how long the holder waits at most while the daemon has something
// to ask. A wait stands still with a machine that sleeps, and Instants do not:
// what has run out meanwhile must be asked for soon after.
const lookAgain = 10 * time.Second

// Tick has asked what the daemon asks for itself, when it is due.
func (h *holder) Tick() (time.Duration, error) {
	if !h.engine.AsksItself() {
		return ipc.Forever, nil
	}
	now := ipc.Now()
	next := h.engine.Due(now)
	if err := h.passOn(); err != nil {
		return 0, err
	}
	return max(0, min(next.Sub(now), lookAgain)), nil
}

// unknownAddress takes one from the trafficworker.
func (h *holder) unknownAddress(now ipc.Instant) error {
	u, err := h.unknown.Recv()
	if err == nil {
		err = h.engine.Unknown(now, u)
	}
	return broken(err)
}

// passOn tells the trafficworker and the resolver what has come up. Neither is
// waited for: what finds no room is over by itself, when its time is up.
func (h *holder) passOn() error {
	l := h.engine.Lookups()
	for i := range l.Settled {
		if len(h.owed) > 0 { // the change of policy that is being told says it all
			break
		}
		if err := h.grants.Send(&l.Settled[i]); !sentOrLost(err) {
			return fmt.Errorf("settling addresses: %w", err)
		}
	}
	for i := range l.Ask {
		if err := h.lookups.Send(&l.Ask[i]); !sentOrLost(err) {
			return fmt.Errorf("asking: %w", err)
		}
	}
	for _, f := range l.Failed {
		h.log.Warn("no answer about a name of cachedHostnames", "name", f.Name.String(), "type", ipc.TypeName(f.Type), "again_in", f.Again.String())
		if f.Unseen && !h.hinted {
			h.hinted = true
			h.log.Warn("no DNS request of the daemon itself has come to selfDNSQueue: it could not send any (see above), or no rule sends there what has the mark selfMark, by UDP and TCP")
		}
	}
	return nil
}

// sentOrLost reports whether a message was sent, or found no room or nobody to read it.
func sentOrLost(err error) bool {
	return err == nil || errors.Is(err, ipc.ErrWouldBlock) || errors.Is(err, unix.EPIPE)
}
