package parent

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// A child that has died is started again after a pause: firstPause, and twice
// as long for each further death of its role within deathsWithin, up to lastPause.
// The maxDeaths-th ends the tree.
const (
	firstPause   = 10 * time.Millisecond
	lastPause    = 5 * time.Second
	deathsWithin = time.Minute
	maxDeaths    = 10
)

// startsAgain reports whether a role can be started anew while the others work
// on. The holder cannot: all that is open is its knowledge. NB: all neighbours of
// the others are the holder.
func startsAgain(role ipc.Role) bool { return role != ipc.RoleAllowlist }

// fell goes on after the death of a child, or returns the error that ends the
// tree.
func (d *daemon) fell(c *child, died *death) error {
	c.dead = true
	how := d.mourn(c, died)
	now := time.Now()
	deaths := slices.DeleteFunc(d.deaths[c.role], func(at time.Time) bool { return now.Sub(at) > deathsWithin })
	d.deaths[c.role] = append(deaths, now)
	switch n := len(d.deaths[c.role]); {
	case !startsAgain(c.role) || c.stage == building && died.status.Exited() && died.status.ExitStatus() == exit.Unavailable:
		if c.wrong != nil {
			return exit.Errorf(exit.Software, "%s (pid %d): %w", c.role, c.pid, c.wrong)
		}
		return deathError(c, died, how)
	case n >= maxDeaths:
		return exit.Errorf(exit.Software, "%s (pid %d) died for the %dth time within %v: %s", c.role, c.pid, n, deathsWithin, how)
	default:
		c.release()
		if err := d.tree.dropHeld(c.role); err != nil {
			return exit.Errorf(exit.Software, "%s: what it left: %w", c.role, err)
		}
		d.startLater(c, pauseAfter(n))
		if d.reload.lost(c.role) {
			return d.reloaded()
		}
	}
	return nil
}

// pauseAfter is how long a role is not started after so many deaths.
func pauseAfter(deaths int) time.Duration {
	return min(firstPause<<min(deaths-1, 20), lastPause)
}

func (d *daemon) startLater(c *child, pause time.Duration) {
	d.log.Warn("will be started again", "role", string(c.role), "in", pause.String(), "deaths", len(d.deaths[c.role]))
	time.AfterFunc(pause, func() { d.tree.events <- event{child: c, again: true} })
}

// mourn writes down how a child died.
func (d *daemon) mourn(c *child, died *death) (how string) {
	how = died.how(c.pid, d.kernel)
	switch {
	case c.wrong != nil && died.status.Signaled() && died.status.Signal() == unix.SIGKILL:
		how = c.wrong.Error()
	case c.wrong != nil: // it died of something else before it was ended
		how = c.wrong.Error() + "; " + how
	}
	d.log.Error("died", "role", string(c.role), "pid", c.pid, "how", how)
	for _, line := range died.lines() {
		d.log.Error("last words", "role", string(c.role), "line", line)
	}
	return how
}

// dropHeld drops all that the kernel holds of the queues that a role reads.
// Who read it can decide no more, and its successor will never see it.
func (t *tree) dropHeld(role ipc.Role) error {
	var errs []error
	for _, q := range t.queues {
		if slices.Contains(readKinds[role], q.Kind) {
			errs = append(errs, q.dropHeld())
		}
	}
	return errors.Join(errs...)
}
