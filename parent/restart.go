package parent

import (
	"errors"
	"fmt"
	"io/fs"
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

// silentFor is how long a child that works may be silent before it is taken for
// dead: it hangs, or somebody has stopped it. checkEvery is how often that is looked
// at.
const (
	silentFor  = 2 * time.Second
	checkEvery = 250 * time.Millisecond
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
	case !startsAgain(c.role) || died.status.Exited() && died.status.ExitStatus() == exit.Unavailable:
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
	if c.wrong != nil {
		how = c.wrong.Error()
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

// accusations are what the holder says of neighbours.
var accusations = map[ipc.Signal]ipc.Role{
	ipc.SignalBrokeRequests:  ipc.RoleRequests,
	ipc.SignalBrokeResponses: ipc.RoleResponses,
	ipc.SignalBrokeTraffic:   ipc.RoleTraffic,
}

// accused ends a child that the holder has found to break the protocol. It need
// not be believed in this: a holder that lies only keeps itself from hearing, and
// one that does so without end is ended.
func (d *daemon) accused(holder *child, role ipc.Role) error {
	if d.accusations++; d.accusations > d.starts+len(accusations) {
		return d.endChild(holder, fmt.Errorf("%w: it accuses without end", errProtocol))
	}
	if c := d.tree.child(role); c.stage == working {
		return d.endChild(c, errors.New("broke the protocol, says the allowlist"))
	}
	return nil
}

// endChild ends a child for what it did wrong. What follows comes with its death.
func (d *daemon) endChild(c *child, wrong error) error {
	if c.dead || c.wrong != nil {
		return nil
	}
	c.wrong = wrong
	return c.kill()
}

// startAgain starts a role in the place of a child that is dead.
func (d *daemon) startAgain(old *child) error {
	if d.reload.holds(old.role) {
		d.reload.waiting = old
		return nil
	}
	next, err := d.tree.restart(old.role, d.target)
	if err != nil { // for lack of memory, perhaps: that may be over the next time
		d.log.Error("could not be started again", "role", string(old.role), "error", err.Error())
		d.deaths[old.role] = append(d.deaths[old.role], time.Now())
		if n := len(d.deaths[old.role]); n < maxDeaths {
			d.startLater(old, pauseAfter(n))
			return nil
		}
		return exit.Errorf(exit.Software, "%s could not be started again: %w", old.role, err)
	}
	d.starts++
	next.due = time.Now().Add(readyFor)
	d.tree.children[slices.Index(d.tree.children, old)] = next
	return d.tree.watch(next)
}

// restart starts a role with new edges. The ends of its neighbours are the
// child's until they have them.
func (t *tree) restart(role ipc.Role, log *logTarget) (*child, error) {
	var theirs []int
	var ends []edgeEnd
	files := map[int]int{}
	for i := range edges {
		e := &edges[i]
		if e.from != role && e.to != role {
			continue
		}
		from, to, err := e.open()
		if err != nil {
			return nil, errors.Join(err, closeAll(theirs, ends))
		}
		if e.to == role {
			from, to = to, from
		}
		other := e.to
		if e.to == role {
			other = e.from
		}
		files[e.fd], theirs, ends = from, append(theirs, from), append(ends, edgeEnd{other, e.fd, to})
	}
	var c *child
	err := t.starter.do(func() (err error) {
		c, err = t.spawn(role, files, log)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, closeAll(theirs, ends))
	}
	c.ends = ends
	return c, closeAll(theirs, nil)
}

func closeAll(fds []int, ends []edgeEnd) (err error) {
	for _, e := range ends {
		fds = append(fds, e.fd)
	}
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// comesUp takes what a child says that is starting again.
func (d *daemon) comesUp(c *child, said ipc.Signal) error {
	switch {
	case c.stage == building && said == ipc.SignalReady:
		switch err := d.tree.verify(c); {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
			return nil // it is gone, which is heard of next, and how
		case err != nil:
			return d.endChild(c, err)
		}
		c.stage, c.due = loading, time.Now().Add(loadFor)
		d.handOverEdges()
		d.send(c, d.policies[c.role])
	case c.stage == loading && said == ipc.SignalLoaded:
		c.stage = working
		c.heard.Store(int64(monotonic()))
		d.log.Info("started again", "role", string(c.role), "pid", c.pid)
		d.goOnReloading()
	default:
		return d.endChild(c, fmt.Errorf("%w: signal %d out of turn", errProtocol, said))
	}
	return nil
}

// handOverEdges gives neighbours the ends of edges to children that were started
// again. One whose control socket has no room now, as in a reload, gets them a
// little later; what is written to the other end waits in the socket.
func (d *daemon) handOverEdges() {
	for _, c := range d.tree.children {
		for len(c.ends) > 0 && c.stage != building {
			e := c.ends[0]
			to := d.tree.child(e.of)
			item := ipc.PolicyItem{Kind: ipc.PolicyEdge, Edge: uint32(e.number)}
			err := ipc.NewPolicySender(to.control).SendWith(&item, e.fd)
			if errors.Is(err, ipc.ErrWouldBlock) {
				return
			}
			if err != nil { // it is dying, which is heard of next
				d.log.Error("a new edge could not be handed over", "role", string(e.of), "error", err.Error())
			}
			unix.Close(e.fd)
			c.ends = c.ends[1:]
		}
	}
}

// child is the present one of a role.
func (t *tree) child(role ipc.Role) *child {
	i := slices.IndexFunc(t.children, func(c *child) bool { return c.role == role })
	return t.children[i]
}

// allWork reports whether no child is dead or starting.
func (t *tree) allWork() bool {
	return !slices.ContainsFunc(t.children, func(c *child) bool { return c.dead || c.stage != working })
}

// checkChildren ends those that take too long. A look that comes late itself
// says nothing: this process was stopped, or had no processor.
func (d *daemon) checkChildren() error {
	now, clock := time.Now(), monotonic()
	late := clock-d.checked > 4*checkEvery
	d.checked = clock
	for _, c := range d.tree.children {
		if late {
			c.heard.Store(int64(clock))
			continue
		}
		wrong := error(nil)
		switch silent := clock - time.Duration(c.heard.Load()); {
		case c.dead:
		case c.stage != working && now.After(c.due):
			wrong = errors.New("did not come up in time")
		case c.stage == working && silent > silentFor && !d.reload.loads(c.role):
			wrong = fmt.Errorf("silent for %v", silent.Round(checkEvery))
		}
		if wrong != nil {
			if err := d.endChild(c, wrong); err != nil {
				return err
			}
		}
	}
	return nil
}
